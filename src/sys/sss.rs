//! The client library of sssd(8) for automounters.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::io;
use std::ptr;

use super::library::{Library, functions};

/// The library: where this was built for, on Fedora, and on others.
const NAMES: &[&str] = &[
    concat!(env!("AUTOFS_SSSD_MODULES"), "/libsss_autofs.so"),
    "/usr/lib64/sssd/modules/libsss_autofs.so",
    "/usr/lib/sssd/modules/libsss_autofs.so",
];

/// The version of the protocol that tells an unreachable server from a missing map.
const PROTOCOL: c_uint = 1;

functions! {
    Functions {
        open: unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int = c"_sss_setautomntent";
        next: unsafe extern "C" fn(*mut *mut c_char, *mut *mut c_char, *mut c_void) -> c_int = c"_sss_getautomntent_r";
        by_name: unsafe extern "C" fn(*const c_char, *mut *mut c_char, *mut c_void) -> c_int = c"_sss_getautomntbyname_r";
        close: unsafe extern "C" fn(*mut *mut c_void) -> c_int = c"_sss_endautomntent";
    }
}

/// The library.
#[derive(Clone, Copy)]
pub struct Sss(Functions);

impl std::fmt::Debug for Sss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sss")
    }
}

/// A map that is being read.
pub struct OpenMap {
    functions: Functions,
    context: *mut c_void,
}

impl std::fmt::Debug for OpenMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenMap")
    }
}

impl Sss {
    /// Loads the library.
    ///
    /// # Errors
    /// It is not installed: the message says which package has it.
    pub fn load() -> Result<Self, String> {
        // SAFETY: the functions of sssd's library have these types.
        let found = Library::open(NAMES).and_then(|library| unsafe {
            if let Ok(version) =
                library.function::<unsafe extern "C" fn(c_uint) -> c_uint>(c"_sss_auto_protocol_version")
            {
                version(PROTOCOL);
            }
            Functions::find(library)
        });
        found.map(Self).map_err(|error| format!("sss maps need libsss_autofs.so (package sssd-common): {error}"))
    }

    /// Opens a map.
    ///
    /// # Errors
    /// ENOENT: there is no such map. ECONNREFUSED: sssd is not running. EHOSTDOWN: the server behind it does not answer.
    pub fn open(self, map: &[u8]) -> io::Result<OpenMap> {
        let map = CString::new(map)?;
        let mut context = ptr::null_mut();
        // SAFETY: the name is a C string, and the context is written.
        check(unsafe { (self.0.open)(map.as_ptr(), &raw mut context) })?;
        Ok(OpenMap { functions: self.0, context })
    }
}

impl OpenMap {
    /// Returns the next entry, a key and its text; `None` at the end.
    ///
    /// # Errors
    /// As [`Sss::open`].
    pub fn next_entry(&mut self) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let (mut key, mut value) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the context belongs to an open map, and both pointers are written.
        let code = unsafe { (self.functions.next)(&raw mut key, &raw mut value, self.context) };
        // SAFETY: what was written are C strings from malloc(3), or null.
        let (key, value) = unsafe { (taken(key), taken(value)) };
        found(code).map(|found| found.then(|| (key.unwrap_or_default(), value.unwrap_or_default())))
    }

    /// Returns the text of a key, or `None` if the map has no such key.
    ///
    /// # Errors
    /// As [`Sss::open`].
    pub fn entry(&mut self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let key = CString::new(key)?;
        let mut value = ptr::null_mut();
        // SAFETY: the context belongs to an open map, the key is a C string, and the value is written.
        let code = unsafe { (self.functions.by_name)(key.as_ptr(), &raw mut value, self.context) };
        // SAFETY: what was written is a C string from malloc(3), or null.
        let value = unsafe { taken(value) };
        found(code).map(|found| if found { value } else { None })
    }
}

impl Drop for OpenMap {
    fn drop(&mut self) {
        // SAFETY: the context is used here for the last time.
        unsafe { (self.functions.close)(&raw mut self.context) };
    }
}

fn check(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// False: ENOENT, there is nothing.
fn found(code: c_int) -> io::Result<bool> {
    match code {
        libc::ENOENT => Ok(false),
        code => check(code).map(|()| true),
    }
}

/// # Safety
/// `text` is null or a C string from malloc(3), which is not used any more.
unsafe fn taken(text: *mut c_char) -> Option<Vec<u8>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as the caller guarantees.
    unsafe {
        let copy = CStr::from_ptr(text).to_bytes().to_vec();
        libc::free(text.cast());
        Some(copy)
    }
}
