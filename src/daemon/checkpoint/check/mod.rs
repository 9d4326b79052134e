//! `autofsctl migrate-check`: checks the conditions of a checkpoint by CRIU and suggests solutions.
//!
//! The conditions are those of criu/autofs.c, mount.c, pipes.c and files-reg.c of CRIU 4.1; the limits are those of its
//! restore. Their names are used in `docs/MIGRATION.md`.

mod facts;

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use crate::control::{Check, Verdict};
use crate::daemon::checkpoint::quiesce::is_supported;
use crate::daemon::mounts::AutofsMount;
use crate::daemon::worker::Worker;
use crate::engine::Kind;
use crate::exec::lanes::Lane;
use crate::sys::children;
use crate::text::Escaped;
use facts::{Facts, Known, Line, Process, Wish};

/// Collects the facts and checks all conditions.
pub(crate) async fn check(worker: &Rc<Worker>) -> Vec<Check> {
    let tools = worker.tools();
    let wish = |mount: &AutofsMount| Wish {
        path: mount.path.to_path_buf(),
        kind: mount.kind,
        options: tools.ignore || mount.map.options.strictexpire,
    };
    let known = Known {
        device: tools.control.has_device(),
        keeper: children::parent(),
        group: children::process_group(),
        pipes: worker.mounts.pipes().iter().map(|pipe| (pipe.inode.get(), !pipe.is_empty())).collect(),
        wishes: worker.mounts.filter_map(|_, mount| Some(wish(mount))),
    };
    match tools.lanes.run(Lane::Probe, move || facts::gather(known)).await {
        Ok(facts) => judge(&facts),
        Err(e) => vec![failed("D1", format!("cannot read the mount table: {e}"), "see that /proc is mounted")],
    }
}

/// Bytes of socket buffer that CRIU needs for each live autofs mount. Each mount needs two messages with a descriptor, and all are
/// sent before the first is received. Measured: with 212992 bytes, 120 mounts were restored, 140 were not.
const BYTES_PER_MOUNT: u64 = 1774;

fn passed(id: &str, what: impl Into<String>) -> Check {
    Check { id: id.to_owned(), verdict: Verdict::Pass, what: what.into(), help: None }
}

fn failed(id: &str, what: impl Into<String>, help: impl Into<String>) -> Check {
    Check { id: id.to_owned(), verdict: Verdict::Fail, what: what.into(), help: Some(help.into()) }
}

fn later(id: &str, what: impl Into<String>, help: impl Into<String>) -> Check {
    Check { verdict: Verdict::Quiesce, ..failed(id, what, help) }
}

/// Formats a list for users, with a limited length.
fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let mut shown: Vec<String> = items.iter().take(5).map(show).collect();
    if items.len() > shown.len() {
        shown.push(format!("{} more", items.len() - shown.len()));
    }
    shown.join(", ")
}

fn paths(lines: &[&Line]) -> String {
    list(lines, |line| Escaped::path(&line.target).to_string())
}

fn processes(all: &[Process]) -> String {
    list(all, |p| format!("{} {} ({})", p.pid, Escaped(p.name.as_bytes()), Escaped(p.what.as_bytes())))
}

/// Checks the facts against all conditions.
fn judge(facts: &Facts) -> Vec<Check> {
    let table = MarkedTable::of(facts);
    let mut checks = vec![device(facts)];
    checks.extend(check_owners(facts, &table));
    checks.extend(requests(facts));
    checks.extend(files(facts));
    checks.push(file_systems(facts, &table));
    checks.extend(others(facts, &table));
    checks.extend(limits(facts, &table));
    checks
}

/// The mount table, with our autofs mounts marked.
struct MarkedTable<'f> {
    /// Our autofs mounts that are not catatonic.
    live: Vec<&'f Line>,
    /// Our catatonic autofs mounts, found by path.
    parked: Vec<&'f Line>,
    by_id: HashMap<u32, &'f Line>,
    wishes: HashMap<&'f Path, &'f Wish>,
}

impl<'f> MarkedTable<'f> {
    fn of(facts: &'f Facts) -> Self {
        let wishes: HashMap<&Path, &Wish> = facts.known.wishes.iter().map(|w| (w.path.as_path(), w)).collect();
        let at_home = |line: &&Line| wishes.contains_key(line.target.as_path());
        let live = |line: &&Line| line.pipe().is_some_and(|inode| facts.known.pipes.contains_key(&inode));
        let catatonic = |line: &&Line| line.autofs.is_some_and(|shown| shown.pipe_ino == Some(-1));
        Self {
            live: facts.lines.iter().filter(live).collect(),
            parked: facts.lines.iter().filter(at_home).filter(catatonic).collect(),
            by_id: facts.lines.iter().map(|line| (line.id, line)).collect(),
            wishes,
        }
    }

    fn parent(&self, line: &Line) -> Option<&'f Line> {
        self.by_id.get(&line.parent).copied()
    }
}

fn device(facts: &Facts) -> Check {
    match facts.known.device {
        true => passed("device", "/dev/autofs is there"),
        false => failed(
            "device",
            "/dev/autofs cannot be opened",
            "give the container the device (--device /dev/autofs; character device 10:235, and the right to open it): without \
             it, CRIU restores no autofs mount, and the daemon cannot set mounts catatonic",
        ),
    }
}

/// Checks the mounts and their owners.
fn check_owners(facts: &Facts, table: &MarkedTable<'_>) -> Vec<Check> {
    let Known { keeper, group, .. } = facts.known;
    let autofs: Vec<&Line> = facts.lines.iter().filter(|line| line.autofs.is_some()).collect();
    let silent = autofs.iter().any(|line| line.autofs.is_some_and(|shown| shown.pipe_ino.is_none()));
    let d1 = match silent {
        false => passed("D1", "the kernel shows the pipe of every autofs mount"),
        true => failed("D1", "the kernel does not show pipe_ino=", "use a kernel with CONFIG_CHECKPOINT_RESTORE"),
    };
    let old: Vec<&Line> =
        autofs.iter().copied().filter(|line| line.autofs.is_some_and(|shown| shown.maxproto < 5)).collect();
    let d2 = match old[..] {
        [] => passed("D2", "the kernel shows all options of every autofs mount"),
        _ => failed("D2", format!("no protocol version is shown for {}", paths(&old)), "unmount it"),
    };
    let d3 = passed("D3", format!("{} autofs mounts are live, {} parked", table.live.len(), table.parked.len()));
    let d4 = match keeper == group {
        true => passed("D4", format!("the owner, process {keeper}, is alive and leads its process group")),
        false => failed(
            "D4",
            format!("the process group is {group}, but the daemon's first process is {keeper}"),
            "start the daemon as automount(8), not from a program that gives it a group of its own",
        ),
    };
    let d5 = match facts.not_held.len() {
        0 => passed("D5", format!("process {keeper} holds the read end of every pipe")),
        n => {
            failed("D5", format!("process {keeper} does not hold {n} of the pipes"), "checkpoint parked: quiesce first")
        }
    };
    let hidden: Vec<&Line> =
        table.live.iter().copied().filter(|line| line.autofs.is_some_and(|shown| shown.pgrp != group)).collect();
    let d8 = match hidden[..] {
        [] => passed("D8", "every autofs mount of ours shows our process group"),
        _ => failed(
            "D8",
            format!("another process group is shown for {}", paths(&hidden)),
            "run the daemon inside of the container that is dumped",
        ),
    };
    let d9 = passed("D9", "the write ends of the pipes are closed, or ours");
    vec![d1, d2, d3, d4, d5, d8, d9]
}

/// Checks for waiting processes.
fn requests(facts: &Facts) -> Vec<Check> {
    let waiting = facts.known.pipes.values().filter(|waits| **waits).count();
    let d7 = match waiting {
        0 => passed("D7", "no request waits in a pipe"),
        n => later("D7", format!("requests wait in {n} pipes"), "quiesce first"),
    };
    let ours = |p: &&Process| p.what.contains("autofs");
    let all_ours = facts.blocked.iter().all(|p| ours(&p));
    let d11 = match (facts.blocked.len(), all_ours) {
        (0, _) => passed("D11", "no process waits in the kernel for an automount, an expiry, or anything without end"),
        (_, true) => later("D11", format!("waiting for an automount: {}", processes(&facts.blocked)), "quiesce first"),
        (_, false) => failed(
            "D11",
            format!("waiting in the kernel: {}", processes(&facts.blocked)),
            "CRIU cannot stop a process in this state; wait, or end what it waits for",
        ),
    };
    vec![d7, d11]
}

/// Checks open files.
fn files(facts: &Facts) -> Vec<Check> {
    let d10 = match facts.packet_ends[..] {
        [] => passed("D10", "no write end is left of an autofs mount that is gone"),
        _ => failed("D10", format!("write ends are left: {}", processes(&facts.packet_ends)), "end these processes"),
    };
    let d12 = match facts.covered[..] {
        [] => passed("D12", "no file is open on a mount that another one covers"),
        _ => failed(
            "D12",
            format!("files are open below other mounts: {}", processes(&facts.covered)),
            "end these processes, or unmount what covers the file",
        ),
    };
    let d15 = match facts.unknown[..] {
        [] => passed("D15", "no descriptor is open of a kind that CRIU does not know"),
        _ => failed("D15", format!("CRIU does not know {}", processes(&facts.unknown)), "end these processes"),
    };
    vec![d10, d12, d15]
}

/// Checks the mounts below our autofs mounts.
fn file_systems(facts: &Facts, table: &MarkedTable<'_>) -> Check {
    let ours = |line: &&Line| line.target.ancestors().any(|above| table.wishes.contains_key(above));
    let elsewhere: Vec<u32> = facts.lines.iter().filter(|line| !ours(line)).map(|line| line.dev).collect();
    let unknown = |line: &&Line| !is_supported(&line.fstype) && !elsewhere.contains(&line.dev);
    let found: Vec<&Line> = facts.lines.iter().filter(ours).filter(unknown).collect();
    match found[..] {
        [] => passed("D13", "CRIU knows all that is mounted below our autofs mounts"),
        [first, ..] => later(
            "D13",
            format!("CRIU does not know the file systems at {}", paths(&found)),
            format!(
                "quiesce unmounts what is not in use, and the first access after the restore mounts it again; or give criu \
                 --enable-fs {} on both sides",
                Escaped(&first.fstype)
            ),
        ),
    }
}

/// Checks autofs mounts of other automounters, and mounts of ours that are bound at other paths.
fn others(facts: &Facts, table: &MarkedTable<'_>) -> Vec<Check> {
    let foreign = |line: &&Line| facts.owners.contains_key(&line.target) && line.pipe().is_some();
    let foreign: Vec<&Line> = facts.lines.iter().filter(foreign).collect();
    let owner = |line: &Line| facts.owners.get(&line.target).copied().flatten();
    let pgrp = |line: &Line| line.autofs.map_or(0, |shown| shown.pgrp);
    let outside: Vec<&Line> = foreign.iter().copied().filter(|line| pgrp(line) == 0).collect();
    let d14 = match outside[..] {
        [] => passed("D14", "no autofs mount is served from outside"),
        _ => failed(
            "D14",
            format!("served from outside: {}", paths(&outside)),
            "criu dump --external mnt[PATH]:NAME, criu restore --external mnt[NAME]:PATH-ON-THE-HOST",
        ),
    };
    let dead: Vec<&Line> = foreign.iter().copied().filter(|line| pgrp(line) != 0 && owner(line).is_none()).collect();
    let b6 = match dead[..] {
        [] => passed("B6", "no autofs mount has lost its daemon"),
        _ => failed(
            "B6",
            format!("nobody serves {}", paths(&dead)),
            "unmount it: CRIU dumps no autofs without its daemon",
        ),
    };
    let delegated: Vec<&Line> =
        foreign.iter().copied().filter(|line| owner(line).is_some_and(|pid| pid != pgrp(line))).collect();
    let (direct, indirect): (Vec<&Line>, Vec<&Line>) =
        delegated.into_iter().partition(|line| line.autofs.is_some_and(|shown| shown.kind != Kind::Indirect));
    let d6 = match indirect[..] {
        [] => passed("D6", "the leader of each group that serves an autofs mount reads its pipe"),
        _ => failed(
            "D6",
            format!("another process than the group's leader serves {}", paths(&indirect)),
            "end that daemon",
        ),
    };
    let b4 = match direct[..] {
        [] => passed("B4", "no autofs mount would make CRIU hang"),
        _ => failed(
            "B4",
            format!("CRIU would hang at {}, which another process than the group's leader serves", paths(&direct)),
            "end that daemon",
        ),
    };
    let root = |line: &&&Line| line.autofs.is_some_and(|shown| shown.kind == Kind::Indirect);
    let copied = |line: &&&Line| !table.wishes.contains_key(line.target.as_path());
    let active = |line: &&&Line| facts.lines.iter().any(|other| other.dev != line.dev && other.parent == line.id);
    let twins = table.live.iter().filter(root).filter(|line| {
        let others = table.live.iter().filter(|other| other.dev == line.dev && other.id != line.id);
        others.count() > 0
    });
    let twins: Vec<&&Line> = twins.collect();
    let b3 = match twins.iter().any(active) {
        false => passed("B3", "no autofs mount with something mounted on it is bound elsewhere"),
        true => {
            let copies: Vec<&Line> = twins.into_iter().filter(copied).copied().collect();
            failed("B3", format!("bound elsewhere: {}", paths(&copies)), "unmount the copies before the checkpoint")
        }
    };
    vec![d14, d6, b3, b4, b6]
}

/// Checks for states that CRIU dumps but cannot restore.
fn limits(facts: &Facts, table: &MarkedTable<'_>) -> Vec<Check> {
    let most = facts.send_buffer / BYTES_PER_MOUNT;
    let count = table.live.len() as u64;
    let b1 = match count > most {
        false => passed("B1", format!("{count} live autofs mounts; CRIU restores {most}")),
        true => later(
            "B1",
            format!("{count} live autofs mounts; CRIU would hang when it restores more than {most}"),
            "quiesce --mode park first, or raise net.core.wmem_default on the machine that restores",
        ),
    };
    // Mounts on a bare directory of an autofs mount that is not the directory of an entry.
    let bare = |line: &&Line| {
        let Some(parent) = table.parent(line).filter(|parent| parent.autofs.is_some()) else { return false };
        let depth = line.target.strip_prefix(&parent.target).map_or(0, |rest| rest.iter().count());
        let indirect = parent.autofs.is_some_and(|shown| shown.kind == Kind::Indirect);
        depth > usize::from(indirect)
    };
    let bare: Vec<&Line> = facts.lines.iter().filter(bare).collect();
    let b2 = match bare[..] {
        [] => passed("B2", "every multi-mount stands on a file system of its own"),
        _ => failed(
            "B2",
            format!("CRIU cannot restore {}, which stand on bare directories of an autofs mount", paths(&bare)),
            "set placeholder = \"always\" in autofs.toml, reload, and unmount them (autofsctl expire)",
        ),
    };
    let weak =
        table.live.iter().filter(|line| table.wishes.get(line.target.as_path()).is_some_and(|w| w.options)).count();
    let b7 = match weak {
        0 => passed("B7", "no autofs mount has options that CRIU loses"),
        n => passed(
            "B7",
            format!("CRIU loses options of {n} autofs mounts: they are mounted anew when nothing is on them"),
        ),
    };
    vec![b1, b2, b7]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::PathBuf;

    use super::*;
    use crate::sys::mountinfo::AutofsOptions;

    fn line(id: u32, parent: u32, target: &str, fstype: &str) -> Line {
        let (target, fstype) = (PathBuf::from(target), fstype.as_bytes().to_vec());
        Line { id, parent, dev: id, target, root: b"/".to_vec(), fstype, autofs: None }
    }

    fn autofs(id: u32, parent: u32, target: &str, kind: Kind, pipe: i64) -> Line {
        let shown = AutofsOptions {
            fd: 5,
            pgrp: 7,
            timeout: 300,
            minproto: 5,
            maxproto: 5,
            kind,
            strictexpire: false,
            ignore: false,
            pipe_ino: Some(pipe),
        };
        Line { autofs: Some(shown), ..line(id, parent, target, "autofs") }
    }

    /// Checks a mount table with an indirect mount at /i, a direct mount at /d, and additional lines.
    fn facts(more: Vec<Line>) -> Facts {
        let lines = [
            line(1, 0, "/", "overlay"),
            autofs(2, 1, "/i", Kind::Indirect, 100),
            autofs(3, 1, "/d", Kind::Direct, 101),
        ];
        let wish = |path: &str, kind| Wish { path: path.into(), kind, options: false };
        let known = Known {
            device: true,
            keeper: 7,
            group: 7,
            pipes: [(100, false), (101, false)].into(),
            wishes: vec![wish("/i", Kind::Indirect), wish("/d", Kind::Direct)],
        };
        Facts {
            known,
            lines: lines.into_iter().chain(more).collect(),
            not_held: Vec::new(),
            owners: HashMap::new(),
            blocked: Vec::new(),
            covered: Vec::new(),
            unknown: Vec::new(),
            packet_ends: Vec::new(),
            send_buffer: 212_992,
        }
    }

    /// Returns the unmet conditions.
    fn wrong(facts: &Facts) -> Vec<String> {
        judge(facts).into_iter().filter(|c| c.verdict != Verdict::Pass).map(|c| c.id).collect()
    }

    #[test]
    fn every_condition_is_named_once() {
        let mut ids: Vec<String> = judge(&facts(Vec::new())).into_iter().map(|check| check.id).collect();
        ids.sort();
        let wanted = "B1 B2 B3 B4 B6 B7 D1 D10 D11 D12 D13 D14 D15 D2 D3 D4 D5 D6 D7 D8 D9 device";
        assert_eq!(ids.join(" "), wanted);
    }

    #[test]
    fn an_ordinary_daemon_can_be_dumped() {
        assert_eq!(wrong(&facts(vec![line(4, 2, "/i/key", "tmpfs"), line(5, 3, "/d", "tmpfs")])), [""; 0]);
    }

    #[test]
    fn multi_mounts_need_a_floor() {
        let offset = |id, parent, path| autofs(id, parent, path, Kind::Offset, 100);
        assert_eq!(wrong(&facts(vec![offset(4, 2, "/i/key/a")])), ["B2"]);
        assert_eq!(wrong(&facts(vec![offset(4, 3, "/d/a")])), ["B2"]);
        assert_eq!(wrong(&facts(vec![line(4, 2, "/i/key", "tmpfs"), offset(5, 4, "/i/key/a")])), [""; 0]);
    }

    #[test]
    fn what_criu_does_not_know_is_unmounted_by_quiesce() {
        assert_eq!(wrong(&facts(vec![line(4, 2, "/i/key", "nfs4")])), ["D13"]);
        let ext4 = line(4, 1, "/srv", "ext4");
        let bound = Line { dev: 4, ..line(5, 2, "/i/key", "ext4") };
        assert_eq!(wrong(&facts(vec![ext4, bound])), [""; 0], "a bind mount of the container's own");
    }

    #[test]
    fn other_masters() {
        let other = |pgrp| {
            let mut line = autofs(4, 1, "/o", Kind::Direct, 500);
            line.autofs = line.autofs.map(|shown| AutofsOptions { pgrp, ..shown });
            line
        };
        let with = |pgrp, owner| Facts { owners: [("/o".into(), owner)].into(), ..facts(vec![other(pgrp)]) };
        assert_eq!(wrong(&with(0, None)), ["D14"]);
        assert_eq!(wrong(&with(9, None)), ["B6"]);
        assert_eq!(wrong(&with(9, Some(10))), ["B4"]);
        assert_eq!(wrong(&with(9, Some(9))), [""; 0]);
    }

    #[test]
    fn copies_of_a_root_with_something_on_it() {
        let copy = Line { dev: 2, ..autofs(4, 1, "/copy", Kind::Indirect, 100) };
        assert_eq!(wrong(&facts(vec![copy.clone()])), [""; 0]);
        assert_eq!(wrong(&facts(vec![copy, line(5, 2, "/i/key", "tmpfs")])), ["B3"]);
    }

    #[test]
    fn too_many_live_mounts() {
        let many = (10..140).map(|id| autofs(id, 1, &format!("/m{id}"), Kind::Direct, 101)).collect();
        assert_eq!(wrong(&facts(many)), ["B1"]);
    }

    #[test]
    fn who_waits_and_what_is_open() {
        let process = |what: &str| vec![Process { pid: 5, name: "ls".into(), what: what.into() }];
        let of = |change: fn(&mut Facts, Vec<Process>), what| {
            let mut facts = facts(Vec::new());
            change(&mut facts, process(what));
            judge(&facts)
                .into_iter()
                .filter(|c| c.verdict != Verdict::Pass)
                .map(|c| (c.id, c.verdict))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(|f, p| f.blocked = p, "autofs_wait"), [("D11".to_owned(), Verdict::Quiesce)]);
        assert_eq!(of(|f, p| f.blocked = p, "rpc_wait"), [("D11".to_owned(), Verdict::Fail)]);
        assert_eq!(of(|f, p| f.covered = p, "/d"), [("D12".to_owned(), Verdict::Fail)]);
        assert_eq!(of(|f, p| f.unknown = p, "[io_uring]"), [("D15".to_owned(), Verdict::Fail)]);
        assert_eq!(of(|f, p| f.packet_ends = p, "pipe:[1]"), [("D10".to_owned(), Verdict::Fail)]);
    }
}
