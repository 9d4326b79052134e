//! The kernel's autofs interface.
