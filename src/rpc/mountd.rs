//! The MOUNT protocol, RFC 1813 appendix I: of it, which directories a server exports.

use super::message::{Call, Credentials, Unix};
use super::xdr::{Reader, XdrError};

/// The program number.
pub const PROGRAM: u32 = 100_005;

/// The versions, in the order in which they are tried. EXPORT is the same in all of them.
pub const VERSIONS: [u32; 3] = [1, 3, 2];

/// The procedure EXPORT.
const EXPORT: u32 = 5;

/// The longest path of a directory, MNTPATHLEN of the protocol.
const PATH_MAX: usize = 1024;

/// The longest name of a group, MNTNAMLEN of the protocol.
const NAME_MAX: usize = 255;

/// Directories that are accepted of one server, at most.
pub const EXPORTS_MAX: usize = 1 << 17;

/// Bytes of a reply that are accepted, at most.
pub const REPLY_MAX: usize = 32 << 20;

/// Makes the call EXPORT.
pub fn export(version: u32, caller: Unix) -> Call {
    let credentials = Credentials::Unix(caller);
    Call { program: PROGRAM, version, procedure: EXPORT, credentials, arguments: Vec::new() }
}

/// Reads the results of EXPORT: the paths of the exported directories, as the server writes them. To whom they are exported
/// is left out: whether this machine may mount a directory is seen at the mount.
///
/// # Errors
/// The results are malformed, cut off, or longer than is allowed.
pub fn exports(results: &[u8]) -> Result<Vec<&[u8]>, XdrError> {
    let mut reader = Reader::new(results);
    let mut exports = Vec::new();
    while reader.boolean()? {
        if exports.len() >= EXPORTS_MAX {
            return Err(XdrError::TooLong);
        }
        exports.push(reader.bytes(PATH_MAX)?);
        // Each group has at least eight bytes, so that their number is bounded by the length of the reply.
        while reader.boolean()? {
            reader.bytes(NAME_MAX)?;
        }
    }
    Ok(exports)
}

#[cfg(test)]
mod tests {
    use super::super::xdr::Writer;
    use super::*;
    use proptest::prelude::*;

    fn encode(exports: &[(Vec<u8>, Vec<Vec<u8>>)]) -> Vec<u8> {
        let mut writer = Writer::default();
        for (path, groups) in exports {
            writer.number(1).bytes(path);
            groups.iter().for_each(|group| _ = writer.number(1).bytes(group));
            writer.number(0);
        }
        writer.number(0).finish()
    }

    #[test]
    fn an_endless_list_is_refused() {
        let one = [(b"/x".to_vec(), Vec::new())];
        let list = encode(&one);
        let endless = list[..list.len() - 4].repeat(EXPORTS_MAX + 1);
        assert_eq!(exports(&endless), Err(XdrError::TooLong));
        assert_eq!(exports(&list[..list.len() - 4]), Err(XdrError::Truncated));
        assert_eq!(exports(&encode(&[(vec![b'x'; PATH_MAX + 1], Vec::new())])), Err(XdrError::TooLong));
        assert_eq!(exports(&2_u32.to_be_bytes()), Err(XdrError::BadValue));
    }

    proptest! {
        #[test]
        fn lists_of_any_paths_and_groups(
            list in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..4)),
                0..9,
            ),
        ) {
            let encoded = encode(&list);
            let paths: Vec<_> = list.iter().map(|(path, _)| path.as_slice()).collect();
            prop_assert_eq!(exports(&encoded).unwrap(), paths);
            for end in 0..encoded.len() {
                prop_assert!(exports(&encoded[..end]).is_err());
            }
        }
    }
}
