//! The server and command line.

fn main() -> std::process::ExitCode {
    counterfoil::cli::run()
}
