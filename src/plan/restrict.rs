//! Restrictions of an entry by its provider: options that every mount gets, and the types that may be mounted.

use std::sync::Arc;

use super::{Action, External, FsMount, Leads, MountedBy, Plan};
use crate::map::{OptionList, Pattern, Provider};
use crate::text::{Diagnostic, Escaped, Position};

/// Restrictions of the entries of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restriction {
    /// Options of every mount. They replace what contradicts them.
    pub options: OptionList,
    /// The types that may be mounted; `None`: all. Bind mounts and symbolic links are of the type `bind`, maps in maps of the
    /// type `autofs`, commands of a map of the type `program`.
    pub types: Option<Vec<Pattern>>,
}

/// A type that may not be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden(pub Vec<u8>);

impl Forbidden {
    /// Says that the entry at `place` is refused, and what to write.
    pub fn diagnostic(&self, provider: Provider, place: &Position) -> Diagnostic {
        let (fstype, provider) = (Escaped(&self.0), provider.name());
        let message = format!(
            "the entry is refused: it needs the type {fstype}, which allowed_types in autofs.toml does not have for {provider}"
        );
        let help = format!("to allow it, add \"{fstype}\" to {provider} or others of allowed_types in [security]");
        Diagnostic::error("plan::forbidden", place.clone(), message).help(help)
    }
}

impl Restriction {
    /// Returns whether nothing is imposed.
    pub fn is_none(&self) -> bool {
        self.options.is_empty() && self.types.is_none()
    }

    /// Imposes it on a plan. Mounts of a forbidden type are left out where another one is tried as well.
    ///
    /// # Errors
    /// All mounts of some part of the plan are forbidden.
    pub fn impose(&self, plan: Arc<Plan>) -> Result<Arc<Plan>, Forbidden> {
        if self.is_none() {
            return Ok(plan);
        }
        let mut plan = Arc::unwrap_or_clone(plan);
        plan.action = self.action(plan.action)?;
        plan.offsets = plan.offsets.into_iter().map(|offset| self.impose(offset)).collect::<Result<_, _>>()?;
        Ok(Arc::new(plan))
    }

    fn action(&self, action: Action) -> Result<Action, Forbidden> {
        match action {
            Action::Nothing => {}
            Action::Mount(mounts) => return self.mounts(mounts).map(Action::Mount),
            Action::Symlink(_) => self.check(b"bind")?,
            Action::Autofs(_) => self.check(b"autofs")?,
            Action::Leads(leads) => {
                let leads = first_error_if_none_is_left(leads, |lead| self.lead(lead))?;
                return Ok(Action::Leads(leads));
            }
        }
        Ok(action)
    }

    fn lead(&self, lead: Leads) -> Result<Leads, Forbidden> {
        let external = match lead.external {
            Some(External { at, by: MountedBy::Mounts(mounts) }) => {
                Some(External { at, by: MountedBy::Mounts(self.mounts(mounts)?) })
            }
            Some(external) => {
                self.check(b"program")?;
                Some(external)
            }
            None => None,
        };
        // A way to a file system outside is no mount of its own.
        let ways = if external.is_some() {
            lead.ways
        } else {
            first_error_if_none_is_left(lead.ways, |way| self.action(way))?
        };
        Ok(Leads { external, ways, ..lead })
    }

    fn mounts(&self, mounts: Vec<FsMount>) -> Result<Vec<FsMount>, Forbidden> {
        first_error_if_none_is_left(mounts, |mount| self.mount(mount))
    }

    fn mount(&self, mount: FsMount) -> Result<FsMount, Forbidden> {
        self.check(&mount.fstype)?;
        let options = OptionList::parse(&mount.options);
        if self.types.is_some() {
            // With these words mount(8) does something else than to mount the type.
            for word in options.words() {
                match word {
                    b"bind" | b"rbind" => self.check(b"bind")?,
                    b"move" | b"remount" => return Err(Forbidden(word.to_vec())),
                    _ => {}
                }
            }
        }
        Ok(FsMount { options: self.with_options(&options), ..mount })
    }

    fn check(&self, fstype: &[u8]) -> Result<(), Forbidden> {
        match &self.types {
            Some(types) if !types.iter().any(|pattern| pattern.matches(fstype)) => Err(Forbidden(fstype.to_vec())),
            _ => Ok(()),
        }
    }

    /// Adds the options, in place of those that contradict them.
    fn with_options(&self, options: &OptionList) -> Vec<u8> {
        let mut kept = options.filter(|word| !self.options.words().any(|imposed| contradicts(imposed, word)));
        kept.push(self.options.as_bytes());
        kept.as_bytes().to_vec()
    }
}

/// Keeps what `check` accepts. If nothing is left, returns the first error.
fn first_error_if_none_is_left<T>(all: Vec<T>, check: impl Fn(T) -> Result<T, Forbidden>) -> Result<Vec<T>, Forbidden> {
    let mut first = None;
    let mut kept = Vec::with_capacity(all.len());
    for one in all {
        match check(one) {
            Ok(one) => kept.push(one),
            Err(error) => first = first.or(Some(error)),
        }
    }
    match first {
        Some(error) if kept.is_empty() => Err(error),
        _ => Ok(kept),
    }
}

/// Returns whether `word` says the contrary of an imposed option, or the same.
fn contradicts(imposed: &[u8], word: &[u8]) -> bool {
    let opposite = match imposed {
        b"ro" => Some(&b"rw"[..]),
        b"rw" => Some(&b"ro"[..]),
        _ => imposed.strip_prefix(b"no"),
    };
    let name = |word: &[u8]| word.split(|&b| b == b'=').next().unwrap_or_default().to_vec();
    opposite == Some(word) || word.strip_prefix(b"no") == Some(imposed) || name(imposed) == name(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{MasterOptions, Propagation, SourceSpec};
    use crate::plan::Submount;

    fn mount(fstype: &str, options: &str) -> FsMount {
        FsMount {
            fstype: fstype.into(),
            source: b"src".to_vec(),
            options: options.into(),
            propagation: Propagation::Slave,
            fsck: None,
            server: None,
            limit: None,
        }
    }

    fn plan(action: Action, offsets: Vec<Arc<Plan>>) -> Arc<Plan> {
        Arc::new(Plan { at: "/mnt/k".into(), action, offsets, strict: false, timeout: None, requires: Vec::new() })
    }

    fn restriction(options: &str, types: Option<&[&str]>) -> Restriction {
        let types = types.map(|types| types.iter().map(|&t| Pattern::try_from(t.to_owned()).unwrap()).collect());
        Restriction { options: OptionList::parse(options.as_bytes()), types }
    }

    fn forbidden(restriction: &Restriction, action: Action) -> String {
        String::from_utf8(restriction.impose(plan(action, Vec::new())).unwrap_err().0).unwrap()
    }

    #[test]
    fn options_are_added_in_place_of_their_contraries() {
        let imposed = restriction("nosuid,nodev,ro,context=x", None);
        for (options, expected) in [
            ("", "nosuid,nodev,ro,context=x"),
            ("suid,dev,rw,soft", "soft,nosuid,nodev,ro,context=x"),
            ("nosuid,noexec,context=y", "noexec,nosuid,nodev,ro,context=x"),
        ] {
            let offset = plan(Action::Mount(vec![mount("nfs", options)]), Vec::new());
            let whole = plan(Action::Mount(vec![mount("nfs", options)]), vec![offset]);
            let imposed = imposed.impose(whole).unwrap();
            for plan in [&imposed, &imposed.offsets[0]] {
                assert_eq!(plan.action, Action::Mount(vec![mount("nfs", expected)]));
            }
        }
    }

    #[test]
    fn types_that_are_not_listed_are_refused() {
        let nfs = restriction("", Some(&["nfs*", "fuse.sshfs"]));
        for (fstype, options) in [("nfs", ""), ("nfs4", "bindings"), ("fuse.sshfs", "")] {
            nfs.impose(plan(Action::Mount(vec![mount(fstype, options)]), Vec::new())).unwrap();
        }
        assert_eq!(forbidden(&nfs, Action::Mount(vec![mount("overlay", "")])), "overlay");
        assert_eq!(forbidden(&nfs, Action::Mount(vec![mount("nfs", "ro,rbind")])), "bind");
        assert_eq!(forbidden(&nfs, Action::Mount(vec![mount("nfs", "remount")])), "remount");
        assert_eq!(forbidden(&nfs, Action::Symlink(b"/x".to_vec())), "bind");
        let submount =
            Submount { source: SourceSpec::default(), options: MasterOptions::default(), prefix: Vec::new() };
        assert_eq!(forbidden(&nfs, Action::Autofs(Box::new(submount))), "autofs");
        let offset = plan(Action::Mount(vec![mount("tmpfs", "")]), Vec::new());
        let whole = plan(Action::Mount(vec![mount("nfs", "")]), vec![offset]);
        assert_eq!(nfs.impose(whole).unwrap_err().0, b"tmpfs");
    }

    #[test]
    fn a_directory_of_this_machine_is_left_out_where_its_server_may_be_asked() {
        let nfs = restriction("", Some(&["nfs"]));
        let both = plan(Action::Mount(vec![mount("bind", ""), mount("nfs", "")]), Vec::new());
        assert_eq!(nfs.impose(both).unwrap().action, Action::Mount(vec![mount("nfs", "")]));
    }

    #[test]
    fn locations_that_lead_outside_are_looked_at_as_well() {
        let nfs = restriction("nosuid", Some(&["nfs"]));
        let lead = |by| Leads {
            external: Some(External { at: "/a/x".into(), by }),
            exists: None,
            ways: vec![Action::Symlink(b"/a/x".to_vec())],
            decides: false,
        };
        let good = lead(MountedBy::Mounts(vec![mount("nfs", "suid")]));
        let command = crate::plan::Command { program: b"/bin/mount".to_vec(), arguments: Vec::new() };
        let program = lead(MountedBy::Command { mount: command, unmount: None });
        let whole = plan(Action::Leads(vec![program.clone(), good]), Vec::new());
        let expected = lead(MountedBy::Mounts(vec![mount("nfs", "nosuid")]));
        assert_eq!(nfs.impose(whole).unwrap().action, Action::Leads(vec![expected]));
        assert_eq!(forbidden(&nfs, Action::Leads(vec![program])), "program");
    }
}
