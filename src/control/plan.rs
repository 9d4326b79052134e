//! A plan in the format of the control interface: the same tree, with each action as a list of attempts.

use std::os::unix::ffi::OsStrExt as _;

use serde::{Deserialize, Serialize};

use super::Bytes;
use crate::map::SourceSpec;
use crate::plan::{Action, Leads, MountedBy, Plan};

/// The action at a path, and the offsets below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanTree {
    /// The path.
    pub at: Bytes,
    /// The attempts, tried in order until one succeeds. If empty, only directories are created.
    pub attempts: Vec<Attempt>,
    /// Whether the entry fails if any part of it fails.
    pub strict: bool,
    /// The paths that are reached before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Bytes>,
    /// The offset mounts below the path.
    pub offsets: Vec<PlanTree>,
}

/// One attempt to mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The file system type; or `bind`, `symlink`, or `autofs` for a submount.
    pub fstype: Bytes,
    /// The source of the mount, the target of the link, or the map of the submount.
    pub source: Bytes,
    /// The mount options, separated by commas.
    pub options: Bytes,
}

impl PlanTree {
    /// Calls `change` for every attempt.
    pub fn for_each_attempt(&mut self, change: &mut dyn FnMut(&mut Attempt)) {
        self.attempts.iter_mut().for_each(&mut *change);
        self.offsets.iter_mut().for_each(|offset| offset.for_each_attempt(change));
    }
}

impl From<&Plan> for PlanTree {
    fn from(plan: &Plan) -> Self {
        let attempts = attempts(&plan.action);
        Self {
            at: plan.at.as_os_str().as_bytes().into(),
            attempts,
            strict: plan.strict,
            requires: plan.requires.iter().map(|path| path.as_os_str().as_bytes().into()).collect(),
            offsets: plan.offsets.iter().map(|offset| Self::from(&**offset)).collect(),
        }
    }
}

/// Returns the attempts that an action makes, in order.
pub(crate) fn attempts(action: &Action) -> Vec<Attempt> {
    let attempt = |fstype: &[u8], source: &[u8], options: &[u8]| Attempt {
        fstype: fstype.into(),
        source: source.into(),
        options: options.into(),
    };
    match action {
        Action::Nothing => Vec::new(),
        Action::Mount(mounts) => mounts.iter().map(|m| attempt(&m.fstype, &m.source, &m.options)).collect(),
        Action::Symlink(text) => vec![attempt(b"symlink", text, b"")],
        Action::Autofs(submount) => {
            vec![attempt(b"autofs", &map_name(&submount.source), &submount.options.mount_options)]
        }
        Action::Leads(leads) => {
            let of = |lead: &Leads| -> Vec<Attempt> {
                let mut all = match lead.external.as_ref().map(|external| &external.by) {
                    None => Vec::new(),
                    Some(MountedBy::Mounts(mounts)) => attempts(&Action::Mount(mounts.clone())),
                    Some(MountedBy::Command { mount, .. }) => {
                        let arguments = mount.arguments.get(1..).unwrap_or_default();
                        let words = std::iter::once(&mount.program).chain(arguments).cloned().collect::<Vec<_>>();
                        vec![attempt(b"program", &words.join(&b' '), b"")]
                    }
                };
                all.extend(lead.ways.iter().flat_map(attempts));
                all
            };
            leads.iter().flat_map(of).collect()
        }
    }
}

/// Formats a map like in a master map: `file:/etc/auto.home`, `auto.home`, `-hosts`.
pub fn map_name(spec: &SourceSpec) -> Vec<u8> {
    use crate::map::SourceKind;
    match spec.kind {
        Some(kind @ (SourceKind::Hosts | SourceKind::Null)) => format!("-{}", kind.name()).into_bytes(),
        Some(SourceKind::Multi) => {
            let parts: Vec<_> = spec.parts.iter().map(|(part, _)| map_name(part)).collect();
            [&b"multi "[..], &parts.join(&b" -- "[..])].concat()
        }
        Some(kind) => [kind.name().as_bytes(), b":", &spec.name].concat(),
        None => spec.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::map::{Propagation, SourceKind};
    use crate::plan::FsMount;

    fn spec(kind: Option<SourceKind>, name: &[u8]) -> SourceSpec {
        SourceSpec { kind, format: None, name: name.to_vec(), parts: Vec::new(), lists: false }
    }

    #[test]
    fn a_plan_becomes_a_tree_of_attempts() {
        let leaf = |at: &str, action| Plan {
            at: at.into(),
            action,
            offsets: Vec::new(),
            strict: false,
            timeout: None,
            requires: Vec::new(),
        };
        let mount = FsMount {
            fstype: b"nfs".to_vec(),
            source: b"srv:/x".to_vec(),
            options: b"ro".to_vec(),
            propagation: Propagation::Slave,
            fsck: None,
            server: None,
            limit: None,
        };
        let plan = Plan {
            offsets: vec![Arc::new(leaf("/m/k/sub", Action::Mount(vec![mount.clone(), mount])))],
            ..leaf("/m/k", Action::Symlink(b"/there".to_vec()))
        };
        let tree = PlanTree::from(&plan);
        assert_eq!(tree.attempts[0].source.0, b"/there");
        assert_eq!(tree.offsets[0].attempts.len(), 2);
        assert_eq!(tree.offsets[0].attempts[0].options.0, b"ro");
    }

    #[test]
    fn maps_are_named_as_in_a_master_map() {
        assert_eq!(map_name(&spec(Some(SourceKind::File), b"/etc/x")), b"file:/etc/x");
        assert_eq!(map_name(&spec(None, b"auto.home")), b"auto.home");
        assert_eq!(map_name(&spec(Some(SourceKind::Hosts), b"")), b"-hosts");
    }
}
