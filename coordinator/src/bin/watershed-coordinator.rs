//! Runs training that sponsors pay for.

use std::process::ExitCode;

fn main() -> ExitCode {
    watershed_coordinator::cli::main()
}
