//! The terminal of a command.

use std::io::IsTerminal as _;
use std::os::fd::AsRawFd as _;

/// Returns the number of columns of the terminal to which standard output goes. Returns `None` if it goes elsewhere.
pub fn width() -> Option<usize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    // SAFETY: the structure consists of numbers, for which zeros are valid.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and TIOCGWINSZ writes a `winsize`.
    let done = unsafe { libc::ioctl(out.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}
