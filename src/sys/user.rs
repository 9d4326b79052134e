//! Names of users, groups and the machine from the system's databases. Lookups use the name service switch (for example LDAP), so
//! they may take long.

use std::ffi::{CStr, CString, OsStr, OsString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use nix::errno::Errno as Os;

/// A user of the password database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: OsString,
    /// Home directory.
    pub home: OsString,
}

/// The result of uname(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The name of the kernel: `Linux`.
    pub system: OsString,
    /// The name of the host, with or without its domain.
    pub host: OsString,
    /// The release of the kernel.
    pub release: OsString,
    /// The version of the kernel build.
    pub version: OsString,
    /// The processor architecture.
    pub machine: OsString,
}

/// Returns the effective user id of this process.
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Returns the user with this id, or `None` if there is none.
///
/// # Errors
/// Returns the errors of getpwuid_r(3): the database could not be asked.
pub fn user(uid: u32) -> io::Result<Option<User>> {
    lookup(|buffer| {
        let (mut entry, mut found) = (MaybeUninit::<libc::passwd>::uninit(), std::ptr::null_mut());
        // SAFETY: all pointers are valid for the call, and the length is the buffer's.
        let result =
            unsafe { libc::getpwuid_r(uid, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
        if found.is_null() {
            return (result, None);
        }
        // SAFETY: a result was found, so the entry is filled in; its strings lie in the buffer.
        let (name, home) = unsafe { ((*found).pw_name, (*found).pw_dir) };
        // SAFETY: as above.
        (0, Some(unsafe { User { name: text(name), home: text(home) } }))
    })
}

/// Returns whether a user has this login name. A name that no database can hold is no user's.
///
/// # Errors
/// Returns the errors of getpwnam_r(3): the database could not be asked.
pub fn is_name(name: &OsStr) -> io::Result<bool> {
    let Ok(name) = CString::new(name.as_bytes()) else { return Ok(false) };
    let found = lookup(|buffer| {
        let (mut entry, mut found) = (MaybeUninit::<libc::passwd>::uninit(), std::ptr::null_mut());
        // SAFETY: all pointers are valid for the call, the name ends with NUL, and the length is the buffer's.
        let result = unsafe {
            libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        (result, (!found.is_null()).then_some(()))
    })?;
    Ok(found.is_some())
}

/// Returns the ids of the user and of the group of a user, given by name or number. A number need not be known.
///
/// # Errors
/// Returns the errors of getpwnam_r(3) and getpwuid_r(3): the database could not be asked.
pub fn ids(user: &str) -> io::Result<Option<(u32, u32)>> {
    use nix::unistd::{Uid, User};
    let number = user.parse().ok();
    let found = match number {
        Some(uid) => User::from_uid(Uid::from_raw(uid))?,
        None => User::from_name(user)?,
    };
    Ok(found.map(|user| (user.uid.as_raw(), user.gid.as_raw())).or(number.map(|uid| (uid, uid))))
}

/// Returns the id of the user with this name, or `None` if there is none.
///
/// # Errors
/// Returns the errors of getpwnam_r(3): the database could not be asked.
pub fn uid(name: &str) -> io::Result<Option<u32>> {
    Ok(nix::unistd::User::from_name(name)?.map(|user| user.uid.as_raw()))
}

/// Returns the id of the group with this name, or `None` if there is none.
///
/// # Errors
/// Returns the errors of getgrnam_r(3): the database could not be asked.
pub fn gid(name: &str) -> io::Result<Option<u32>> {
    Ok(nix::unistd::Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// Returns the name of the group with this id, or `None` if there is none.
///
/// # Errors
/// Returns the errors of getgrgid_r(3): the database could not be asked.
pub fn group(gid: u32) -> io::Result<Option<OsString>> {
    lookup(|buffer| {
        let (mut entry, mut found) = (MaybeUninit::<libc::group>::uninit(), std::ptr::null_mut());
        // SAFETY: all pointers are valid for the call, and the length is the buffer's.
        let result =
            unsafe { libc::getgrgid_r(gid, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
        if found.is_null() {
            return (result, None);
        }
        // SAFETY: a result was found, so the entry is filled in; its name lies in the buffer.
        (0, Some(unsafe { text((*found).gr_name) }))
    })
}

/// Returns the kernel and machine information.
///
/// # Errors
/// Returns the errors of uname(2).
pub fn machine() -> io::Result<Machine> {
    let uname = nix::sys::utsname::uname()?;
    Ok(Machine {
        system: uname.sysname().to_owned(),
        host: uname.nodename().to_owned(),
        release: uname.release().to_owned(),
        version: uname.version().to_owned(),
        machine: uname.machine().to_owned(),
    })
}

/// Returns the NIS domain of this machine; empty or `(none)` if there is none.
///
/// # Errors
/// Returns the errors of uname(2).
pub fn nis_domain() -> io::Result<OsString> {
    Ok(nix::sys::utsname::uname()?.domainname().to_owned())
}

/// The longest buffer for one entry: a group may have very many members.
const LONGEST: usize = 16 << 20;

/// Calls one of the `_r` functions with buffers that grow until it is content.
fn lookup<T>(mut call: impl FnMut(&mut [c_char]) -> (i32, Option<T>)) -> io::Result<Option<T>> {
    let mut buffer: Vec<c_char> = vec![0; 1 << 12];
    loop {
        match call(&mut buffer) {
            (_, Some(entry)) => return Ok(Some(entry)),
            // getpwnam(3), ERRORS: these too mean that it is not there.
            (0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM, None) => return Ok(None),
            (libc::EINTR, None) => {}
            (libc::ERANGE, None) if buffer.len() < LONGEST => buffer.resize(buffer.len() * 4, 0),
            (error, None) => return Err(Os::from_raw(error).into()),
        }
    }
}

/// # Safety
/// `text` is null or a valid C string.
unsafe fn text(text: *const c_char) -> OsString {
    if text.is_null() {
        return OsString::new();
    }
    // SAFETY: as the caller promises.
    OsString::from_vec(unsafe { CStr::from_ptr(text) }.to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_there_and_nobody_has_the_last_id_but_one() {
        let root = user(0).unwrap().unwrap();
        assert_eq!(root.name, "root");
        assert!(root.home.len() > 1);
        assert_eq!(group(0).unwrap().unwrap(), "root");
        assert_eq!(user(u32::MAX - 1).unwrap(), None);
        assert!(is_name(OsStr::new("root")).unwrap());
        for name in ["", "no such user", "a\0b", &"x".repeat(255)] {
            assert!(!is_name(OsStr::new(name)).unwrap(), "{name}");
        }
        assert_eq!(group(u32::MAX - 1).unwrap(), None);
    }

    #[test]
    fn buffers_grow() {
        let mut sizes = Vec::new();
        let found = lookup(|buffer| {
            sizes.push(buffer.len());
            if buffer.len() < 100_000 { (libc::ERANGE, None) } else { (0, Some(())) }
        });
        assert_eq!((found.unwrap(), sizes), (Some(()), vec![4096, 16384, 65536, 262_144]));
        assert!(lookup::<()>(|_| (libc::ERANGE, None)).is_err(), "not for ever");
        assert_eq!(lookup::<()>(|_| (libc::EIO, None)).unwrap_err().raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn the_kernel_is_linux() {
        assert_eq!(machine().unwrap().system, "Linux");
    }
}
