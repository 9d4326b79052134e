//! The question for a key: what is asked, what must be found out before its entry can be read, and the entry.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::info;
use tokio::time::Instant;

use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::maps::context::Context;
use crate::engine::{Key, Kind, Requester};
use crate::logging::target;
use crate::map::{Entry, RawEntry, Scope, User, amd, reader};
use crate::plan::{self, Host};
use crate::source::{Answer, Ask, Found, Pass};
use crate::text::Position;

/// One lookup of a key.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) map: Rc<ConfiguredMap>,
    pub(crate) context: Rc<Context>,
    /// Path of the entry.
    pub(crate) at: PathBuf,
    /// A direct key as it is written, if a symbolic link leads to it.
    pub(crate) written: Option<Arc<Path>>,
    pub(crate) kind: Kind,
    pub(crate) key: Key,
    pub(crate) who: Requester,
    /// Direct keys below this one, which is direct too.
    pub(crate) below: Vec<Question>,
    /// Filled with the line of the entry when it is found.
    pub(crate) line: Line,
}

/// The place and the text of an entry.
pub(crate) type EntryLine = (Position, Vec<u8>);

/// Cell for the line of the entry that a lookup finds. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Rc<RefCell<Option<EntryLine>>>);

impl Line {
    pub(super) fn note(&self, found: &Found) {
        self.0.replace(Some((found.place.clone(), found.entry.text().into_owned())));
    }

    /// Takes the line that was noted last. Later calls return `None` until another one is noted.
    pub(crate) fn take(&self) -> Option<EntryLine> {
        self.0.take()
    }
}

impl Question {
    /// Returns the target of log records about it.
    pub(crate) fn target(&self) -> Cow<'_, str> {
        target(&self.at)
    }

    /// Returns the key as written in the map; for a direct mount, its path.
    pub(crate) fn name(&self) -> &[u8] {
        match &self.written {
            _ if self.kind == Kind::Indirect => &self.key.0,
            Some(written) => written.as_os_str().as_bytes(),
            None => self.at.as_os_str().as_bytes(),
        }
    }

    /// Returns whether `found` may be used for this key: an entry of a wildcard may not, if the key is excluded from wildcards.
    pub(super) fn accepts(&self, found: &Found) -> bool {
        !found.by_wildcard || !self.is_excepted()
    }

    /// Returns whether the source need not be asked: the key is excluded from wildcards, and the map is not known to have its own
    /// entry for it. Maps that are read as a whole are asked anyway: they know whether they have one. A program that does not
    /// list its keys has no keys when it was read.
    pub(super) fn is_refused(&self) -> bool {
        let source = &self.map.source;
        let is_own = || matches!(source.known(self.name()), Some(Answer::Found(found)) if !found.by_wildcard);
        self.is_excepted() && source.known_entries().is_none_or(|entries| entries.is_empty()) && !is_own()
    }

    fn is_excepted(&self) -> bool {
        self.kind == Kind::Indirect && self.context.wildcards.except(self.name())
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

/// Facts that a plan depends on.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) user: Option<Arc<User>>,
    pub(super) hosts: Option<HashMap<Vec<u8>, Host>>,
    /// Answers to the selectors of an entry in am-utils format.
    pub(super) answers: amd::Answers,
}

impl Facts {
    pub(super) fn host(&self, name: &[u8]) -> Host {
        self.hosts.as_ref().and_then(|hosts| hosts.get(name)).copied().unwrap_or(Host::Unknown)
    }
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
            return Err("the selectors of the entry need too many questions");
        }
        let deadline = question.deadline();
        let ask = |needed: amd::Question| {
            let inquiries = Arc::clone(&question.context.sources.inquiries);
            tokio::spawn(async move { (inquiries.find(&needed, deadline).await, needed) })
        };
        for asked in needed.into_iter().map(ask).collect::<Vec<_>>() {
            match asked.await {
                Ok((Some(answer), needed)) => answers.insert(needed, answer),
                _ => return Err("a question of the selectors of the entry was not answered"),
            }
        }
    }
    Ok(answers)
}

/// Returns what must be known before an entry in am-utils format can be read.
pub(super) fn questions(question: &Question, found: &Found, answers: &amd::Answers) -> BTreeSet<amd::Question> {
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
