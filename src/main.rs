//! The server and command line.

/// Faster than the system's where several threads allocate much that is small: `docs/benchmarks.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    counterfoil::cli::run()
}
