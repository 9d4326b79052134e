//! The program autofsctl(8).

#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::todo,
    clippy::unimplemented,
    clippy::unwrap_used
)]

fn main() -> std::process::ExitCode {
    autofs::cli::ctl::main()
}
