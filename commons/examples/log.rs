//! Writes a log for readers of other people to try: `log FOLDER SIZE...` makes `FOLDER/log` grow to each size in turn, keeps
//! every checkpoint on the way as `FOLDER/checkpoint.SIZE`, and leaves the key in `FOLDER/log.vkey`.

use std::error::Error;
use std::path::PathBuf;

use watershed_commons::log::{LogKey, Writer};

/// Entries of many lengths, among them the shortest and some of thousands of bytes.
fn entry(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(1_009) { 5_000 } else { 1 + number * 37 % 90 };
    let byte = |at: u64| (number.wrapping_mul(31) + at) as u8;
    (0..length).map(byte).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: log FOLDER SIZE...")?);
    let log = folder.join("log");
    std::fs::create_dir_all(&log)?;
    // The key signs nothing but this.
    let key = LogKey::new("example.com/log", &[7; 32])?;
    std::fs::write(folder.join("log.vkey"), format!("{}\n", key.verifier()))?;
    let mut writer = Writer::open(&log, key)?;
    for size in arguments {
        let size: u64 = size.parse()?;
        let entries: Vec<Vec<u8>> = (writer.size()..size).map(entry).collect();
        writer.append(&entries)?;
        std::fs::write(folder.join(format!("checkpoint.{size}")), writer.checkpoint())?;
    }
    Ok(())
}
