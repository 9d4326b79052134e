//! Adopts mounts of earlier workers: reports to the engine what is mounted below autofs mounts that existed before this worker.
//!
//! Only the mount table is used, because a worker that died leaves nothing else. Packets for a mount wait until it is adopted,
//! so that nothing is mounted twice.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::attacher::{AttachError, Attached, Attacher, Job};
use super::opener::{OPEN_TIMEOUT, Opener, SHORT_OPEN_TIMEOUT};
use super::{Attach, RETRY_DELAY, read_table};
use crate::blocking;
use crate::daemon::jobs::{Means, alternatives, offsets, own_timeout, resolve, submount};
use crate::daemon::mailbox::Report;
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::mounts::table::{MountTable, Mounted};
use crate::daemon::mounts::{AutofsMount, NewMount};
use crate::engine::{Done, EntryId, Event, Key, Kind, MountId, Requester, Resolution, Wanted};
use crate::exec::dirs::Made;
use crate::fault;
use crate::logging::target;
use crate::map::{MasterEntry, MasterOptions, SourceSpec};
use crate::plan::{Action, Plan};
use crate::source::Pass;
use crate::task::spawn_local;
use crate::text::{Escaped, Position};

/// Seconds before each further try to mount what is missing of a tree.
const MEND_AFTER: [u64; 5] = [1, 2, 5, 15, 60];

/// How long the file system of an entry may take for its missing triggers while requests wait for the adoption.
const MEND_WITHIN: Duration = Duration::from_secs(1);

/// Finds the top-level mounts of earlier workers of this daemon: those that use pipes held by the keeper. Gives each a map made
/// from the mount table, which is used until the master map is read.
pub(crate) async fn inherited(means: &Means) {
    let own = means.mounts.inodes();
    if own.is_empty() {
        return;
    }
    let Ok(table) = blocking::run(MountTable::read).await else { return };
    let live: Vec<&Mounted> = table.mounts().iter().filter(|line| line.speaks_through(&own).is_some()).collect();
    // Offset triggers and submounts stand below another one.
    let is_below =
        |line: &Mounted| live.iter().any(|above| above.target != line.target && line.target.starts_with(&above.target));
    let shown_in: Arc<Path> = Path::new("/proc/self/mountinfo").into();
    for line in live.iter().filter(|line| !is_below(line)) {
        let Some(shown) = line.autofs.filter(|shown| shown.kind != Kind::Offset) else { continue };
        let mut guard = means.state.borrow_mut();
        let state = &mut *guard;
        let direct = shown.kind == Kind::Direct;
        let entry = MasterEntry {
            mount_point: if direct { b"/-".to_vec() } else { line.target.as_os_str().as_bytes().to_vec() },
            direct,
            source: SourceSpec { kind: None, format: None, name: line.source.clone(), parts: Vec::new(), lists: false },
            options: MasterOptions { timeout: Some(shown.timeout), ..MasterOptions::default() },
            place: Position::whole(&shown_in),
        };
        let environment = Arc::clone(&state.context.environment);
        let known = state.maps.map_of(&entry, &state.configuration.conf.autofs, &state.options, &environment);
        let wanted = Wanted {
            path: line.target.as_path().into(),
            kind: shown.kind,
            map: known.number,
            timeout: known.timeout(),
            negative_timeout: known.negative_timeout(),
        };
        state.maps.inherit(wanted, known);
    }
}

/// Maximum time for which the adoption of one mount delays what comes after it. Its map may hang.
const OPEN_ALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Adopts several mounts at the same time. Returns when all are adopted, or after some time: the rest goes on by itself, and
/// the packets of those mounts wait for it.
pub(crate) async fn adopt_together(with: &Attach, found: Vec<MountId>, table: &Arc<MountTable>) {
    let mut tasks = JoinSet::new();
    for id in found {
        let (with, table, making) = (with.clone(), Arc::clone(table), with.means.mounts.begin_making());
        tasks.spawn_local(async move {
            adopt(&with, id, &table).await;
            with.mailbox.tell(Report::Made(making));
        });
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(OPEN_ALL_TIMEOUT, all).await.is_err() {
        tasks.detach_all();
    }
}

/// Tells the engine what is mounted below an autofs mount, which serves from now on.
pub(crate) async fn adopt(with: &Attach, id: MountId, table: &Arc<MountTable>) {
    if let Some(AutofsMount { path, kind, .. }) = with.means.mounts.get(id) {
        let entries = entries(table, &path, kind);
        let count = entries.len();
        for (name, mounts) in entries {
            let key = Key::from(name.as_bytes());
            let entry = Entry { mount: id, at: kind.entry_path(&path, &key), key, again: false };
            if !Box::pin(adopt_entry(with, &entry, &mounts, table)).await {
                spawn_local(retry_until_adopted(with.clone(), Entry { again: true, ..entry }, name));
            }
        }
        info!(target: &target(&path), "re-connected to {}, {count} mounted below", Escaped::path(&path));
    }
    with.mailbox.tell(Report::Adopted(id));
}

/// Returns the mounts at the entries of an autofs mount.
fn entries<'t>(table: &'t MountTable, path: &'t Path, kind: Kind) -> BTreeMap<OsString, Vec<&'t Mounted>> {
    let mut entries: BTreeMap<OsString, Vec<&Mounted>> = BTreeMap::new();
    for line in table.below(path) {
        let Ok(rest) = line.target.strip_prefix(path) else { continue };
        let key = match kind {
            Kind::Indirect => rest.components().next().map(|c| c.as_os_str().to_owned()),
            Kind::Direct | Kind::Offset => Some(OsString::new()),
        };
        if let Some(key) = key {
            entries.entry(key).or_default().push(line);
        }
    }
    if kind != Kind::Indirect {
        // What is mounted over it has the same path.
        let over: Vec<_> = table.at(path).iter().filter(|line| line.autofs.is_none()).collect();
        if !over.is_empty() {
            entries.entry(OsString::new()).or_default().extend(over);
        }
    }
    entries
}

/// An entry of an autofs mount.
struct Entry {
    mount: MountId,
    key: Key,
    at: PathBuf,
    /// A part of it is adopted already.
    again: bool,
}

/// Retries adopting an entry until no part of it is blocked.
async fn retry_until_adopted(with: Attach, entry: Entry, name: OsString) {
    loop {
        let Some(AutofsMount { path, kind, .. }) = with.means.mounts.get(entry.mount) else { return };
        if with.life.is_stopping() {
            return;
        }
        let making = with.means.mounts.begin_making();
        let table = read_table().await;
        let adopted = match entries(&table, &path, kind).get(&name) {
            Some(mounts) => adopt_entry(&with, &entry, mounts, &table).await,
            None => true,
        };
        with.mailbox.tell(Report::Made(making));
        if adopted {
            return;
        }
        with.life.pause(RETRY_DELAY).await;
    }
}

/// Adopts an entry. Returns false if a part could not be taken over yet.
async fn adopt_entry(with: &Attach, entry: &Entry, mounts: &[&Mounted], table: &Arc<MountTable>) -> bool {
    let Entry { mount, key, at, again } = entry;
    let means = &with.means;
    let (mount, again, shown) = (*mount, *again, Escaped::path(at));
    let plan = plan_of(means, mount, key, at).await;
    if plan.is_none() && !again {
        warn!(target: &target(at), "failed to re-connect {shown}: its map does not have it any more");
    }
    if let Some(plan) = &plan {
        alternatives::adopt(&means.tools, plan, |path| !table.at(path).is_empty()).await;
    }
    let nested: Vec<&Mounted> = mounts.iter().copied().filter(|line| line.autofs.is_some()).collect();
    let targets: HashSet<&Path> = nested.iter().map(|line| &*line.target).collect();
    let is_inner = |line: &&Mounted| line.target.ancestors().skip(1).any(|above| targets.contains(above));
    let (mut done, mut inner, mut complete) = (Done::default(), Vec::new(), true);
    for line in nested.iter().copied().filter(|line| !is_inner(line)) {
        if means.mounts.serves(line) {
            continue;
        }
        match line.autofs.map_or(Kind::Offset, |a| a.kind) {
            Kind::Offset => {
                let below = plan.as_deref().and_then(|plan| find(plan, &line.target));
                let plan = below.unwrap_or_else(|| Arc::new(nothing(&line.target)));
                let Some(id) = take_nested(means, entry, line, None, table, &mut complete).await else { continue };
                means.mounts.set_plan(id, Arc::clone(&plan));
                done.offsets.push((id, plan));
                inner.push(id);
            }
            Kind::Indirect => {
                let Some(submount) = plan.as_deref().and_then(|plan| plan.action.submount()) else { continue };
                let Some(sub) = submount::configured_map(means, mount, &line.target, submount) else { continue };
                let deadline = Instant::now() + means.state.borrow().context.lookup_deadline;
                if let Err(e) = sub.source.entries(&Pass::new(deadline)).await {
                    warn!("{e}");
                }
                let wanted = submount::wanted(&sub, &line.target);
                let Some(id) = take_nested(means, entry, line, Some(sub), table, &mut complete).await else {
                    continue;
                };
                done.submount = Some((id, wanted));
                inner.push(id);
            }
            Kind::Direct => {}
        }
    }
    // A worker that died while mounting the triggers has left the others unmounted.
    let missing = plan.as_deref().map(|plan| (plan, missing(plan, mounts))).filter(|(_, missing)| !missing.is_empty());
    if let Some((above, missing)) = missing.filter(|_| !again) {
        let (made, failed) = offsets::make(means, mount, above, &missing, MEND_WITHIN).await;
        done.offsets.extend(made);
        if !failed.is_empty() {
            spawn_local(remount_missing(with.clone(), mount, key.clone(), at.clone()));
        }
    }
    fault::point("adopted");
    let at = EntryId { mount, key: key.clone() };
    done.untimed = plan.as_deref().is_some_and(|plan| own_timeout::tell(&means.mounts, &means.tools, &at, plan));
    with.mailbox.event(Event::Adopted { at, plan, done });
    for id in inner {
        adopt(with, id, table).await;
    }
    complete
}

/// The triggers of a plan that do not stand.
fn missing(plan: &Plan, mounts: &[&Mounted]) -> Vec<Arc<Plan>> {
    let there: HashSet<&Path> = mounts.iter().map(|line| &*line.target).collect();
    plan.offsets.iter().filter(|offset| !there.contains(&*offset.at)).map(Arc::clone).collect()
}

/// Retries mounting the missing parts of a tree. Gives up after five attempts, because some parts can never be mounted.
async fn remount_missing(with: Attach, mount: MountId, key: Key, at: PathBuf) {
    for seconds in MEND_AFTER {
        with.life.pause(Duration::from_secs(seconds)).await;
        if with.life.is_stopping() {
            return;
        }
        let Some(plan) = plan_of(&with.means, mount, &key, &at).await else { return };
        let table = read_table().await;
        let mounts: Vec<&Mounted> = table.below(&at).collect();
        let offsets = missing(&plan, &mounts);
        if offsets.is_empty() {
            return;
        }
        let plan = Arc::new(Plan { offsets, ..nothing(&at) });
        with.mailbox.event(Event::RemountTriggers { at: EntryId { mount, key: key.clone() }, plan });
    }
}

/// Returns the plan of an entry: from the map or, for an offset, from the plan above it.
async fn plan_of(means: &Means, mount: MountId, key: &Key, entry: &Path) -> Option<Arc<Plan>> {
    let question = {
        if let Some(known) = means.mounts.plan(mount) {
            return Some(known);
        }
        // What a map says may depend on the user for whom the tree was mounted.
        let who = means.tools.requesters.get(entry);
        let who = who.map(|(uid, gid)| Requester { uid, gid, ..Requester::default() }).unwrap_or_default();
        means.state.borrow().question(&means.mounts.get(mount)?, key.clone(), who)
    };
    let outcome = match resolve::now(&question) {
        Some(outcome) => outcome,
        None => resolve::later(question).await,
    };
    match outcome {
        Resolution::Found(plan) => Some(plan),
        _ => None,
    }
}

fn nothing(at: &Path) -> Plan {
    Plan {
        at: at.to_owned(),
        action: Action::Nothing,
        offsets: Vec::new(),
        strict: false,
        timeout: None,
        requires: Vec::new(),
    }
}

/// The part of a plan that concerns the offset at `path`.
fn find(plan: &Plan, path: &Path) -> Option<Arc<Plan>> {
    // They are in order, so that the one above `path` is the last that is not behind it.
    let behind = plan.offsets.partition_point(|offset| *offset.at <= *path);
    let offset = plan.offsets.get(behind.checked_sub(1)?).filter(|offset| path.starts_with(&offset.at))?;
    if offset.at == path { Some(Arc::clone(offset)) } else { find(offset, path) }
}

/// Takes over an existing offset mount or (with a line) submount. Returns whether this is complete.
async fn take_nested(
    means: &Means,
    entry: &Entry,
    found: &Mounted,
    map: Option<Rc<ConfiguredMap>>,
    table: &Arc<MountTable>,
    complete: &mut bool,
) -> Option<MountId> {
    let Means { mounts, tools, .. } = means;
    let (attacher, job, map, id) = {
        let above = mounts.get(entry.mount)?;
        let kind = if map.is_some() { Kind::Indirect } else { Kind::Offset };
        let map = map.unwrap_or(above.map);
        let (own, options) = (mounts.inodes(), tools.mount_options(&map));
        let live = found.speaks_through(&own);
        if let Some(pipe) = live.filter(|_| found.autofs.is_some_and(|shown| shown.timeout == options.timeout)) {
            let (id, path) = (mounts.new_id(), Arc::<Path>::from(found.target.as_path()));
            let (dev, mount_id, created) = (found.dev, Some(found.id), Made::default());
            let remote = table.is_remote(&path);
            mounts.insert(id, NewMount { path, kind, dev, mount_id, pipe, map, created, remote, found: true });
            return Some(id);
        }
        let pipe = match (live, kind) {
            (Some(pipe), _) => pipe,
            (None, Kind::Indirect) => mounts.create_pipe().ok()?,
            (None, _) => above.pipe,
        };
        let write_ends = mounts.write_end(pipe).ok().map(|end| (pipe, end)).into_iter().collect();
        let id = mounts.new_id();
        let (table, opener) = (Arc::clone(table), Opener::new(Arc::clone(&tools.blocked)));
        let time_limit = if entry.again { OPEN_TIMEOUT } else { SHORT_OPEN_TIMEOUT };
        let path = found.target.as_path().into();
        let job = Job { id, path, kind, source: Vec::new(), options, mode: None, pipe, time_limit };
        (
            Attacher {
                control: Arc::clone(&tools.control),
                opener,
                table,
                own,
                rules: tools.rules,
                write_ends,
                silent: HashSet::new(),
            },
            job,
            map,
            id,
        )
    };
    let (path, kind, remote) = (job.path.clone(), job.kind, table.is_remote(&job.path));
    let (_, result, _) = blocking::run(move || attacher.run(vec![job])).await.pop()?;
    match result {
        Ok(Attached { pipe, dev, mount_id, .. }) => {
            let created = Made::default();
            mounts.insert(id, NewMount { path, kind, dev, mount_id, pipe, map, created, remote, found: true });
            Some(id)
        }
        Err(e) => {
            let blocked = matches!(e, AttachError::Blocked(_));
            if !blocked || !entry.again {
                error!(target: &target(&path), "{e}");
            }
            *complete &= !blocked;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::{mounted, table};

    const AUTOFS: &str = "- autofs m rw,fd=5,pgrp=9,timeout=3,offset,pipe_ino=7";

    fn found(table: &MountTable, path: &str, kind: Kind) -> Vec<(String, Vec<u32>)> {
        let entries = entries(table, Path::new(path), kind).into_iter();
        entries.map(|(key, mounts)| (key.into_string().unwrap(), mounts.iter().map(|m| m.dev).collect())).collect()
    }

    fn plan(at: &str, offsets: Vec<Plan>) -> Plan {
        Plan { offsets: offsets.into_iter().map(Arc::new).collect(), ..nothing(Path::new(at)) }
    }

    #[test]
    fn mounts_below_an_indirect_mount_belong_to_the_first_component() {
        let table = table(&[
            ("/home", "- autofs m rw,fd=5,pgrp=9,timeout=3,indirect,pipe_ino=7"),
            ("/home/anna", "- nfs s:/anna rw"),
            ("/home/bert/deep", AUTOFS),
            ("/home/bert/deep", "- tmpfs t rw"),
            ("/homes/carl", "- tmpfs t rw"),
        ]);
        let expected = [("anna".to_owned(), vec![1]), ("bert".to_owned(), vec![2, 3])];
        assert_eq!(found(&table, "/home", Kind::Indirect), expected);
    }

    #[test]
    fn a_direct_mount_has_one_entry_with_what_covers_it() {
        let direct = "- autofs m rw,fd=5,pgrp=9,timeout=3,direct,pipe_ino=7";
        let bare = table(&[("/data", direct)]);
        assert_eq!(found(&bare, "/data", Kind::Direct), []);
        let covered = table(&[("/data", direct), ("/data", "- nfs s:/d rw"), ("/data/sub", AUTOFS)]);
        assert_eq!(found(&covered, "/data", Kind::Direct), [(String::new(), vec![2, 1])]);
    }

    #[test]
    fn offsets_without_a_mount_are_missing() {
        let tree = plan("/a", vec![plan("/a/x", vec![]), plan("/a/y", vec![plan("/a/y/z", vec![])])]);
        let there = [mounted("/a/x", 1, AUTOFS), mounted("/a/y/z", 2, AUTOFS)];
        let there: Vec<&Mounted> = there.iter().collect();
        let missing: Vec<PathBuf> = missing(&tree, &there).iter().map(|offset| offset.at.clone()).collect();
        // Those below an offset are mounted when the offset is.
        assert_eq!(missing, [PathBuf::from("/a/y")]);
    }

    #[test]
    fn the_plan_of_a_nested_offset_is_found_by_its_path() {
        let tree = plan("/a", vec![plan("/a/x", vec![]), plan("/a/y", vec![plan("/a/y/z", vec![])])]);
        let at = |path: &str| find(&tree, Path::new(path)).map(|plan| plan.at.clone());
        assert_eq!(at("/a/y"), Some("/a/y".into()));
        assert_eq!(at("/a/y/z"), Some("/a/y/z".into()));
        assert_eq!((at("/a/y/other"), at("/a/yy"), at("/a")), (None, None, None));
    }
}
