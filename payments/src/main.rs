//! `watershed-payments`: see [`watershed_payments::cli`].

fn main() -> std::process::ExitCode {
    watershed_payments::cli::main()
}
