//! Becoming another program: the process, its children and the descriptors that are left open stay.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno as Os;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{execve, fexecve};

/// Bytes that [`take_memory`] reads at most.
const LONGEST: u64 = 1 << 20;

/// A program file.
#[derive(Debug, Clone, Copy)]
pub enum Executable<'a> {
    /// By its path.
    Path(&'a Path),
    /// Opened; its path may be gone.
    File(BorrowedFd<'a>),
}

/// Makes this process the program, with these arguments (the name first) and the environment of now and one variable
/// more. `keep`: descriptors that stay open; all others should have CLOEXEC set. Returns only when it has failed, and
/// then nothing has changed. For a process with one thread.
pub fn become_program(
    program: Executable<'_>,
    arguments: &[OsString],
    variable: (&str, &str),
    keep: &[BorrowedFd<'_>],
) -> io::Error {
    let kept: io::Result<()> = keep.iter().try_for_each(|fd| super::fds::set_cloexec(*fd, false));
    let error = match kept.and_then(|()| execute(program, arguments, variable)) {
        Ok(never) => match never {},
        Err(e) => e,
    };
    for fd in keep {
        let _ = super::fds::set_cloexec(*fd, true);
    }
    error
}

fn execute(
    program: Executable<'_>,
    arguments: &[OsString],
    (name, value): (&str, &str),
) -> io::Result<std::convert::Infallible> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::Error::from(Os::EINVAL));
    let others = std::env::vars_os().filter(|(other, _)| other != name);
    let join = |(name, value): (OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    let environment: Vec<CString> = others
        .map(join)
        .chain([format!("{name}={value}").into_bytes()])
        .map(|variable| text(&variable))
        .collect::<io::Result<_>>()?;
    let arguments: Vec<CString> = arguments.iter().map(|a| text(a.as_bytes())).collect::<io::Result<_>>()?;
    Ok(match program {
        Executable::Path(path) => execve(&text(path.as_os_str().as_bytes())?, &arguments, &environment)?,
        Executable::File(file) => fexecve(file, &arguments, &environment)?,
    })
}

/// Takes a variable out of the environment of this process. For a process with one thread.
pub fn take_variable(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    // SAFETY: no other thread reads the environment, as the caller has been told that there is none.
    unsafe { std::env::remove_var(name) };
    Some(value)
}

/// A descriptor of memory with this content, and CLOEXEC set.
///
/// # Errors
/// Returns the errors of memfd_create(2) and write(2).
pub fn memory(content: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"autofs-handover", MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(content)?;
    Ok(file.into())
}

/// The content of a descriptor that [`memory`] has made.
///
/// # Errors
/// Returns the errors of read(2).
pub fn take_memory(fd: OwnedFd) -> io::Result<Vec<u8>> {
    use std::io::Seek as _;
    let mut file = File::from(fd);
    file.rewind()?;
    let mut content = Vec::new();
    file.take(LONGEST).read_to_end(&mut content)?;
    Ok(content)
}

/// The program that this process runs, opened; its path may be gone.
///
/// # Errors
/// Returns the errors of open(2).
pub fn own_program() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/self/exe")?.into())
}

/// Returns whether the program at this path is another file than the one that this process runs.
///
/// # Errors
/// Returns the errors of stat(2): there is none now, for example.
pub fn is_other_program(path: &Path) -> io::Result<bool> {
    let (own, there) = (super::path::stat(Path::new("/proc/self/exe"))?, super::path::stat(path)?);
    Ok((own.dev, own.ino) != (there.dev, there.ino))
}

/// The path of the program that this process runs, as the kernel knows it.
///
/// # Errors
/// Returns the errors of readlink(2). `NotFound`: the file has been removed.
pub fn own_path() -> io::Result<std::path::PathBuf> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let gone = path.as_os_str().as_bytes().ends_with(OsStr::new(" (deleted)").as_bytes());
    if gone { Err(io::ErrorKind::NotFound.into()) } else { Ok(path) }
}

/// Sets a variable of the environment. To be called while there is one thread: others may read the environment at any
/// time.
pub fn set_variable(name: &str, value: &[u8]) {
    // SAFETY: the caller has been told that there must be one thread.
    unsafe { std::env::set_var(name, OsStr::from_bytes(value)) };
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn memory_keeps_what_was_written() {
        assert_eq!(take_memory(memory(b"some\ntext").unwrap()).unwrap(), b"some\ntext");
    }

    #[test]
    fn a_program_that_is_none_changes_nothing() {
        let kept = memory(b"").unwrap();
        let arguments = ["x".into()];
        let variable = ("AUTOFS_TEST", "1");
        for program in [
            Executable::Path(Path::new("/")),
            Executable::Path(Path::new("/no/such\0")),
            Executable::File(kept.as_fd()),
        ] {
            become_program(program, &arguments, variable, &[kept.as_fd()]);
            let flags = nix::fcntl::fcntl(&kept, nix::fcntl::FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags, nix::libc::FD_CLOEXEC);
        }
    }

    #[test]
    fn this_program_is_no_other() {
        assert!(!is_other_program(&own_path().unwrap()).unwrap());
        assert!(is_other_program(Path::new("/proc/self/maps")).unwrap());
        assert!(is_other_program(Path::new("/no/such")).is_err());
    }
}
