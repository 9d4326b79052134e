//! The program autofsctl(8).

fn main() -> std::process::ExitCode {
    autofs::cli::ctl::main()
}
