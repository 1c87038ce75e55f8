//! The server and command line.

/// Hands out again what was given back last, which is still in the processor's cache: `docs/benchmarks.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    counterfoil::cli::run()
}
