//! `watershed-payments`: see [`watershed_payments::cli`].

/// A node allocates and frees in small pieces on many threads for months; the system's allocator gives little of that back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    watershed_payments::cli::main()
}
