//! The program automount(8).

fn main() -> std::process::ExitCode {
    autofs::cli::automount::main()
}
