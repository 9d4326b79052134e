//! Kerberos tickets from a keytab, through the system's libkrb5.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use super::library::{Library, functions};

type Context = *mut c_void;
type Principal = *mut c_void;
type Keytab = *mut c_void;
type Cache = *mut c_void;

/// More than `krb5_creds` takes on any machine (120 bytes on those with 64 bits); the library fills it.
#[repr(C, align(16))]
struct Credentials([u8; 1024]);

functions! {
    /// Functions of the library that are used.
    Functions {
        init_context: unsafe extern "C" fn(*mut Context) -> c_int = c"krb5_init_context";
        free_context: unsafe extern "C" fn(Context) = c"krb5_free_context";
        parse_name: unsafe extern "C" fn(Context, *const c_char, *mut Principal) -> c_int = c"krb5_parse_name";
        free_principal: unsafe extern "C" fn(Context, Principal) = c"krb5_free_principal";
        default_keytab: unsafe extern "C" fn(Context, *mut Keytab) -> c_int = c"krb5_kt_default";
        close_keytab: unsafe extern "C" fn(Context, Keytab) -> c_int = c"krb5_kt_close";
        get_credentials: unsafe extern "C" fn(
            Context, *mut Credentials, Principal, Keytab, c_int, *const c_char, *mut c_void,
        ) -> c_int = c"krb5_get_init_creds_keytab";
        free_credentials: unsafe extern "C" fn(Context, *mut Credentials) = c"krb5_free_cred_contents";
        resolve_cache: unsafe extern "C" fn(Context, *const c_char, *mut Cache) -> c_int = c"krb5_cc_resolve";
        initialize_cache: unsafe extern "C" fn(Context, Cache, Principal) -> c_int = c"krb5_cc_initialize";
        store: unsafe extern "C" fn(Context, Cache, *mut Credentials) -> c_int = c"krb5_cc_store_cred";
        close_cache: unsafe extern "C" fn(Context, Cache) -> c_int = c"krb5_cc_close";
        cache_principal: unsafe extern "C" fn(Context, Cache, *mut Principal) -> c_int = c"krb5_cc_get_principal";
        compare: unsafe extern "C" fn(Context, Principal, Principal) -> c_int = c"krb5_principal_compare";
        message: unsafe extern "C" fn(Context, c_int) -> *const c_char = c"krb5_get_error_message";
        free_message: unsafe extern "C" fn(Context, *const c_char) = c"krb5_free_error_message";
    }
}

/// A context of the library, for one thread.
pub struct Krb5 {
    functions: Functions,
    context: Context,
}

impl std::fmt::Debug for Krb5 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Krb5")
    }
}

impl Drop for Krb5 {
    fn drop(&mut self) {
        // SAFETY: the context is used here for the last time.
        unsafe { (self.functions.free_context)(self.context) };
    }
}

impl Krb5 {
    /// Loads the library and reads krb5.conf(5).
    ///
    /// # Errors
    /// The library is not installed, or the configuration cannot be used.
    pub fn load() -> Result<Self, String> {
        // SAFETY: the library is MIT Kerberos, whose header declares these functions.
        let found = Library::open(&["libkrb5.so.3"]).and_then(|library| unsafe { Functions::find(library) });
        let functions = found.map_err(|error| format!("GSSAPI needs the library libkrb5: {error}"))?;
        let mut context = ptr::null_mut();
        // SAFETY: the context is written.
        let code = unsafe { (functions.init_context)(&raw mut context) };
        if code != 0 || context.is_null() {
            return Err(format!("krb5.conf cannot be used: error {code}"));
        }
        Ok(Self { functions, context })
    }

    fn check(&self, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the library returns a C string for any code, which is freed after it was copied.
        unsafe {
            let message = (self.functions.message)(self.context, code);
            if message.is_null() {
                return Err(format!("Kerberos error {code}"));
            }
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            (self.functions.free_message)(self.context, message);
            Err(text)
        }
    }

    /// Gets a ticket for `principal` from the default keytab, and puts it into `cache`, whose earlier content is replaced.
    ///
    /// # Errors
    /// The keytab lacks the principal, no KDC answers, or it refuses: what is in the cache stays.
    pub fn ticket(&self, principal: &[u8], cache: &CStr) -> Result<(), String> {
        let name = CString::new(principal).map_err(|_| "a NUL byte in the principal".to_owned())?;
        let mut principal = ptr::null_mut();
        // SAFETY: the principal is written, and freed below.
        self.check(unsafe { (self.functions.parse_name)(self.context, name.as_ptr(), &raw mut principal) })?;
        let result = self.ticket_of(principal, cache);
        // SAFETY: it was allocated above.
        unsafe { (self.functions.free_principal)(self.context, principal) };
        result
    }

    fn ticket_of(&self, principal: Principal, cache: &CStr) -> Result<(), String> {
        let f = &self.functions;
        let mut keytab = ptr::null_mut();
        // SAFETY: the keytab is written, and closed below.
        self.check(unsafe { (f.default_keytab)(self.context, &raw mut keytab) })?;
        let mut credentials = Credentials([0; 1024]);
        // SAFETY: the structure is large enough for the library's, and zeroed as it expects; start time, service and options
        // are the defaults.
        let got = unsafe {
            let code = (f.get_credentials)(
                self.context,
                &raw mut credentials,
                principal,
                keytab,
                0,
                ptr::null(),
                ptr::null_mut(),
            );
            (f.close_keytab)(self.context, keytab);
            code
        };
        self.check(got)?;
        let mut handle = ptr::null_mut();
        // SAFETY: the cache is written and closed; the credentials were filled in above and are freed.
        let stored = unsafe {
            let mut code = (f.resolve_cache)(self.context, cache.as_ptr(), &raw mut handle);
            if code == 0 {
                code = (f.initialize_cache)(self.context, handle, principal);
                if code == 0 {
                    code = (f.store)(self.context, handle, &raw mut credentials);
                }
                (f.close_cache)(self.context, handle);
            }
            (f.free_credentials)(self.context, &raw mut credentials);
            code
        };
        self.check(stored)
    }

    /// Checks that the credential cache `cache` belongs to `principal`.
    ///
    /// # Errors
    /// It is not, or there is no such cache.
    pub fn check_cache(&self, principal: &[u8], cache: &[u8]) -> Result<(), String> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| "a NUL byte in a name".to_owned());
        let (name, cache) = (text(principal)?, text(cache)?);
        let f = &self.functions;
        let (mut wanted, mut handle, mut has) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: what is written by one call is used by the next ones only if the call has succeeded, and freed at the end.
        unsafe {
            let mut code = (f.parse_name)(self.context, name.as_ptr(), &raw mut wanted);
            let mut same = false;
            if code == 0 {
                code = (f.resolve_cache)(self.context, cache.as_ptr(), &raw mut handle);
                if code == 0 {
                    code = (f.cache_principal)(self.context, handle, &raw mut has);
                    if code == 0 {
                        same = (f.compare)(self.context, wanted, has) != 0;
                        (f.free_principal)(self.context, has);
                    }
                    (f.close_cache)(self.context, handle);
                }
                (f.free_principal)(self.context, wanted);
            }
            self.check(code)?;
            if same {
                return Ok(());
            }
        }
        Err(format!("the credential cache is not that of {}", String::from_utf8_lossy(principal)))
    }
}
