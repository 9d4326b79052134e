//! Paths below an entry: the offsets of a multi-mount, and the submounts that an access would make.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::daemon::jobs::question::{Line, Question};
use crate::daemon::jobs::resolve::Explained;
use crate::daemon::jobs::submount;
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::mounts::AutofsMount;
use crate::daemon::worker::Worker;
use crate::engine::{EntryId, Key, Kind, MountId};
use crate::plan::{Action, Plan};
use crate::source::{Mode, open_below};

/// Returns the entry of a map that an offset mount belongs to; for other mounts, the given entry itself.
pub(super) fn entry_of_map(worker: &Worker, id: MountId, mount: AutofsMount, key: Key) -> (EntryId, AutofsMount) {
    let (mut at, mut mount) = (EntryId { mount: id, key }, mount);
    while mount.kind == Kind::Offset {
        let owner = worker.view(|engine| engine.mount(at.mount)?.parent().map(|(id, key)| (id, key.clone())));
        let above = owner.and_then(|(id, key)| Some((EntryId { mount: id, key }, worker.mounts.get(id)?)));
        let Some(above) = above else { break };
        (at, mount) = above;
    }
    (at, mount)
}

/// Returns the part of a plan at or above `path`, the deepest one.
pub(super) fn deepest<'a>(plan: &'a Plan, path: &Path) -> &'a Plan {
    let below = plan.offsets.iter().find(|offset| path.starts_with(&offset.at));
    below.map_or(plan, |offset| deepest(offset, path))
}

/// Returns what an access to `path` would ask the map of a submount that it would make. Returns `None` if it makes none, or ends
/// at its mount point. Nothing is put in force.
pub(super) fn in_submount(above: &Question, explained: &Explained, path: &Path) -> Option<Question> {
    let plan = deepest(explained.plan.as_deref()?, path);
    let Action::Autofs(wanted) = &plan.action else { return None };
    let key = path.strip_prefix(&plan.at).ok()?.iter().next()?;
    let environment = &above.context.environment;
    let source = open_below(&wanted.source, Mode::Indirect, &wanted.prefix, environment);
    let options = submount::options(wanted, &above.map.options);
    let mount_point = plan.at.as_os_str().as_bytes().to_vec();
    let names = Arc::clone(&environment.names);
    let map = Rc::new(ConfiguredMap::new(0, mount_point, wanted.source.clone(), options, (source, names)));
    Some(Question {
        map,
        context: Rc::clone(&above.context),
        at: plan.at.join(key),
        written: None,
        kind: Kind::Indirect,
        key: Key::from(key.as_bytes()),
        who: above.who,
        below: Vec::new(),
        line: Line::default(),
    })
}
