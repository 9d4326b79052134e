//! The paths that an entry requires: `requires=/path` among its options, or among those of its mount point.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::context::Context;
use crate::map::{Entry, OptionList, Pseudo};
use crate::text::{Diagnostic, Escaped};

/// Returns the paths that are to be reached before an entry is mounted, in their order, each once.
///
/// A path that the mount point requires is required by all its entries, except by those through which it leads.
///
/// # Errors
/// One of them is no absolute path, or the entry requires itself.
pub(super) fn of(entry: &Entry, ctx: &Context<'_>) -> Result<Vec<PathBuf>, Diagnostic> {
    let general = [ctx.global.clone(), OptionList::parse(&ctx.master.mount_options)];
    let mut all: Vec<PathBuf> = Vec::new();
    for (options, is_own) in general.iter().map(|options| (options, false)).chain([(&entry.options, true)]) {
        for text in options.words().filter_map(path_of) {
            let path = Path::new(OsStr::from_bytes(text));
            let is_plain = path.components().all(|c| matches!(c, Component::Normal(_) | Component::RootDir));
            let shown = Escaped(text);
            if !path.is_absolute() || !is_plain || path.parent().is_none() {
                let error = ctx.error("plan::requires", format!("the entry requires \"{shown}\", which is no path"));
                return Err(error.help("write requires=/path, without . and .. in it"));
            }
            if path.starts_with(ctx.at) {
                if is_own {
                    let error = ctx.error("plan::requires", format!("the entry requires itself: {shown}"));
                    return Err(error.help("leave it out, or name a path of another entry"));
                }
                continue;
            }
            // Components without doubled slashes.
            let path: PathBuf = path.components().collect();
            if !all.contains(&path) {
                all.push(path);
            }
        }
    }
    Ok(all)
}

fn path_of(word: &[u8]) -> Option<&[u8]> {
    if let Some(Pseudo::Requires(path)) = Pseudo::of(word) { Some(path) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Body, MasterOptions};
    use crate::plan::Dice;
    use crate::text::Position;

    fn required(master: &str, own: &str) -> Result<Vec<String>, String> {
        let master = MasterOptions { mount_options: master.as_bytes().to_vec(), ..MasterOptions::default() };
        let place = Position::whole(Path::new("/etc/auto.test"));
        let context = Context {
            at: Path::new("/mnt/k"),
            direct: false,
            master: &master,
            global: &OptionList::default(),
            append_options: false,
            hosts_map: false,
            dice: Dice::default(),
            bind_links: true,
            place: &place,
        };
        let entry = Entry { options: OptionList::parse(own.as_bytes()), body: Body::Single(Vec::new()) };
        let paths = of(&entry, &context).map_err(|error| error.message)?;
        Ok(paths.into_iter().map(|path| path.to_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn those_of_the_mount_point_come_first() {
        let required = |master, own| required(master, own).unwrap();
        assert_eq!(required("ro,requires=/keys", "rw,requires=/data//x,requires=/keys"), ["/keys", "/data/x"]);
        assert_eq!(required("requires=/mnt/k/keys,requires=/mnt/other", ""), ["/mnt/other"]);
        assert_eq!(required("", "soft"), [""; 0]);
    }

    #[test]
    fn what_cannot_be_required() {
        for (own, message) in [
            ("requires=keys", "the entry requires \"keys\", which is no path"),
            ("requires=", "the entry requires \"\", which is no path"),
            ("requires=/a/../b", "the entry requires \"/a/../b\", which is no path"),
            ("requires=/mnt/k/x", "the entry requires itself: /mnt/k/x"),
        ] {
            assert_eq!(required("", own).unwrap_err(), message);
        }
    }
}
