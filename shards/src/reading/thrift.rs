//! A look at Thrift's compact encoding before the Parquet library decodes it: how deep a footer's schema nests and how
//! large a page says it is. The library takes these numbers at their word, recursing that deep and allocating that
//! much.
//!
//! Source: the Thrift compact protocol specification, and `parquet.thrift` of the Parquet format for the field numbers.

use std::io::{self, Read};

/// How deep a schema may nest.
pub(super) const DEEPEST: usize = 32;

/// Types of the compact encoding.
const I32: u8 = 5;
const BINARY: u8 = 8;
const STRUCT: u8 = 12;

/// What a page header says of its page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PageSize {
    /// Whether it is an index, which readers pass over.
    pub(super) is_index: bool,
    /// The bytes of the header itself.
    pub(super) header: u64,
    /// The bytes of the page.
    pub(super) uncompressed: u64,
    /// The bytes of the page in the file.
    pub(super) compressed: u64,
}

/// The page header that `input` is at.
pub(super) fn page_size(input: impl Read) -> io::Result<PageSize> {
    const INDEX_PAGE: u64 = 1;
    let mut scan = Scan { input, read: 0 };
    // The type of the page, its size and its size in the file, the first three fields of a header.
    let mut numbers = [None; 3];
    let mut id = 0;
    while let Some(kind) = scan.field(&mut id)? {
        let number = usize::try_from(id).ok().and_then(|id| numbers.get_mut(id.checked_sub(1)?));
        match (number, kind) {
            (Some(number @ None), I32) => *number = Some(scan.size()?),
            (Some(_), _) => return Err(odd("a page header with a size twice or a size that is no number")),
            (None, _) => scan.skip(kind, DEEPEST)?,
        }
    }
    let [Some(kind), Some(uncompressed), Some(compressed)] = numbers else {
        return Err(odd("a page header without sizes"));
    };
    Ok(PageSize { is_index: kind == INDEX_PAGE, header: scan.read, uncompressed, compressed })
}

/// Refuses a footer whose schema nests deeper than [`DEEPEST`] or is no single tree.
pub(super) fn check_footer(footer: &[u8]) -> io::Result<()> {
    const SCHEMA: i16 = 2;
    const LIST: u8 = 9;
    let mut scan = Scan { input: footer, read: 0 };
    let mut id = 0;
    while let Some(kind) = scan.field(&mut id)? {
        match (id, kind) {
            (SCHEMA, LIST) => scan.schema()?,
            (SCHEMA, _) => return Err(odd("a schema that is no list")),
            _ => scan.skip(kind, DEEPEST)?,
        }
    }
    Ok(())
}

struct Scan<R> {
    input: R,
    read: u64,
}

impl<R: Read> Scan<R> {
    fn schema(&mut self) -> io::Result<()> {
        const CHILDREN: i16 = 5;
        let (kind, elements) = self.list()?;
        if kind != STRUCT {
            return Err(odd("a schema of something else than elements"));
        }
        // How many children each open group still has, the root's group first.
        let mut open: Vec<u64> = Vec::new();
        for element in 0..elements {
            if element > 0 && open.is_empty() {
                return Err(odd("a schema with more than one root"));
            }
            let mut children = 0;
            let mut id = 0;
            while let Some(kind) = self.field(&mut id)? {
                match (id, kind) {
                    (CHILDREN, I32) => children = self.size()?,
                    (CHILDREN, _) => return Err(odd("a number of children that is no number")),
                    _ => self.skip(kind, DEEPEST)?,
                }
            }
            if children > elements {
                return Err(odd("a schema with fewer elements than children"));
            }
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            if children > 0 {
                if open.len() == DEEPEST {
                    return Err(odd("a schema that nests deeper than 32"));
                }
                open.push(children);
            }
            while open.last() == Some(&0) {
                open.pop();
            }
        }
        if open.is_empty() { Ok(()) } else { Err(odd("a schema with elements missing")) }
    }

    /// The type of the next field of a struct, its number in `id`, which holds the number of the field before. `None` at
    /// the struct's end.
    fn field(&mut self, id: &mut i16) -> io::Result<Option<u8>> {
        let header = self.byte()?;
        let (step, kind) = (header >> 4, header & 0x0f);
        if kind == 0 {
            return Ok(None);
        }
        *id = match step {
            0 => i16::try_from(self.signed()?).map_err(|_| odd("a field number too large"))?,
            step => id.checked_add(step.into()).ok_or_else(|| odd("a field number too large"))?,
        };
        Ok(Some(kind))
    }

    /// The type and the number of the elements of a list.
    fn list(&mut self) -> io::Result<(u8, u64)> {
        let header = self.byte()?;
        let (len, kind) = (header >> 4, header & 0x0f);
        let len = if len == 15 { self.varint()? } else { len.into() };
        Ok((kind, len))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or_else(|| odd("values that nest too deep"))?;
        match kind {
            // The value of a boolean field is its type.
            1 | 2 => Ok(()),
            3 => self.byte().map(|_| ()),
            4..=6 => self.varint().map(|_| ()),
            7 => self.pass(8),
            BINARY => {
                let len = self.varint()?;
                self.pass(len)
            }
            9 | 10 => {
                let (kind, len) = self.list()?;
                for _ in 0..len {
                    // In a list a boolean takes a byte of its own.
                    self.skip(if matches!(kind, 1 | 2) { 3 } else { kind }, depth)?;
                }
                Ok(())
            }
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
            _ => Err(odd("a value of a type Parquet does not use")),
        }
    }

    fn pass(&mut self, len: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.input.by_ref().take(len), &mut io::sink())?;
        self.read += passed;
        if passed == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        self.read += 1;
        Ok(u8::from_le_bytes(byte))
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        // Negative numbers of 64 bits have a tenth byte.
        let last = self.byte()?;
        if last > 1 { Err(odd("a number too long")) } else { Ok(value | u64::from(last) << 63) }
    }

    fn signed(&mut self) -> io::Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn size(&mut self) -> io::Result<u64> {
        u64::try_from(self.signed()?).map_err(|_| odd("a negative size"))
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it has {what}"))
}
