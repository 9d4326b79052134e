//! Mounts with the credentials of the requester.

use std::borrow::Cow;

use super::settings::Settings;
use crate::engine::Requester;
use crate::plan::FsMount;

/// Options that say whose credentials are used. An entry with one of them keeps it.
const NAMED: [&[u8]; 5] = [b"cruid", b"credentials", b"cred", b"username", b"user"];

/// Tells the helper of a type in `[helpers] requester_credentials` to look for the Kerberos tickets of the requester:
/// `cruid=UID`, mount.cifs(8). Root's own tickets are used for root.
pub(super) fn of_requester<'m>(mount: &'m FsMount, who: Requester, settings: &Settings) -> Cow<'m, FsMount> {
    let is_listed = settings.requester_credentials.iter().any(|fstype| fstype.as_bytes() == mount.fstype);
    let name = |word: &[u8]| word.split(|&b| b == b'=').next().unwrap_or_default().to_vec();
    let is_named = || mount.options.split(|&b| b == b',').any(|word| NAMED.contains(&&*name(word)));
    if !is_listed || who.uid == 0 || is_named() {
        return Cow::Borrowed(mount);
    }
    let mut options = mount.options.clone();
    if !options.is_empty() {
        options.push(b',');
    }
    options.extend_from_slice(format!("cruid={}", who.uid).as_bytes());
    Cow::Owned(FsMount { options, ..mount.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Propagation;

    fn options(fstype: &str, options: &str, uid: u32) -> String {
        let mount = FsMount {
            fstype: fstype.into(),
            source: b"//srv/x".to_vec(),
            options: options.into(),
            propagation: Propagation::Slave,
            fsck: None,
            server: None,
            limit: None,
        };
        let settings = Settings { requester_credentials: vec!["cifs".into()], ..Settings::default() };
        let who = Requester { uid, ..Requester::default() };
        String::from_utf8(of_requester(&mount, who, &settings).options.clone()).unwrap()
    }

    #[test]
    fn the_requester_is_named_unless_the_entry_names_somebody() {
        assert_eq!(options("cifs", "sec=krb5", 1000), "sec=krb5,cruid=1000");
        assert_eq!(options("cifs", "", 1000), "cruid=1000");
        assert_eq!(options("cifs", "sec=krb5", 0), "sec=krb5");
        assert_eq!(options("nfs", "sec=krb5", 1000), "sec=krb5");
        for own in ["cruid=7", "credentials=/etc/smb", "user=joe", "username=joe,ro"] {
            assert_eq!(options("cifs", own, 1000), own);
        }
    }
}
