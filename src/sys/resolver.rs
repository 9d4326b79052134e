//! The system's resolver, for records other than addresses. It follows resolv.conf(5), which the daemon need not understand.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use super::library::{Library, functions};

/// The longest answer.
const ANSWER_MAX: usize = 64 << 10;

/// A class of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The Internet.
    Internet,
    /// Hesiod.
    Hesiod,
}

/// A type of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// Texts.
    Txt,
    /// Servers.
    Srv,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveError {
    /// There is no such name, or it has no such records.
    NotFound,
    /// No server answers, or the resolver cannot be used.
    Failed(String),
}

functions! {
    Functions {
        search: unsafe extern "C" fn(*const c_char, c_int, c_int, *mut u8, c_int) -> c_int = c"res_query";
        error: unsafe extern "C" fn() -> *mut c_int = c"__h_errno_location";
    }
}

/// Asks for records of `name`, and returns the answer as it came.
///
/// # Errors
/// There is no answer with such records.
pub fn query(name: &str, class: Class, record: Record) -> Result<Vec<u8>, ResolveError> {
    const HOST_NOT_FOUND: c_int = 1;
    const NO_DATA: c_int = 4;
    // SAFETY: these functions are of the C library, whose headers declare them so. The older library exports res_query as
    // a macro for __res_query, which newer ones do not need.
    let found = Library::open(&["libresolv.so.2", "libc.so.6"]).and_then(|library| unsafe { Functions::find(library) });
    let functions = found.map_err(|error| ResolveError::Failed(format!("no resolver for DNS records: {error}")))?;
    let name = CString::new(name).map_err(|_| ResolveError::NotFound)?;
    let class = match class {
        Class::Internet => 1,
        Class::Hesiod => 4,
    };
    let record = match record {
        Record::Txt => 16,
        Record::Srv => 33,
    };
    let mut answer = vec![0; ANSWER_MAX];
    let room = c_int::try_from(answer.len()).unwrap_or(c_int::MAX);
    // SAFETY: the name is a C string, and the answer has as much room as is said. The error is a variable of this thread.
    let (length, error) = unsafe {
        let length = (functions.search)(name.as_ptr(), class, record, answer.as_mut_ptr(), room);
        (length, *(functions.error)())
    };
    match usize::try_from(length) {
        Ok(length) => {
            answer.truncate(length);
            Ok(answer)
        }
        Err(_) if error == HOST_NOT_FOUND || error == NO_DATA => Err(ResolveError::NotFound),
        Err(_) => Err(ResolveError::Failed("no DNS server answers".to_owned())),
    }
}

/// Returns the name of a host with its domain, as the name service has it, or `None` if it does not know the host.
pub fn canonical_name(host: &str) -> Option<String> {
    let host = CString::new(host).ok()?;
    // SAFETY: all fields of the structure may be zero.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_flags = libc::AI_CANONNAME;
    let mut found = ptr::null_mut();
    // SAFETY: host and hints live through the call; the result is written, and freed once.
    unsafe {
        if libc::getaddrinfo(host.as_ptr(), ptr::null(), &raw const hints, &raw mut found) != 0 || found.is_null() {
            return None;
        }
        let name = (*found).ai_canonname;
        let name = if name.is_null() { None } else { CStr::from_ptr(name).to_str().ok().map(str::to_owned) };
        libc::freeaddrinfo(found);
        name
    }
}
