//! The program automount(8).

#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::todo,
    clippy::unimplemented,
    clippy::unwrap_used
)]

fn main() -> std::process::ExitCode {
    autofs::cli::automount::main()
}
