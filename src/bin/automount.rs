//! The daemon, with the command line of automount(8).

fn main() -> std::process::ExitCode {
    autofs::cli::automount::main()
}
