//! Shared libraries that are loaded when they are needed: the clients of directory services. Where they are not installed the
//! program works without them.

use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;

/// A loaded library. It is never unloaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Library(NonNull<c_void>);

impl Library {
    /// Loads the first of `names` that is there: names of files in the library path, or paths.
    ///
    /// # Errors
    /// Returns what dlopen(3) says of the first one.
    pub(super) fn open(names: &[&str]) -> Result<Self, String> {
        let mut first = None;
        for name in names {
            let Ok(c_name) = CString::new(*name) else { continue };
            // SAFETY: the name is a C string. Initialisers of the library run now, as those of linked ones would at the start.
            let handle = unsafe { libc::dlopen(c_name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            match NonNull::new(handle) {
                Some(handle) => return Ok(Self(handle)),
                None => first = first.or(Some(last_error())),
            }
        }
        Err(first.unwrap_or_else(|| "no library is named".to_owned()))
    }

    /// Returns the function called `name`.
    ///
    /// # Safety
    /// `F` is the type of a pointer to that function.
    ///
    /// # Errors
    /// The library has no such function.
    pub(super) unsafe fn function<F: Copy>(self, name: &CStr) -> Result<F, String> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: the handle names a library that is never unloaded.
        let address = unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) };
        if address.is_null() {
            return Err(format!("the library has no function {}", name.to_string_lossy()));
        }
        // SAFETY: the caller guarantees that the function has this type, and the sizes are equal.
        Ok(unsafe { std::mem::transmute_copy(&address) })
    }
}

fn last_error() -> String {
    // SAFETY: dlerror returns null or a C string that is valid until the next call in this thread.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() { "unknown error".to_owned() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    }
}

/// Defines a table of functions that are looked up in a library: `struct Name { field: "symbol" = fn type, ... }`.
macro_rules! functions {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty = $symbol:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        struct $name {
            $($field: $type,)*
        }

        impl $name {
            /// Looks all functions up.
            ///
            /// # Safety
            /// The library is the one whose header declares these functions.
            unsafe fn find(library: $crate::sys::library::Library) -> Result<Self, String> {
                Ok(Self {
                    // SAFETY: the caller guarantees that the library is the right one.
                    $($field: unsafe { library.function::<$type>($symbol) }?,)*
                })
            }
        }
    };
}
pub(super) use functions;

/// Tells packaging tools which libraries are loaded at run time ("ELF dlopen metadata" of the UAPI group): they derive
/// recommended packages from it.
#[repr(C, align(4))]
struct Note {
    name_size: u32,
    text_size: u32,
    kind: u32,
    name: [u8; 4],
    text: [u8; TEXT_SIZE as usize],
}

const TEXT_SIZE: u32 = 488;

const TEXT: &[u8; TEXT_SIZE as usize] = br#"[{"soname":["libldap.so.2","libldap-2.5.so.0","libldap-2.4.so.2"],"feature":"ldap","description":"Maps in LDAP directories","priority":"recommended"},{"soname":["libkrb5.so.3"],"feature":"kerberos","description":"Kerberos logins at LDAP servers","priority":"suggested"},{"soname":["libresolv.so.2"],"feature":"dns","description":"Servers by SRV records, Hesiod","priority":"suggested"},{"soname":["libsss_autofs.so"],"feature":"sss","description":"Maps of sssd","priority":"suggested"}]  "#;

#[used]
#[unsafe(link_section = ".note.dlopen")]
static NOTE: Note = Note { name_size: 4, text_size: TEXT_SIZE, kind: 0x407c_0c0a, name: *b"FDO\0", text: *TEXT };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_libraries_that_are_missing() {
        assert!(Library::open(&["libnone-such.so.9"]).unwrap_err().contains("libnone-such.so.9"));
        let library = Library::open(&["libnone-such.so.9", "libc.so.6"]).unwrap();
        // SAFETY: getpid(2) has this type.
        let getpid = unsafe { library.function::<unsafe extern "C" fn() -> i32>(c"getpid") }.unwrap();
        // SAFETY: getpid has no preconditions.
        assert_eq!(unsafe { getpid() }, crate::sys::children::pid());
        // SAFETY: there is no such function, so it is never called.
        let none = unsafe { library.function::<unsafe extern "C" fn()>(c"no_such_function") };
        assert_eq!(none.err().unwrap(), "the library has no function no_such_function");
    }

    #[test]
    fn the_note_is_json() {
        let text = std::str::from_utf8(TEXT).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(text).unwrap().as_array().unwrap().len() == 4);
        assert_eq!(TEXT.len() % 4, 0, "notes are padded to 4 bytes");
    }
}
