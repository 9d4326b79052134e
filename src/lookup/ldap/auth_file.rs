//! Reads `autofs_ldap_auth.conf`, which holds passwords and must not be readable for others.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::directory::auth::Auth;
use crate::sys::path;
use crate::text::Escaped;

/// Bytes of the file at most.
const LONGEST: u64 = 64 << 10;

/// Reads the file. If there is none, neither TLS nor a login is asked for.
///
/// # Errors
/// The file must not be used as it is. The message says what to do.
pub(super) fn read(file: &[u8]) -> Result<Auth, String> {
    if file.is_empty() {
        return Ok(Auth::default());
    }
    let name = Escaped(file);
    let opened = match path::open_to_read(Path::new(OsStr::from_bytes(file))) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Auth::default()),
        Err(error) => return Err(format!("cannot read {name}: {error}")),
    };
    let stat = path::fstat(opened.as_fd()).map_err(|error| format!("cannot read {name}: {error}"))?;
    if !stat.is_file() {
        return Err(format!("{name} is not a regular file"));
    }
    if stat.uid != 0 || stat.gid != 0 || stat.mode & 0o7777 != 0o600 {
        return Err(format!(
            "{name} must belong to root:root and have mode 0600: run chown root:root and chmod 600 on it"
        ));
    }
    let mut text = Vec::new();
    opened.take(LONGEST).read_to_end(&mut text).map_err(|error| format!("cannot read {name}: {error}"))?;
    Auth::parse(&text).map_err(|error| format!("{name}: {error}"))
}
