//! Text of maps and configuration files: lines, positions, diagnostics, and escaping for output.

pub mod diagnostic;
pub mod escape;
pub mod lines;
pub mod path_order;
pub mod quote;
pub mod render;
pub mod secrets;
pub mod split;

pub use diagnostic::{Diagnostic, Position, Severity};
pub use escape::Escaped;
pub use lines::{Line, Lines, lines};
pub use path_order::{Ordered, path_order};
pub use quote::unquote;
pub use render::render;
pub use split::split_once;
