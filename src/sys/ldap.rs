//! The system's LDAP library, OpenLDAP's libldap: connections that one thread at a time uses.
//!
//! The library is loaded at run time, see `library`. Option numbers and structures are those of its
//! `ldap.h`, which have been the same since OpenLDAP 2.4.

use std::ffi::{CStr, CString, c_char, c_int, c_ulong, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use super::ldap_sasl::{self, Login};
use super::library::{Library, functions};

/// The names of the library, newest first.
const NAMES: &[&str] = &["libldap.so.2", "libldap-2.5.so.0", "libldap_r-2.4.so.2", "libldap-2.4.so.2"];

const OPT_REFERRALS: c_int = 0x0008;
const OPT_RESTART: c_int = 0x0009;
const OPT_PROTOCOL_VERSION: c_int = 0x0011;
const OPT_RESULT_CODE: c_int = 0x0031;
const OPT_DIAGNOSTIC_MESSAGE: c_int = 0x0032;
const OPT_DEBUG_LEVEL: c_int = 0x5001;
const OPT_TIMEOUT: c_int = 0x5002;
const OPT_NETWORK_TIMEOUT: c_int = 0x5005;
const OPT_TLS_CERTFILE: c_int = 0x6004;
const OPT_TLS_KEYFILE: c_int = 0x6005;
const OPT_TLS_REQUIRE_CERT: c_int = 0x6006;
const OPT_TLS_NEWCTX: c_int = 0x600f;
const OPT_TLS_PEERCERT: c_int = 0x6015;
const TLS_NEVER: c_int = 0;
const SCOPE_BASE: c_int = 0;
const SCOPE_SUBTREE: c_int = 2;
const VERSION3: c_int = 3;
const PAGED_RESULTS: &CStr = c"1.2.840.113556.1.4.319";

pub(super) type Handle = *mut c_void;
type Message = *mut c_void;
type Control = *mut c_void;

#[repr(C)]
struct BerValue {
    length: c_ulong,
    value: *mut c_char,
}

functions! {
    /// Functions of the library that are used.
    Functions {
        initialize: unsafe extern "C" fn(*mut Handle, *const c_char) -> c_int = c"ldap_initialize";
        set_option: unsafe extern "C" fn(Handle, c_int, *const c_void) -> c_int = c"ldap_set_option";
        get_option: unsafe extern "C" fn(Handle, c_int, *mut c_void) -> c_int = c"ldap_get_option";
        start_tls: unsafe extern "C" fn(Handle, *mut Control, *mut Control) -> c_int = c"ldap_start_tls_s";
        sasl_bind: unsafe extern "C" fn(
            Handle, *const c_char, *const c_char, *const BerValue, *mut Control, *mut Control, *mut *mut BerValue,
        ) -> c_int = c"ldap_sasl_bind_s";
        interactive_bind: unsafe extern "C" fn(
            Handle, *const c_char, *const c_char, *mut Control, *mut Control, u32, ldap_sasl::Interact, *mut c_void,
        ) -> c_int = c"ldap_sasl_interactive_bind_s";
        search: unsafe extern "C" fn(
            Handle, *const c_char, c_int, *const c_char, *const *const c_char, c_int, *mut Control, *mut Control,
            *mut libc::timeval, c_int, *mut Message,
        ) -> c_int = c"ldap_search_ext_s";
        first_entry: unsafe extern "C" fn(Handle, Message) -> Message = c"ldap_first_entry";
        next_entry: unsafe extern "C" fn(Handle, Message) -> Message = c"ldap_next_entry";
        get_dn: unsafe extern "C" fn(Handle, Message) -> *mut c_char = c"ldap_get_dn";
        get_values: unsafe extern "C" fn(Handle, Message, *const c_char) -> *mut *mut BerValue = c"ldap_get_values_len";
        free_values: unsafe extern "C" fn(*mut *mut BerValue) = c"ldap_value_free_len";
        free_message: unsafe extern "C" fn(Message) -> c_int = c"ldap_msgfree";
        free_memory: unsafe extern "C" fn(*mut c_void) = c"ldap_memfree";
        create_page: unsafe extern "C" fn(Handle, c_int, *mut BerValue, c_int, *mut Control) -> c_int
            = c"ldap_create_page_control";
        parse_result: unsafe extern "C" fn(
            Handle, Message, *mut c_int, *mut *mut c_char, *mut *mut c_char, *mut *mut *mut c_char, *mut *mut Control, c_int,
        ) -> c_int = c"ldap_parse_result";
        find_control: unsafe extern "C" fn(*const c_char, *mut Control, *mut *mut Control) -> Control = c"ldap_control_find";
        parse_page: unsafe extern "C" fn(Handle, Control, *mut c_int, *mut BerValue) -> c_int
            = c"ldap_parse_pageresponse_control";
        free_controls: unsafe extern "C" fn(*mut Control) = c"ldap_controls_free";
        free_control: unsafe extern "C" fn(Control) = c"ldap_control_free";
        unbind: unsafe extern "C" fn(Handle, *mut Control, *mut Control) -> c_int = c"ldap_unbind_ext_s";
        error_text: unsafe extern "C" fn(c_int) -> *const c_char = c"ldap_err2string";
    }
}

/// The library.
#[derive(Clone, Copy)]
pub struct Ldap(Functions);

impl std::fmt::Debug for Ldap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ldap")
    }
}

/// Error of the library or of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LdapError {
    /// The result code; negative ones are from the library.
    pub code: i32,
    /// Meaning of the code, with the text that the server has added.
    pub text: String,
}

impl std::fmt::Display for LdapError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl LdapError {
    fn new(code: i32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// Returns whether there is no entry with the DN that was searched.
    pub fn is_no_object(&self) -> bool {
        // noSuchObject, and invalidDNSyntax for what is no DN.
        matches!(self.code, 32 | 34)
    }

    /// Returns whether the server has more entries than it gives at once: sizeLimitExceeded, adminLimitExceeded.
    pub fn is_limit(&self) -> bool {
        matches!(self.code, 4 | 11)
    }

    /// Returns whether the server did not answer in time: LDAP_TIMEOUT, timeLimitExceeded.
    pub fn is_timeout(&self) -> bool {
        matches!(self.code, -5 | 3)
    }

    /// Returns whether no connection was made, or none that is secure: LDAP_SERVER_DOWN, CONNECT_ERROR.
    pub fn is_no_connection(&self) -> bool {
        matches!(self.code, -1 | -11)
    }

    /// Returns whether the connection cannot be used any more, or the server is not able to answer: another connection may
    /// help.
    pub fn is_lost(&self) -> bool {
        // LDAP_SERVER_DOWN, LOCAL_ERROR, ENCODING, DECODING, TIMEOUT, CONNECT_ERROR; operationsError, busy, unavailable.
        matches!(self.code, -1 | -2 | -3 | -4 | -5 | -11 | 1 | 51 | 52)
    }
}

/// An entry that a search has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its DN.
    pub dn: Vec<u8>,
    /// The values of each attribute that was asked for, in that order.
    pub values: Vec<Vec<Vec<u8>>>,
}

/// Base, scope, filter and attributes of a search.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// The DN below which it looks; `None` for the library's default base.
    pub base: Option<&'a [u8]>,
    /// Whether it looks at that entry alone.
    pub only_base: bool,
    /// Filter for entries.
    pub filter: &'a [u8],
    /// The attributes that it returns.
    pub attributes: &'a [&'a [u8]],
    /// How long it may take.
    pub within: Duration,
}

/// Results of a search.
#[derive(Debug, Default)]
pub struct Found {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Why there are not all of them.
    pub error: Option<LdapError>,
}

impl Ldap {
    /// Loads the library.
    ///
    /// # Errors
    /// It is not installed, or lacks a function: the message says which package has it.
    pub fn load() -> Result<Self, String> {
        // SAFETY: the names are those of OpenLDAP's library, and the types are those of its header.
        let found = Library::open(NAMES).and_then(|library| unsafe { Functions::find(library) });
        found.map(Self).map_err(|error| {
            format!("LDAP needs the library libldap (package libldap2, libldap-2.5-0 or openldap): {error}")
        })
    }

    /// Sets the client's certificate and its key for all connections that are made later.
    pub fn set_certificate(self, certificate: &[u8], key: &[u8]) {
        for (option, path) in [(OPT_TLS_CERTFILE, certificate), (OPT_TLS_KEYFILE, key)] {
            if let Ok(path) = CString::new(path) {
                // SAFETY: these options take a C string, which is copied; a null handle sets the defaults.
                unsafe { (self.0.set_option)(ptr::null_mut(), option, path.as_ptr().cast()) };
            }
        }
    }

    /// Sets the bit mask for debug output.
    pub fn set_debug(self, level: u32) {
        let level = c_int::from_ne_bytes(level.to_ne_bytes());
        // SAFETY: the option takes a pointer to an int.
        unsafe { (self.0.set_option)(ptr::null_mut(), OPT_DEBUG_LEVEL, (&raw const level).cast()) };
    }

    /// Prepares a connection to `uri`, or to the default server of ldap.conf(5). It is made by the first operation.
    ///
    /// # Errors
    /// The URI is none that the library knows.
    pub fn connect(
        self,
        uri: Option<&[u8]>,
        network_timeout: Duration,
        timeout: Duration,
    ) -> Result<Connection, LdapError> {
        let uri = uri.map(text).transpose()?;
        let mut handle = ptr::null_mut();
        // SAFETY: the handle is written; a null URI means the default server.
        let code =
            unsafe { (self.0.initialize)(&raw mut handle, uri.as_ref().map_or(ptr::null(), |uri| uri.as_ptr())) };
        let handle = NonNull::new(handle).ok_or_else(|| LdapError::new(code, self.describe(code)))?;
        let connection = Connection { functions: self.0, handle };
        connection.set(OPT_PROTOCOL_VERSION, &VERSION3);
        connection.set(OPT_NETWORK_TIMEOUT, &timeval(network_timeout));
        connection.set_timeout(timeout);
        // Restart interrupted system calls; do not follow referrals, which would need a login of their own.
        connection.set_flag(OPT_RESTART, true);
        connection.set_flag(OPT_REFERRALS, false);
        Ok(connection)
    }

    fn describe(self, code: c_int) -> String {
        // SAFETY: the function returns a static C string for any number, or null.
        unsafe {
            let text = (self.0.error_text)(code);
            if text.is_null() { format!("error {code}") } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        }
    }
}

/// A connection. It is closed when the value is dropped.
pub struct Connection {
    functions: Functions,
    handle: NonNull<c_void>,
}

// SAFETY: a handle may be used by any thread, one at a time, which `&mut` and the absence of `Sync` guarantee.
unsafe impl Send for Connection {}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the handle is used here for the last time.
        unsafe { (self.functions.unbind)(self.handle.as_ptr(), ptr::null_mut(), ptr::null_mut()) };
    }
}

impl Connection {
    fn set<T>(&self, option: c_int, value: &T) {
        // SAFETY: the callers pass the type that the option takes; the value is copied.
        unsafe { (self.functions.set_option)(self.handle.as_ptr(), option, ptr::from_ref(value).cast()) };
    }

    fn set_flag(&self, option: c_int, on: bool) {
        // LDAP_OPT_ON is any pointer but null.
        let value = if on { self.handle.as_ptr().cast_const() } else { ptr::null() };
        // SAFETY: the value of these options is a flag, and the pointer is not followed.
        unsafe { (self.functions.set_option)(self.handle.as_ptr(), option, value) };
    }

    /// Sets how long operations other than searches may take.
    pub fn set_timeout(&self, timeout: Duration) {
        self.set(OPT_TIMEOUT, &timeval(timeout));
    }

    /// Begins to encrypt the connection.
    ///
    /// # Errors
    /// The server does not, or its certificate is not trusted.
    pub fn start_tls(&mut self) -> Result<(), LdapError> {
        // SAFETY: the handle is valid, and there are no controls.
        self.check(unsafe { (self.functions.start_tls)(self.handle.as_ptr(), ptr::null_mut(), ptr::null_mut()) })
    }

    /// Accepts any certificate of the server, to look at it: nothing secret may be sent over this connection.
    pub fn trust_any_certificate(&self) {
        const CLIENT: c_int = 0;
        self.set(OPT_TLS_REQUIRE_CERT, &TLS_NEVER);
        self.set(OPT_TLS_NEWCTX, &CLIENT);
    }

    /// Returns the certificate of the server, if the connection is encrypted. Libraries before OpenLDAP 2.5 do not tell.
    pub fn server_certificate(&self) -> Option<Vec<u8>> {
        let mut found = BerValue { length: 0, value: ptr::null_mut() };
        // SAFETY: the option writes a BerValue, whose value is null or a new allocation of that length.
        let code =
            unsafe { (self.functions.get_option)(self.handle.as_ptr(), OPT_TLS_PEERCERT, (&raw mut found).cast()) };
        let length = usize::try_from(found.length).ok().filter(|_| code == 0 && !found.value.is_null())?;
        // SAFETY: as above; it is copied, then freed by the library that has allocated it.
        unsafe {
            let copy = std::slice::from_raw_parts(found.value.cast::<u8>(), length).to_vec();
            (self.functions.free_memory)(found.value.cast());
            Some(copy)
        }
    }

    /// Logs in with DN and password; with neither, anonymously.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub fn bind(&mut self, dn: &[u8], password: &[u8]) -> Result<(), LdapError> {
        let dn = text(dn)?;
        let length = c_ulong::try_from(password.len()).unwrap_or(0);
        let credentials = BerValue { length, value: password.as_ptr().cast_mut().cast() };
        let mut answer = ptr::null_mut();
        // SAFETY: strings and password live through the call, which does not change them; without a mechanism the bind is a
        // simple one, and returns no credentials.
        self.check(unsafe {
            (self.functions.sasl_bind)(
                self.handle.as_ptr(),
                dn.as_ptr(),
                ptr::null(),
                &raw const credentials,
                ptr::null_mut(),
                ptr::null_mut(),
                &raw mut answer,
            )
        })
    }

    /// Logs in with a SASL mechanism.
    ///
    /// # Errors
    /// The server cannot be reached or refuses, or the mechanism is not installed.
    pub fn sasl_bind(&mut self, mechanism: &[u8], login: &Login) -> Result<(), LdapError> {
        const QUIET: u32 = 2;
        let mechanism = text(mechanism)?;
        // SAFETY: the login lives through the call, during which the callback gets it back as it is.
        self.check(unsafe {
            (self.functions.interactive_bind)(
                self.handle.as_ptr(),
                ptr::null(),
                mechanism.as_ptr(),
                ptr::null_mut(),
                ptr::null_mut(),
                QUIET,
                ldap_sasl::interact,
                ptr::from_ref(login).cast_mut().cast(),
            )
        })
    }

    /// Searches, and returns all entries at once.
    ///
    /// # Errors
    /// The search was not possible at all. If the server has given some entries and then an error, both are in the result.
    pub fn search(&mut self, search: &Search<'_>) -> Result<Found, LdapError> {
        let mut found = Found::default();
        self.search_part(search, &mut [ptr::null_mut()], &mut found).map(|_| found)
    }

    /// Searches, and gets the entries in pages of `size`.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_paged(&mut self, search: &Search<'_>, size: i32) -> Result<Found, LdapError> {
        let mut found = Found::default();
        let mut cookie = BerValue { length: 0, value: ptr::null_mut() };
        loop {
            let mut control = ptr::null_mut();
            // SAFETY: the cookie is empty or what the server has sent; the control is written.
            let code = unsafe {
                (self.functions.create_page)(self.handle.as_ptr(), size, &raw mut cookie, 1, &raw mut control)
            };
            self.free_cookie(&mut cookie);
            self.check(code)?;
            let result = self.search_part(search, &mut [control, ptr::null_mut()], &mut found);
            // SAFETY: the control was created above, and is not used any more.
            unsafe { (self.functions.free_control)(control) };
            cookie = result?;
            if cookie.length == 0 || found.error.is_some() {
                self.free_cookie(&mut cookie);
                return Ok(found);
            }
        }
    }

    fn free_cookie(&self, cookie: &mut BerValue) {
        if !cookie.value.is_null() {
            // SAFETY: the value was allocated by the library, and is forgotten now.
            unsafe { (self.functions.free_memory)(cookie.value.cast()) };
        }
        *cookie = BerValue { length: 0, value: ptr::null_mut() };
    }

    /// Adds the entries of one search to `found`. Returns the cookie for the next page.
    fn search_part(
        &mut self,
        search: &Search<'_>,
        controls: &mut [Control],
        found: &mut Found,
    ) -> Result<BerValue, LdapError> {
        let base = search.base.map(text).transpose()?;
        let filter = text(search.filter)?;
        let attributes: Vec<CString> = search.attributes.iter().map(|a| text(a)).collect::<Result<_, _>>()?;
        let names: Vec<*const c_char> = attributes.iter().map(|a| a.as_ptr()).chain([ptr::null()]).collect();
        let mut within = timeval(search.within);
        let mut result = ptr::null_mut();
        // SAFETY: all strings and the array, which ends with null, live through the call; so do the controls, which end with
        // null as well; the result is written.
        let code = unsafe {
            (self.functions.search)(
                self.handle.as_ptr(),
                base.as_ref().map_or(ptr::null(), |base| base.as_ptr()),
                if search.only_base { SCOPE_BASE } else { SCOPE_SUBTREE },
                filter.as_ptr(),
                names.as_ptr(),
                0,
                controls.as_mut_ptr(),
                ptr::null_mut(),
                &raw mut within,
                0,
                &raw mut result,
            )
        };
        let mut cookie = BerValue { length: 0, value: ptr::null_mut() };
        if !result.is_null() {
            self.read_entries(result, &attributes, found);
            if controls.len() > 1 {
                self.read_cookie(result, &mut cookie);
            }
            // SAFETY: the result is not used any more.
            unsafe { (self.functions.free_message)(result) };
        }
        match self.check(code) {
            Ok(()) => {}
            Err(error) if found.entries.is_empty() => {
                self.free_cookie(&mut cookie);
                return Err(error);
            }
            Err(error) => found.error = Some(error),
        }
        Ok(cookie)
    }

    fn read_entries(&self, result: Message, attributes: &[CString], found: &mut Found) {
        // SAFETY: the result is one of this handle.
        let mut entry = unsafe { (self.functions.first_entry)(self.handle.as_ptr(), result) };
        while !entry.is_null() {
            // SAFETY: the entry is part of the result.
            let dn = unsafe { (self.functions.get_dn)(self.handle.as_ptr(), entry) };
            let values = attributes.iter().map(|attribute| self.values(entry, attribute)).collect();
            let name = if dn.is_null() {
                Vec::new()
            } else {
                // SAFETY: it is a C string that the library has allocated; it is not used after this.
                unsafe {
                    let name = CStr::from_ptr(dn).to_bytes().to_vec();
                    (self.functions.free_memory)(dn.cast());
                    name
                }
            };
            found.entries.push(Entry { dn: name, values });
            // SAFETY: as above.
            entry = unsafe { (self.functions.next_entry)(self.handle.as_ptr(), entry) };
        }
    }

    fn values(&self, entry: Message, attribute: &CStr) -> Vec<Vec<u8>> {
        // SAFETY: the entry is part of a result of this handle.
        let array = unsafe { (self.functions.get_values)(self.handle.as_ptr(), entry, attribute.as_ptr()) };
        let mut values = Vec::new();
        if array.is_null() {
            return values;
        }
        let mut at = array;
        // SAFETY: the array ends with null, and each element points to a value with its length.
        unsafe {
            while !(*at).is_null() {
                let BerValue { length, value } = **at;
                let length = usize::try_from(length).unwrap_or(0);
                if !value.is_null() {
                    values.push(std::slice::from_raw_parts(value.cast::<u8>(), length).to_vec());
                }
                at = at.add(1);
            }
            (self.functions.free_values)(array);
        }
        values
    }

    /// Reads the cookie of a page, if the server has sent one.
    fn read_cookie(&self, result: Message, cookie: &mut BerValue) {
        let (mut code, mut controls) = (0, ptr::null_mut());
        let none = ptr::null_mut::<*mut c_char>();
        // SAFETY: the result is one of this handle, and stays valid; what is not wanted is null.
        let parsed = unsafe {
            (self.functions.parse_result)(
                self.handle.as_ptr(),
                result,
                &raw mut code,
                none,
                none,
                ptr::null_mut(),
                &raw mut controls,
                0,
            )
        };
        if parsed != 0 || controls.is_null() {
            return;
        }
        // SAFETY: the controls were allocated by the call above; the cookie is written as a new allocation.
        unsafe {
            let control = (self.functions.find_control)(PAGED_RESULTS.as_ptr(), controls, ptr::null_mut());
            if !control.is_null() {
                let mut count = 0;
                (self.functions.parse_page)(self.handle.as_ptr(), control, &raw mut count, cookie);
            }
            (self.functions.free_controls)(controls);
        }
    }

    /// Makes a result of a code, with what the server has said about it.
    fn check(&self, code: c_int) -> Result<(), LdapError> {
        if code == 0 {
            return Ok(());
        }
        let mut text = Ldap(self.functions).describe(code);
        let mut said: *mut c_char = ptr::null_mut();
        let mut last: c_int = 0;
        // SAFETY: the options write an int and a pointer to a new C string or null.
        unsafe {
            (self.functions.get_option)(self.handle.as_ptr(), OPT_RESULT_CODE, (&raw mut last).cast());
            (self.functions.get_option)(self.handle.as_ptr(), OPT_DIAGNOSTIC_MESSAGE, (&raw mut said).cast());
            if !said.is_null() {
                if last == code && *said != 0 {
                    text = format!("{text}: {}", CStr::from_ptr(said).to_string_lossy());
                }
                (self.functions.free_memory)(said.cast());
            }
        }
        Err(LdapError::new(code, text))
    }
}

/// A C string. LDAP_PARAM_ERROR for a text with a NUL byte.
fn text(bytes: &[u8]) -> Result<CString, LdapError> {
    CString::new(bytes).map_err(|_| LdapError::new(-9, "a NUL byte in a name"))
}

#[allow(clippy::unnecessary_fallible_conversions, reason = "the type of tv_usec depends on the target")]
fn timeval(duration: Duration) -> libc::timeval {
    // Zero would mean to wait for ever.
    let duration = duration.max(Duration::from_millis(1));
    libc::timeval {
        tv_sec: duration.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        // Less than a million.
        tv_usec: duration.subsec_micros().try_into().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_of_classes() {
        let is = |code, class: fn(&LdapError) -> bool| class(&LdapError::new(code, ""));
        assert!(is(-1, LdapError::is_lost) && is(32, LdapError::is_no_object) && is(4, LdapError::is_limit));
        assert!(!is(49, LdapError::is_lost) && is(-5, LdapError::is_timeout));
        assert_eq!(timeval(Duration::ZERO).tv_usec, 1000);
        assert_eq!(timeval(Duration::from_millis(2500)).tv_sec, 2);
    }
}
