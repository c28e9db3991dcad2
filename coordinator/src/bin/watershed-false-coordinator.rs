//! A coordinator that cannot be trusted, for testing what becomes of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    watershed_coordinator::cli::adversary()
}
