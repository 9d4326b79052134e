//! Explains a path from the files alone, as a daemon that starts now would read them.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::control::{Bytes, Explain, Explanation, MountKind, Place, Problem, plan};
use crate::daemon::explain::below;
use crate::daemon::explain::feasible::{self, Verdict};
use crate::daemon::explain::origins::{Masked, origins};
use crate::daemon::jobs::question::{Line, Question};
use crate::daemon::jobs::resolve;
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::maps::context::Context;
use crate::daemon::maps::{effective, problem_of};
use crate::engine::{Key, Kind, Requester};
use crate::exec::lanes::Lanes;
use crate::map::MasterEntry;
use crate::options::Options;
use crate::source::configuration::Configuration;
use crate::source::master::{self, Master, Reading, Status};
use crate::source::{Entries, Mode, Pass, Sources, open, service};
use crate::text::Escaped;

/// How long the configuration, and then each map, may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Reads the configuration and the maps, and explains a path.
///
/// # Errors
/// The kernel refuses what is needed to wait for files.
pub(crate) fn explain(wish: &Explain, who: Requester) -> io::Result<Explanation> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let explanation = runtime.block_on(read(wish, who));
    // A thread that hangs in a system call ends with the process.
    runtime.shutdown_background();
    Ok(explanation)
}

/// A line of the master map that may serve the path.
struct Candidate<'a> {
    entry: &'a MasterEntry,
    /// The mount point, or the direct key.
    at: PathBuf,
    entries: Option<Arc<Entries>>,
}

/// The configuration and the master map, as they are now.
pub(super) struct Prepared {
    pub(super) configuration: Configuration,
    pub(super) options: Options,
    lanes: Arc<Lanes>,
    pub(super) context: Rc<Context>,
    pub(super) master: Master,
    /// The name of the master map.
    pub(super) name: Vec<u8>,
}

impl Prepared {
    /// Reads them.
    pub(super) async fn read() -> Self {
        let (files, notices) = Sources::configuration();
        let configuration = Configuration::read(&files, None, deadline()).await.configuration;
        let sources = Rc::new(Sources::new(files, notices, &configuration.native.limits));
        sources.lookups.renew(service::settings(&configuration.conf.autofs));
        let (options, lanes) = (Options::default(), Arc::new(Lanes::new(&configuration.native.limits)));
        let context = Rc::new(Context::new(&configuration, &options, &lanes, &sources));
        let (name, underscore) = master::name(None, &configuration.conf.autofs);
        let reading = Reading {
            files: Arc::clone(&sources.master),
            names: Arc::clone(&configuration.names),
            amd: configuration.conf.amd.clone(),
            mount_points: configuration.native.mount_points.clone(),
            replaces: false,
            deadline: deadline(),
        };
        let master = Master::read(&name, underscore, reading).await;
        Self { configuration, options, lanes, context, master, name }
    }

    /// Returns whether the master map could be read.
    pub(super) fn has_master(&self) -> bool {
        !matches!(self.master.status, Status::NotFound | Status::Unavailable)
    }
}

/// Returns by when the configuration, or a map, must have been read.
pub(super) fn deadline() -> Instant {
    Instant::now() + DEADLINE
}

async fn read(wish: &Explain, who: Requester) -> Explanation {
    let prepared = Prepared::read().await;
    let Prepared { configuration, options, lanes, context, master, name } = &prepared;
    let path = wish.path.as_path();
    let nothing = |verdict: Verdict| Explanation {
        succeeds: verdict.succeeds,
        answer: verdict.answer,
        answer_place: verdict.place,
        ..Explanation::of(&wish.path)
    };
    if !prepared.has_master() {
        return nothing(Verdict::no(format!("the master map {} cannot be read", Escaped(name))));
    }
    let mut candidates = Vec::new();
    let mut problems: Vec<Problem> = master.diagnostics.iter().filter_map(problem_of).collect();
    for entry in &master.table.indirect {
        candidates.push(Candidate { entry, at: path_of(&entry.mount_point), entries: None });
    }
    for entry in &master.table.direct {
        let source = open(&entry.source, Mode::Direct, &context.environment);
        match source.entries(&Pass::new(deadline())).await {
            Ok(entries) => entries.for_each_key(&mut |key| {
                candidates.push(Candidate { entry, at: path_of(&key), entries: Some(Arc::clone(&entries)) });
            }),
            Err(error) => problems.push(Problem {
                path: Bytes(entry.mount_point.clone()),
                place: Some(Place::from(&entry.place)),
                reason: error.to_string(),
                left: false,
            }),
        }
    }
    let length = |path: &Path| path.as_os_str().len();
    let found = candidates.iter().filter(|c| path.starts_with(&c.at)).max_by_key(|c| length(&c.at));
    let is_above = |problem: &&Problem| problem.path.0.starts_with(b"/") && path.starts_with(problem.path.as_path());
    let of_file = |problem: &&Problem| problem.place.as_ref().is_some_and(|place| place.file == problem.path);
    let refused = problems.iter().filter(is_above).filter(|problem| !of_file(problem));
    let refused = refused.max_by_key(|problem| problem.path.0.len());
    if let Some(problem) = refused.filter(|p| found.is_none_or(|found| length(&found.at) < p.path.0.len())) {
        let answer = format!("{} is not served: {}", problem.path, problem.reason);
        return nothing(Verdict { place: problem.place.clone(), ..Verdict::no(answer) });
    }
    let Some(found) = found else { return nothing(Verdict::no("not below any mount point")) };
    let is_direct = found.entries.is_some();
    let line = Some(Place::from(&found.entry.place));
    let map_options = effective(&found.entry.options, &configuration.conf.autofs, options);
    let mode = if is_direct { Mode::Direct } else { Mode::Indirect };
    let source = open(&found.entry.source, mode, &context.environment);
    let names = Arc::clone(&configuration.names);
    let (mount_point, spec) = (found.entry.mount_point.clone(), found.entry.source.clone());
    let map = Rc::new(ConfiguredMap::new(1, mount_point, spec, map_options, (source, names)));
    let of_mount = |explanation: Explanation| Explanation {
        mount_point: Some(Bytes(map.mount_point.clone())),
        kind: Some(if is_direct { MountKind::Direct } else { MountKind::Indirect }),
        maps: vec![Bytes(plan::map_name(&map.spec))],
        line: line.clone(),
        timeout: map.timeout(),
        ..explanation
    };
    let key = path.strip_prefix(&found.at).ok().and_then(|below| below.components().next());
    let key = key.map(|key| key.as_os_str().as_bytes().to_vec()).filter(|_| !is_direct);
    if key.is_none() && !is_direct {
        return of_mount(nothing(Verdict::yes("a mount point of its own")));
    }
    let at = key.as_ref().map_or(found.at.clone(), |key| found.at.join(OsStr::from_bytes(key)));
    let question = Question {
        map: Rc::clone(&map),
        context: Rc::clone(context),
        at: at.clone(),
        written: None,
        kind: if is_direct { Kind::Direct } else { Kind::Indirect },
        key: Key::from(key.as_deref().unwrap_or_default()),
        who,
        below: Vec::new(),
        line: Line::default(),
    };
    let mut explained = resolve::explain(question.clone(), Some(path)).await;
    let hiding = candidates.iter().find(|c| !is_direct && c.at != at && c.at.starts_with(&at));
    let (mut question, mut line) = (question, line.clone());
    let mut kind = if is_direct { MountKind::Direct } else { MountKind::Indirect };
    while let Some(next) = below::in_submount(&question, &explained, path).filter(|_| hiding.is_none()) {
        (question, line, kind) = (next, explained.place.as_ref().map(Place::from), MountKind::Submount);
        explained = resolve::explain(question.clone(), Some(path)).await;
    }
    let verdict = match hiding {
        Some(below) => {
            let (below_at, place) = (Escaped::path(&below.at), Place::from(&below.entry.place));
            let answer = format!("hidden: {below_at} makes {} a plain directory", Escaped::path(&at));
            Verdict { place: Some(place), ..Verdict::no(answer) }
        }
        None => {
            let own = candidates.iter().map(|candidate| candidate.at.clone()).collect();
            feasible::verdict(&explained, path, own, lanes).await
        }
    };
    let (masked, map) = (Masked { secrets: wish.secrets }, Rc::clone(&question.map));
    Explanation {
        mount_point: Some(Bytes(map.mount_point.clone())),
        kind: Some(kind),
        maps: vec![Bytes(plan::map_name(&map.spec))],
        timeout: map.timeout(),
        key: Some(Bytes(question.name().to_vec())),
        outcome: explained.outcome,
        options: origins(&map, line.clone(), &explained, masked),
        line,
        place: explained.place.as_ref().map(Place::from),
        entry: explained.entry.as_deref().map(|entry| masked.bytes(entry)),
        plan: explained.plan.as_deref().map(|plan| masked.plan(plan)),
        notes: explained.notes.iter().map(|note| masked.text(note)).collect(),
        answer: masked.text(&verdict.answer),
        ..nothing(verdict)
    }
}

pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
