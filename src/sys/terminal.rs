//! The terminal of a command.

use std::io::{self, IsTerminal as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::signals::{Request, Signals};

/// Shows another screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";

/// Shows the screen and the cursor that were there before.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Returns the number of columns of the terminal to which standard output goes. Returns `None` if it goes elsewhere.
pub fn width() -> Option<usize> {
    size().map(|(columns, _)| columns)
}

/// Returns the numbers of columns and rows of the terminal to which standard output goes. Returns `None` if it goes elsewhere.
pub fn size() -> Option<(usize, usize)> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    // SAFETY: the structure consists of numbers, for which zeros are valid.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and TIOCGWINSZ writes a `winsize`.
    let done = unsafe { libc::ioctl(out.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0).then_some((usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// End of a wait for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A key.
    Key(u8),
    /// A signal asks the program to end, or the terminal is gone.
    End,
    /// The time is over, or the terminal has another size.
    Nothing,
}

/// A terminal that shows a screen of the program, and passes on each key at once. When dropped, it is as it was before.
#[derive(Debug)]
pub struct Screen {
    before: libc::termios,
    signals: Signals,
}

impl Screen {
    /// Takes the terminal over. To be called before other threads are started, because signals are blocked from now on.
    ///
    /// # Errors
    /// Returns the errors of tcgetattr(3), tcsetattr(3), signalfd(2) and write(2).
    pub fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let mut before = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: the descriptor is open, and tcgetattr writes a `termios` if it succeeds.
        if unsafe { libc::tcgetattr(stdin.as_raw_fd(), before.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: tcgetattr has succeeded.
        let before = unsafe { before.assume_init() };
        let signals = Signals::block()?;
        let mut raw = before;
        // Ctrl-C comes as a key. Output is processed as before.
        raw.c_lflag &= !(libc::ICANON | libc::ECHO | libc::ISIG | libc::IEXTEN);
        raw.c_iflag &= !(libc::IXON | libc::ICRNL);
        // SAFETY: the descriptor is open, and the structure was made by tcgetattr.
        if unsafe { libc::tcsetattr(stdin.as_raw_fd(), libc::TCSANOW, &raw const raw) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let screen = Self { before, signals };
        write(ENTER)?;
        Ok(screen)
    }

    /// Shows these lines from the top on, and nothing below.
    ///
    /// # Errors
    /// Returns the errors of write(2).
    pub fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for (n, line) in lines.iter().enumerate() {
            text += if n == 0 { "" } else { "\r\n" };
            // Behind a line that fills the row, it would remove the last character.
            text += "\x1b[K";
            text += line;
        }
        write(&(text + "\x1b[J"))
    }

    /// Waits for the user, at most `milliseconds`.
    ///
    /// # Errors
    /// Returns the errors of poll(2) and read(2).
    pub fn wait(&self, milliseconds: u16) -> io::Result<Input> {
        let stdin = io::stdin();
        let mut polled =
            [PollFd::new(stdin.as_fd(), PollFlags::POLLIN), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::from(milliseconds))?;
        let [keys, signals] = polled.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        if !signals.is_empty() {
            while let Some(received) = self.signals.read()? {
                let ends = matches!(received.request, Request::Stop | Request::Force | Request::Reload);
                if ends || received.request == Request::Other(libc::SIGQUIT) {
                    return Ok(Input::End);
                }
            }
        }
        if keys.is_empty() {
            return Ok(Input::Nothing);
        }
        let mut key = [0];
        // Not by way of the buffer of the standard library, which poll(2) does not see.
        let read = nix::unistd::read(stdin.as_fd(), &mut key)?;
        let [key] = key;
        Ok(if read == 0 { Input::End } else { Input::Key(key) })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = write(LEAVE);
        // SAFETY: the descriptor is open, and the structure was made by tcgetattr.
        unsafe { libc::tcsetattr(io::stdin().as_raw_fd(), libc::TCSANOW, &raw const self.before) };
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
