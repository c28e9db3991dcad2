//! `watershed-shards`: the program for text.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(message) => {
            eprintln!("watershed-shards: {}", watershed_protocol::told(&*message));
            ExitCode::FAILURE
        }
    }
}
