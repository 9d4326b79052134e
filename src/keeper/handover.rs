//! Passes the state of the keeper to the next program: as text in a memfd, whose number is in the environment.
//!
//! Process, group, children and descriptors survive exec(2); the text says what each descriptor is. Each line is a word with
//! its values. A program ignores the lines that it does not know, so later versions can add some. The version changes with the
//! format of the journal, of the messages, or of a line.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::link::HANDOVER_VERSION as VERSION;
use crate::sys::children::{self, Signal};
use crate::sys::{exec, fds};

/// The environment variable with the number of the memfd.
pub(super) const VARIABLE: &str = "AUTOFS_HANDOVER";

/// The state that the program before has handed over.
#[derive(Debug)]
pub(super) struct Handover {
    pub(super) journal: OwnedFd,
    /// The memory of the history. Programs that have none hand none over.
    pub(super) history: Option<OwnedFd>,
    /// The keeper's end of the socket, and the worker's.
    pub(super) socket: OwnedFd,
    pub(super) link: OwnedFd,
    pub(super) held: Vec<(u32, OwnedFd)>,
    pub(super) worker: Option<i32>,
    /// Number of workers that this daemon has had.
    pub(super) workers: u32,
    /// The file of the program before, which is executed again if the new one does not serve.
    pub(super) previous: Option<OwnedFd>,
    /// The signal that ends the daemon, if it was received before the new program was executed.
    pub(super) stop: Option<Signal>,
    pub(super) files: Files,
}

/// Why there is no handover.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandoverError {
    /// It is for another process: the environment was inherited.
    #[error("what was handed over is for another process")]
    Elsewhere,
    /// It is for this process, but has an invalid or unknown format.
    #[error("what was handed over cannot be read: {0}")]
    Unknown(&'static str),
    /// A descriptor named in it is not open in this process.
    #[error("what was handed over cannot be taken: {0}")]
    Io(#[from] io::Error),
}

/// The state that is handed over to the next program.
#[derive(Debug)]
pub(super) struct OutgoingHandover<'a> {
    pub(super) journal: BorrowedFd<'a>,
    pub(super) history: BorrowedFd<'a>,
    pub(super) socket: BorrowedFd<'a>,
    pub(super) link: BorrowedFd<'a>,
    pub(super) held: &'a [(u32, OwnedFd)],
    pub(super) worker: Option<i32>,
    pub(super) workers: u32,
    pub(super) previous: Option<BorrowedFd<'a>>,
    pub(super) stop: Option<Signal>,
    pub(super) files: &'a Files,
}

/// Paths that outlive a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// Path of the new program.
    pub(super) program: PathBuf,
    pub(super) flag: Option<PathBuf>,
    pub(super) pid_file: Option<PathBuf>,
}

impl OutgoingHandover<'_> {
    /// Executes `program` in place of the running one and passes it this state. Returns only on failure; then nothing has changed.
    pub(super) fn hand_over(&self, program: exec::Executable<'_>) -> io::Error {
        let memory = match exec::memory(&self.encode()) {
            Ok(memory) => memory,
            Err(e) => return e,
        };
        let mut keep = vec![self.journal, self.history, self.socket, self.link, memory.as_fd()];
        keep.extend(self.held.iter().map(|(_, fd)| fd.as_fd()).chain(self.previous));
        let arguments: Vec<_> = std::env::args_os().collect();
        exec::become_program(program, &arguments, (VARIABLE, &memory.as_raw_fd().to_string()), &keep)
    }

    fn encode(&self) -> Vec<u8> {
        let mut text = format!("autofs-handover {VERSION}\npid {}\n", children::pid()).into_bytes();
        let mut line = |word: &str, value: &[u8]| text.extend([word.as_bytes(), b" ", value, b"\n"].concat());
        let fds = [
            ("journal", Some(self.journal)),
            ("history", Some(self.history)),
            ("socket", Some(self.socket)),
            ("link", Some(self.link)),
        ];
        for (word, fd) in fds.into_iter().chain([("previous", self.previous)]) {
            if let Some(fd) = fd {
                line(word, fd.as_raw_fd().to_string().as_bytes());
            }
        }
        for (id, fd) in self.held {
            line("pipe", format!("{id} {}", fd.as_raw_fd()).as_bytes());
        }
        if let Some(worker) = self.worker {
            line("worker", worker.to_string().as_bytes());
        }
        line("workers", self.workers.to_string().as_bytes());
        if let Some(stop) = self.stop {
            line("stop", if stop == Signal::Force { b"forced" } else { b"clean" });
        }
        let Files { program, flag, pid_file } = self.files;
        for (word, path) in [("program", Some(program)), ("flag", flag.as_ref()), ("pid-file", pid_file.as_ref())] {
            // A path with a newline in it would be two lines.
            if let Some(path) = path.filter(|path| !path.as_os_str().as_bytes().contains(&b'\n')) {
                line(word, path.as_os_str().as_bytes());
            }
        }
        text
    }
}

impl Handover {
    /// Reads the text and takes the descriptors. To be called once, before anything else is opened.
    pub(super) fn decode(text: &[u8]) -> Result<Self, HandoverError> {
        Self::decode_with(text, fds::inherit)
    }

    /// Reads the text, and takes each descriptor that it names by `inherit`.
    ///
    /// # Errors
    /// When the text is for another process or version, lacks something, or names a descriptor twice; and those of `inherit`.
    pub(super) fn decode_with(
        text: &[u8],
        inherit: impl Fn(RawFd) -> io::Result<OwnedFd>,
    ) -> Result<Self, HandoverError> {
        use HandoverError::Unknown;
        let mut taken = BTreeSet::new();
        let mut take = |value: &[u8]| {
            let number = descriptor(value)?;
            // Two owners would close it twice.
            if taken.insert(number) { Ok(inherit(number)?) } else { Err(Unknown("a descriptor twice")) }
        };
        let mut lines = text.split(|&b| b == b'\n').filter_map(|line| {
            let space = memchr::memchr(b' ', line)?;
            Some((line.get(..space)?, line.get(space + 1..)?))
        });
        let head = lines.next();
        // The pid has this position in every version.
        if lines.next() != Some((b"pid", children::pid().to_string().as_bytes())) {
            return Err(HandoverError::Elsewhere);
        }
        if head != Some((b"autofs-handover", VERSION.to_string().as_bytes())) {
            return Err(Unknown("another version"));
        }
        let (mut journal, mut history, mut socket, mut link, mut previous) = (None, None, None, None, None);
        let (mut held, mut worker, mut workers) = (Vec::new(), None, 0);
        let (mut stop, mut files) = (None, Files::default());
        let path = |value: &[u8]| PathBuf::from(OsStr::from_bytes(value));
        for (word, value) in lines {
            match word {
                b"journal" => journal = Some(take(value)?),
                b"history" => history = Some(take(value)?),
                b"socket" => socket = Some(take(value)?),
                b"link" => link = Some(take(value)?),
                b"previous" => previous = Some(take(value)?),
                b"pipe" => {
                    let (id, fd) = pair(value).ok_or(Unknown("a pipe without a number"))?;
                    held.push((id, take(fd)?));
                }
                b"worker" => worker = number(value),
                b"workers" => workers = number(value).unwrap_or(1),
                b"stop" => stop = Some(if value == b"forced" { Signal::Force } else { Signal::Stop }),
                b"program" => files.program = path(value),
                b"flag" => files.flag = Some(path(value)),
                b"pid-file" => files.pid_file = Some(path(value)),
                _ => {}
            }
        }
        Ok(Self {
            journal: journal.ok_or(Unknown("no journal"))?,
            history,
            socket: socket.ok_or(Unknown("no socket"))?,
            link: link.ok_or(Unknown("no socket for workers"))?,
            held,
            worker,
            workers,
            previous,
            stop,
            files,
        })
    }

    /// Takes what the previous program has handed to this one, if it has. Also removes the environment variable.
    pub(super) fn take() -> Option<Result<Self, HandoverError>> {
        let value = exec::take_variable(VARIABLE)?;
        let text = descriptor(value.as_bytes()).and_then(|fd| Ok(exec::take_memory(fds::inherit(fd)?)?));
        Some(text.map_err(|_| HandoverError::Elsewhere).and_then(|text| Self::decode(&text)))
    }
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn pair(value: &[u8]) -> Option<(u32, &[u8])> {
    let space = memchr::memchr(b' ', value)?;
    Some((number(value.get(..space)?)?, value.get(space + 1..)?))
}

/// Reads the number of a descriptor other than the three standard ones.
fn descriptor(value: &[u8]) -> Result<RawFd, HandoverError> {
    number(value).filter(|number| *number > 2).ok_or(HandoverError::Unknown("no descriptor"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hands over to a function.
    fn handed_over<T>(take: impl FnOnce(&str, Vec<i32>) -> T) -> (T, Files) {
        let fds: Vec<OwnedFd> = (0..7).map(|_| exec::memory(b"").unwrap()).collect();
        let numbers = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let [journal, history, socket, link, previous, one, two]: [OwnedFd; 7] = fds.try_into().unwrap();
        let held = [(7, one), (u32::MAX, two)];
        let files = Files {
            program: "/usr/sbin/automount".into(),
            flag: Some("/run/autofs-running".into()),
            pid_file: Some("/run/a b.pid".into()),
        };
        let handover = OutgoingHandover {
            journal: journal.as_fd(),
            history: history.as_fd(),
            socket: socket.as_fd(),
            link: link.as_fd(),
            held: &held,
            worker: Some(4711),
            workers: 3,
            previous: Some(previous.as_fd()),
            stop: Some(Signal::Force),
            files: &files,
        };
        let text = String::from_utf8(handover.encode()).unwrap();
        // As over exec: they stay open, and nobody owns them.
        std::mem::forget((journal, history, socket, link, previous, held));
        (take(&text, numbers), files)
    }

    #[test]
    fn what_is_handed_over_arrives() {
        let (taken, files) = handed_over(|text, numbers| (Handover::decode(text.as_bytes()).unwrap(), numbers));
        let (taken, numbers) = taken;
        let history = taken.history.as_ref().unwrap();
        let mut fds = vec![&taken.journal, history, &taken.socket, &taken.link, taken.previous.as_ref().unwrap()];
        fds.extend(taken.held.iter().map(|(_, fd)| fd));
        assert_eq!(fds.iter().map(|fd| fd.as_raw_fd()).collect::<Vec<_>>(), numbers);
        assert_eq!((taken.worker, taken.workers, taken.stop), (Some(4711), 3, Some(Signal::Force)));
        assert_eq!(taken.files, files);
        assert_eq!(taken.held.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [7, u32::MAX]);
    }

    #[test]
    fn what_is_for_somebody_else_is_not_taken() {
        handed_over(|text, _| {
            let pid = format!("pid {}\n", children::pid());
            for wrong in [text.replace(&pid, "pid 1\n"), String::new()] {
                assert!(matches!(Handover::decode(wrong.as_bytes()), Err(HandoverError::Elsewhere)), "{wrong}");
            }
            let later = text.replace("handover 2", "handover 0");
            assert!(matches!(Handover::decode(later.as_bytes()), Err(HandoverError::Unknown(_))));
        });
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in "(journal|socket|pipe|worker|previous|x) [ -~]{0,20}\n") {
            // Numbers of descriptors are left out: they would be taken from under the other tests.
            prop_assume!(!text.contains(|c: char| c.is_ascii_digit()));
            let head = format!("autofs-handover {VERSION}\npid {}\n", children::pid());
            prop_assert!(Handover::decode((head + &text).as_bytes()).is_err());
        }
    }
}
