//! The input of a plan besides the entry: the position and path of the key, options of the master map and the configuration, and
//! facts about hosts.

use std::path::Path;

use super::dice::Dice;
use crate::map::{MasterOptions, OptionList, Pseudo};
use crate::text::{Diagnostic, Position};

/// The position and path of an entry, and the options above it.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The place of the key: `mountpoint/key`, or the key itself in a direct map.
    pub at: &'a Path,
    /// The key is an absolute path.
    pub direct: bool,
    /// Options of the line of the master map.
    pub master: &'a MasterOptions,
    /// `-O` of the command line.
    pub global: &'a OptionList,
    /// `append_options`: options of the entry are appended to those above it; else they replace them.
    pub append_options: bool,
    /// The entry is one of the hosts map: its mounts are `nosuid,nodev` unless something is said about that.
    pub hosts_map: bool,
    /// Random order of replicas with `-r`.
    pub dice: Dice,
    /// Entries in am-utils format lead to file systems outside by bind mounts, not by symbolic links.
    pub bind_links: bool,
    /// Position of the entry, for diagnostics.
    pub place: &'a Position,
}

impl Context<'_> {
    /// All options that hold for the entry (`own` are its own): the most general ones first, as the last one wins.
    pub(super) fn options(&self, own: &OptionList) -> OptionList {
        let master = OptionList::parse(&self.master.mount_options);
        if self.append_options {
            return OptionList::join(&OptionList::join(self.global, &master), own);
        }
        [own, &master, self.global].into_iter().find(|l| !l.is_empty()).cloned().unwrap_or_default()
    }

    /// Returns the options for the automounter in `options` and the line of the master map.
    pub(super) fn wishes<'a>(&self, options: &'a OptionList) -> Wishes<'a> {
        let wishes = Wishes::of(options);
        Wishes { nobind: wishes.nobind || self.master.nobind, symlink: wishes.symlink || self.master.symlink, ..wishes }
    }

    pub(super) fn error(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, self.place.clone(), message)
    }
}

/// Meaning of a host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// It has an address of ours: what it exports is a directory of this machine.
    Local {
        /// Its NFS server answers.
        serves: bool,
    },
    /// Another machine.
    Remote,
    /// No name server knows it.
    Unknown,
}

/// Facts about hosts: for each name of [`hosts`](super::hosts), IPv6 addresses without brackets.
pub type Facts<'a> = dyn Fn(&[u8]) -> Host + 'a;

/// Options of one mount that are for the automounter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wishes<'a> {
    /// The last `fstype=` wins; `nfs` without one.
    pub fstype: &'a [u8],
    pub strict: bool,
    pub nobind: bool,
    pub symlink: bool,
    /// `use-weight-only`, or the contrary, if one is said.
    pub weight_only: Option<bool>,
}

impl<'a> Wishes<'a> {
    fn of(options: &'a OptionList) -> Self {
        let mut wishes = Self { fstype: b"nfs", strict: false, nobind: false, symlink: false, weight_only: None };
        for word in options.words() {
            match word {
                b"use-weight-only" => wishes.weight_only = Some(true),
                b"no-use-weight-only" => wishes.weight_only = Some(false),
                _ => {}
            }
        }
        for pseudo in options.words().filter_map(Pseudo::of) {
            match pseudo {
                Pseudo::Fstype(fstype) if !fstype.is_empty() => wishes.fstype = fstype,
                Pseudo::Strict(strict) => wishes.strict = strict,
                Pseudo::NoBind => wishes.nobind = true,
                Pseudo::Symlink => wishes.symlink = true,
                _ => {}
            }
        }
        wishes
    }

    /// NFS, where hosts count, and a directory of this machine need not be mounted by it.
    pub(super) fn is_nfs(&self) -> bool {
        matches!(self.fstype, b"nfs" | b"nfs4")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_options_come_first_or_are_replaced() {
        let master = MasterOptions { mount_options: b"ro".to_vec(), ..MasterOptions::default() };
        let none = MasterOptions::default();
        let global = OptionList::parse(b"soft,timeo=7");
        let place = Position::whole(Path::new("/etc/auto.test"));
        for (append_options, master, own, want) in [
            (true, &master, "intr", "soft,timeo=7,ro,intr"),
            (true, &master, "", "soft,timeo=7,ro"),
            (true, &none, "", "soft,timeo=7"),
            (false, &master, "intr", "intr"),
            (false, &master, "", "ro"),
            (false, &none, "", "soft,timeo=7"),
        ] {
            let at = Path::new("/mnt/k");
            let ctx = Context {
                at,
                direct: false,
                master,
                global: &global,
                append_options,
                hosts_map: false,
                dice: Dice::default(),
                bind_links: true,
                place: &place,
            };
            assert_eq!(ctx.options(&OptionList::parse(own.as_bytes())).as_bytes(), want.as_bytes());
        }
    }

    #[test]
    fn the_last_word_wins() {
        let options = OptionList::parse(b"fstype=nfs4,strict,ro,fstype=ext4,nonstrict,fstype=");
        let wishes = Wishes::of(&options);
        assert_eq!((wishes.fstype, wishes.strict), (&b"ext4"[..], false));
    }
}
