//! The pages of one column of one row group, let through to the Parquet library's decoders when they take no more
//! memory than allowed.
//!
//! The library allocates what a page header asks for, up to 2 GiB for a page and 64 GiB for a dictionary, before it has
//! seen a byte of it; this looks at the header first. And for strings it takes the encodings of which the memory can be
//! told beforehand, plain and dictionary, which is what writers use unless asked otherwise: a few bytes of a delta
//! encoding may stand for any number of values.

use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::sync::Arc;

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::SerializedPageReader;

use super::thrift::page_size;

/// How many values a dictionary may have; one takes 32 bytes beside the page.
const DICTIONARY_LIMIT: u32 = 1 << 22;

/// Pages, each looked at before it is read.
pub(super) struct Pages {
    inner: SerializedPageReader<File>,
    file: Arc<File>,
    /// Where the next page header is.
    at: u64,
    /// Where the column ends.
    end: u64,
    max_page_bytes: u64,
    has_dictionary: bool,
}

impl Pages {
    /// The pages of `chunk`, a column of a row group of `rows` rows in a file of `len` bytes.
    pub(super) fn new(
        file: &Arc<File>,
        len: u64,
        chunk: &ColumnChunkMetaData,
        rows: usize,
        max_page_bytes: u64,
    ) -> Result<Self> {
        let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
        // The library asserts that these are not negative.
        let (Ok(at), Ok(size)) = (u64::try_from(start), u64::try_from(chunk.compressed_size())) else {
            return Err(refused("a column begins or ends before the file does".to_owned()));
        };
        let end = at.checked_add(size).filter(|end| *end <= len).ok_or_else(|| {
            refused(format!("a column of {size} bytes at {at} ends after the file, which has {len} bytes"))
        })?;
        let inner = SerializedPageReader::new(Arc::clone(file), chunk, rows, None)?;
        Ok(Self { inner, file: Arc::clone(file), at, end, max_page_bytes, has_dictionary: false })
    }

    /// Goes past the next page that is no index, as the library will.
    fn look_ahead(&mut self) -> Result<()> {
        while self.at < self.end {
            let mut file = self.file.try_clone()?;
            file.seek(SeekFrom::Start(self.at))?;
            let size = page_size(BufReader::new(file))?;
            let largest = size.uncompressed.max(size.compressed);
            if largest > self.max_page_bytes {
                return Err(refused(format!(
                    "a page of {largest} bytes, more than the {} allowed; write the file with smaller pages or \
                     row groups, or raise the limit",
                    self.max_page_bytes
                )));
            }
            self.at = self.at.saturating_add(size.header).saturating_add(size.compressed);
            if !size.is_index {
                break;
            }
        }
        Ok(())
    }

    fn check(&mut self, page: &Page) -> Result<()> {
        if let Page::DictionaryPage { num_values, .. } = page {
            self.has_dictionary = true;
            if *num_values > DICTIONARY_LIMIT {
                return Err(refused(format!(
                    "a dictionary of {num_values} values, more than the {DICTIONARY_LIMIT} allowed; write the column \
                     without a dictionary"
                )));
            }
            return Ok(());
        }
        match page.encoding() {
            Encoding::PLAIN => Ok(()),
            #[allow(deprecated, reason = "old writers still use its name for the dictionary encoding")]
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY if self.has_dictionary => Ok(()),
            #[allow(deprecated, reason = "old writers still use its name for the dictionary encoding")]
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
                Err(refused("a page refers to a dictionary there is not".to_owned()))
            }
            other => Err(refused(format!(
                "strings in the encoding {other}, which is not supported; write them PLAIN or with a dictionary"
            ))),
        }
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.look_ahead()?;
        let page = self.inner.get_next_page()?;
        if let Some(page) = &page {
            self.check(page)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        Err(refused("pages are read one after the other".to_owned()))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        Err(refused("pages are read one after the other".to_owned()))
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

pub(super) fn refused(why: String) -> ParquetError {
    ParquetError::General(why)
}
