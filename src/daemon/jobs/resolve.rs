//! From a key to a plan: looks the key up, reads its entry, and finds out what the plan depends on.
//!
//! [`now`] uses only what is in memory and runs on the reactor; it answers most requests. [`later`] may ask the map's
//! source, the user database and the name servers, each with a deadline of its own.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, error, info, warn};
use tokio::time::Instant;

use super::host_tree;
use crate::control::Outcome;
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::maps::context::Context;
use crate::engine::{Key, Kind, Reason, Requester, Resolution};
use crate::logging::target;
use crate::map::{Entry, RawEntry, Scope, User, amd, reader};
use crate::plan::{self, Host};
use crate::record::Record;
use crate::source::{Answer, Ask, Found, Pass};
use crate::text::{Escaped, Position};

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) map: Rc<ConfiguredMap>,
    pub(crate) context: Rc<Context>,
    /// Where it is to be mounted.
    pub(crate) at: PathBuf,
    /// A direct key as it is written, if a symbolic link leads to it.
    pub(crate) written: Option<Arc<Path>>,
    pub(crate) kind: Kind,
    pub(crate) key: Key,
    pub(crate) who: Requester,
    /// Direct keys below this one, which is direct too.
    pub(crate) below: Vec<Question>,
    /// Where the entry that was found is noted.
    pub(crate) line: Line,
}

/// The place and the text of an entry.
pub(crate) type EntryLine = (Position, Vec<u8>);

/// Where the line of the entry that was found is noted. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Rc<RefCell<Option<EntryLine>>>);

impl Line {
    fn note(&self, found: &Found) {
        self.0.replace(Some((found.place.clone(), found.entry.text().into_owned())));
    }

    /// Returns the line that was noted last.
    pub(crate) fn take(&self) -> Option<EntryLine> {
        self.0.take()
    }
}

impl Question {
    /// Returns the target of log records about it.
    pub(crate) fn target(&self) -> Cow<'_, str> {
        target(&self.at)
    }

    /// Returns the key as the map has it: of a direct mount it is the path.
    pub(crate) fn name(&self) -> &[u8] {
        match &self.written {
            _ if self.kind == Kind::Indirect => &self.key.0,
            Some(written) => written.as_os_str().as_bytes(),
            None => self.at.as_os_str().as_bytes(),
        }
    }

    /// Returns when a source that is asked now must have answered.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.context.lookup_deadline
    }

    /// Returns the path of the autofs mount below which it is to be mounted, or of the direct mount.
    fn mount_point(&self) -> Option<Arc<Path>> {
        let path = if self.kind == Kind::Indirect { self.at.parent()? } else { &self.at };
        Some(path.into())
    }

    /// Returns the question for the source of the map.
    pub(super) fn ask(&self) -> Ask {
        Ask {
            key: self.name().into(),
            who: Some(Arc::new(User { uid: self.who.uid, gid: self.who.gid, ..User::default() })),
            globals: Arc::clone(&self.context.macros),
            defines: self.map.options.defines.as_slice().into(),
            mount_point: self.mount_point(),
            negative_timeout: Duration::from_secs(self.map.negative_timeout()),
            pass: Pass::new(self.deadline()),
        }
    }
}

/// What was found out for a plan.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) user: Option<Arc<User>>,
    pub(super) hosts: Option<HashMap<Vec<u8>, Host>>,
    /// What the selectors of an entry in am-utils format ask.
    pub(super) answers: amd::Answers,
}

impl Facts {
    fn host(&self, name: &[u8]) -> Host {
        self.hosts.as_ref().and_then(|hosts| hosts.get(name)).copied().unwrap_or(Host::Unknown)
    }
}

/// Logs that nothing is mounted, in the words that scripts look for.
pub(crate) fn log_failure(at: &Path, outcome: &Resolution) {
    if !matches!(outcome, Resolution::Found(_)) {
        info!(target: &target(at), "failed to mount {}", Escaped::path(at));
    }
}

/// Answers from memory. Returns `None` if something must be asked.
pub(crate) fn now(question: &Question) -> Option<Resolution> {
    let answer = question.map.source.cached(question.name())?;
    if host_tree::may_be(question, &answer) {
        return None;
    }
    let mut facts = Facts::default();
    if matches!(&answer, Answer::Found(found) if found.entry.asks_for_user()) {
        facts.user = Some(question.context.sources.users.cached(question.who.uid, question.who.gid)?);
    }
    let found = resolution(question, answer, &facts)?;
    let below = question.below.iter().map(now).collect::<Option<Vec<_>>>()?;
    Some(with_below(found, below))
}

/// Adds the plans of direct keys below it to a plan.
fn with_below(found: Resolution, below: Vec<Resolution>) -> Resolution {
    match found {
        Resolution::Found(plan) if !below.is_empty() => {
            let mut plan = Arc::unwrap_or_clone(plan);
            for found in below {
                if let Resolution::Found(below) = found {
                    plan.graft(below);
                }
            }
            Resolution::Found(Arc::new(plan))
        }
        other => other,
    }
}

/// Asks what must be asked, and answers. Each source that is asked answers by a deadline.
pub(crate) async fn later(question: Question) -> Resolution {
    let begun = Instant::now();
    let outcome = ask(&question).await;
    let lasting = |reason: Reason| Arc::unwrap_or_clone(reason).lasting(begun.elapsed()).into();
    match outcome {
        Resolution::Invalid(reason) => Resolution::Invalid(lasting(reason)),
        Resolution::Unavailable(reason) => Resolution::Unavailable(lasting(reason)),
        outcome => outcome,
    }
}

async fn ask(question: &Question) -> Resolution {
    let answer = question.map.source.lookup(&question.ask()).await;
    let answer = host_tree::expand(question, answer).await;
    let facts = match &answer {
        Answer::Found(found) => match find_out(question, found).await {
            Ok(facts) => facts,
            Err(why) => {
                error!(target: &question.target(), "{}: {why}", Escaped::path(&question.at));
                return Resolution::Unavailable(Record::new(why).into());
            }
        },
        _ => Facts::default(),
    };
    if matches!(&answer, Answer::Found(found) if found.stale) {
        debug!(target: &question.target(), "{}: {} is as it was read before", question.target(), question.map.source.id());
    }
    let found = resolution(question, answer, &facts).unwrap_or_else(|| {
        let reason = format!("{}: not all that the entry depends on could be found out", question.target());
        Resolution::Unavailable(Record::new(reason).into())
    });
    let mut below = Vec::with_capacity(question.below.len());
    for question in &question.below {
        below.push(Box::pin(ask(question)).await);
    }
    with_below(found, below)
}

/// Asks for what the plan of an entry depends on. An error says why that cannot be found out.
async fn find_out(question: &Question, found: &Found) -> Result<Facts, &'static str> {
    let sources = &question.context.sources;
    let mut facts = Facts::default();
    if found.entry.asks_for_user() {
        let user = sources.users.find(question.who.uid, question.who.gid, question.deadline()).await;
        facts.user = Some(user.ok_or("the user database does not answer")?);
    }
    facts.answers = answers(question, found).await?;
    let hosts = with_entry(question, found, &facts, |entry, ctx| {
        plan::hosts(entry, ctx).into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
    });
    let deadline = question.deadline();
    let asking: Vec<_> = hosts
        .unwrap_or_default()
        .into_iter()
        .map(|name| {
            let hosts = Arc::clone(&sources.hosts);
            tokio::spawn(async move { (hosts.find(&name, deadline).await, name) })
        })
        .collect();
    let mut hosts = HashMap::new();
    for asked in asking {
        if let Ok((host, name)) = asked.await {
            hosts.insert(name, host);
        }
    }
    facts.hosts = Some(hosts);
    Ok(facts)
}

/// How often answers may lead to more questions.
const ROUNDS: usize = 4;

/// Asks for what the selectors of an entry depend on. An error says why that cannot be found out.
pub(super) async fn answers(question: &Question, found: &Found) -> Result<amd::Answers, &'static str> {
    let mut answers = amd::Answers::default();
    for _ in 0..ROUNDS {
        let needed = questions(question, found, &answers);
        if needed.is_empty() {
            break;
        }
        if answers.len() + needed.len() > amd::QUESTIONS_MAX {
            return Err("the selectors of the entry ask for too much");
        }
        let deadline = question.deadline();
        let ask = |needed: amd::Question| {
            let inquiries = Arc::clone(&question.context.sources.inquiries);
            tokio::spawn(async move { (inquiries.find(&needed, deadline).await, needed) })
        };
        for asked in needed.into_iter().map(ask).collect::<Vec<_>>() {
            match asked.await {
                Ok((Some(answer), needed)) => answers.insert(needed, answer),
                _ => return Err("what the selectors of the entry ask for does not get an answer"),
            }
        }
    }
    Ok(answers)
}

/// Returns what must be known before an entry in am-utils format can be read.
fn questions(question: &Question, found: &Found, answers: &amd::Answers) -> BTreeSet<amd::Question> {
    let Some(settings) = amd_settings(question, found) else { return BTreeSet::new() };
    let ids = ids(question);
    let options = found.options(&question.map.options);
    let scope = Scope { globals: &question.context.macros, defines: &options.defines, user: Some(&ids) };
    let around = amd::Around { path: question.at.as_os_str().as_bytes(), settings: &settings, answers, all: false };
    reader::questions(&found.entry, &found.place, question.name(), &scope, &around)
}

/// Returns what an entry is read with, if it is in am-utils format.
fn amd_settings(question: &Question, found: &Found) -> Option<amd::Settings> {
    matches!(found.entry, RawEntry::Amd(_)).then(|| question.context.amd.settings(question.at.as_os_str().as_bytes()))
}

/// Returns the requester, without names.
fn ids(question: &Question) -> User {
    User { uid: question.who.uid, gid: question.who.gid, ..User::default() }
}

/// Makes a plan of what a source has answered. Returns `None` if the plan depends on something that is not known.
fn resolution(question: &Question, answer: Answer, facts: &Facts) -> Option<Resolution> {
    let at = question.target();
    let found = match answer {
        Answer::Found(found) if found.entry.is_hidden() => return Some(Resolution::NotFound),
        Answer::Found(found) => found,
        Answer::NotFound => {
            if !question.context.settings.disable_not_found_message {
                error!(target: &at, "key \"{}\" not found in map source(s).", Escaped(question.name()));
            }
            return Some(Resolution::NotFound);
        }
        Answer::Unavailable(reason) => {
            error!(target: &at, "{}: {reason}", Escaped::path(&question.at));
            return Some(match reason.of_key() {
                Some(record) => Resolution::Invalid(record.clone().into()),
                None => Resolution::Unavailable(Record::of(&reason, Duration::ZERO).into()),
            });
        }
    };
    question.line.note(&found);
    if facts.user.is_none() && found.entry.asks_for_user() {
        return None;
    }
    if !questions(question, &found, &facts.answers).is_empty() {
        return None;
    }
    let planned = with_entry(question, &found, facts, |entry, ctx| {
        if facts.hosts.is_none() && !plan::hosts(entry, ctx).is_empty() {
            return None;
        }
        let mut warnings = Vec::new();
        let plan = plan::build(entry, ctx, &|name| facts.host(name), &mut warnings);
        for warning in warnings {
            warn!(target: &at, "{warning}");
        }
        Some(match plan {
            Ok(plan) => Resolution::Found(plan),
            Err(e) => {
                error!(target: &at, "{e}");
                Resolution::Invalid(Record::new(e.to_string()).into())
            }
        })
    });
    match planned {
        Ok(resolution) => resolution,
        Err(e) => {
            error!(target: &at, "{e}");
            Some(Resolution::Invalid(Record::new(e.to_string()).into()))
        }
    }
}

/// Reads an entry and hands it to `then`, with what a plan is made from.
pub(super) fn with_entry<T>(
    question: &Question,
    found: &Found,
    facts: &Facts,
    then: impl FnOnce(&Entry, &plan::Context<'_>) -> T,
) -> Result<T, Box<crate::text::Diagnostic>> {
    let Question { map, context, at, kind, .. } = question;
    let ids = ids(question);
    let options = found.options(&map.options);
    let user = Some(facts.user.as_deref().unwrap_or(&ids));
    let scope = Scope { globals: &context.macros, defines: &options.defines, user };
    let amd = amd_settings(question, found);
    let settings = amd.as_ref().unwrap_or(&context.no_amd);
    let around = amd::Around { path: at.as_os_str().as_bytes(), settings, answers: &facts.answers, all: false };
    let slashify = options.slashify_colons.unwrap_or(true);
    let mut warnings = Vec::new();
    let entry = reader::entry(&found.entry, &found.place, question.name(), &scope, slashify, &around, &mut warnings)?;
    for warning in warnings {
        info!(target: &question.target(), "{warning}");
    }
    let ctx = plan::Context {
        at,
        direct: *kind != Kind::Indirect,
        master: &options,
        global: &context.global_options,
        append_options: context.settings.append_options,
        hosts_map: found.hosts_map,
        bind_links: settings.use_lofs,
        dice: if map.options.random { throw_dice() } else { plan::Dice::default() },
        place: &found.place,
    };
    Ok(then(&entry, &ctx))
}

/// Throws dice: each `RandomState` has other keys, which begin with the system's randomness.
fn throw_dice() -> plan::Dice {
    plan::Dice(RandomState::new().hash_one(()))
}

/// Answers with the reasons. Nothing is mounted, nothing goes to the log.
pub(crate) async fn explain(question: Question) -> Explained {
    let source = &question.map.source;
    let mut explained =
        Explained { outcome: Outcome::NotFound, place: None, entry: None, plan: None, notes: Vec::new() };
    let answer = host_tree::expand(&question, source.lookup(&question.ask()).await).await;
    if !source.exists() {
        if let Err(e) = source.entries(&Pass::new(question.deadline())).await {
            explained.notes.push(e.to_string());
        }
    }
    let found = match answer {
        Answer::Found(found) if !found.entry.is_hidden() => found,
        Answer::Found(_) | Answer::NotFound => return explained,
        Answer::Unavailable(reason) => {
            let reason = reason.to_string();
            if !explained.notes.contains(&reason) {
                explained.notes.push(reason);
            }
            return Explained { outcome: Outcome::Unavailable, ..explained };
        }
    };
    if found.stale {
        explained.notes.push(format!("{} does not answer: this is what it said before", source.id()));
    }
    explained.place = Some(found.place.clone());
    explained.entry = Some(found.entry.text().into_owned());
    let facts = match find_out(&question, &found).await {
        Ok(facts) => facts,
        Err(why) => {
            explained.notes.push(why.to_owned());
            return Explained { outcome: Outcome::Unavailable, ..explained };
        }
    };
    let planned = with_entry(&question, &found, &facts, |entry, ctx| {
        let mut warnings = Vec::new();
        let plan = plan::build(entry, ctx, &|name| facts.host(name), &mut warnings);
        (plan, warnings)
    });
    explained.outcome = Outcome::Invalid;
    match planned {
        Ok((plan, warnings)) => {
            explained.notes.extend(warnings.iter().map(ToString::to_string));
            match plan {
                Ok(plan) => {
                    explained.notes.extend(servers(&question, &plan).await);
                    return Explained { outcome: Outcome::Found, plan: Some(plan), ..explained };
                }
                Err(e) => explained.notes.push(e.to_string()),
            }
        }
        Err(e) => explained.notes.push(e.to_string()),
    }
    explained
}

/// Asks the servers of an entry as at a mount. Returns what is known of each, and the order of those that would be tried.
async fn servers(question: &Question, plan: &plan::Plan) -> Vec<String> {
    let plan::Action::Mount(mounts) = &plan.action else { return Vec::new() };
    let mut choice = question.context.sources.servers.choose(mounts, question.context.choosing).await;
    let (mut notes, mut order) = (Vec::new(), Vec::new());
    while let Some(round) = choice.next().await {
        notes.extend(round.told);
        order.extend(round.mounts.iter().map(|mount| Escaped(&mount.source).to_string()));
    }
    if !notes.is_empty() {
        let none = "no server of the entry serves".to_owned();
        notes.push(if order.is_empty() { none } else { format!("tried in this order: {}", order.join(", ")) });
    }
    notes
}

/// What is known of a key without mounting it.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) outcome: Outcome,
    pub(crate) place: Option<crate::text::Position>,
    pub(crate) entry: Option<Vec<u8>>,
    pub(crate) plan: Option<std::sync::Arc<crate::plan::Plan>>,
    pub(crate) notes: Vec<String>,
}
