//! The control tool.

fn main() -> std::process::ExitCode {
    autofs::cli::ctl::main()
}
