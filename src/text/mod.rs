//! Bytes that people write and read: where something is written in a file, what is wrong with it, how it is shown.

pub mod diagnostic;
pub mod escape;
pub mod lines;
pub mod quote;
pub mod render;
pub mod split;

pub use diagnostic::{Diagnostic, Position, Severity};
pub use escape::Escaped;
pub use lines::{Line, Lines, lines};
pub use quote::unquote;
pub use render::render;
pub use split::split_once;
