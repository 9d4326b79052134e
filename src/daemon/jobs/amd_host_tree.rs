//! Entries with `type:=host` in am-utils format: all that a server exports, in a tree at the name of the server.
//!
//! A key with another name becomes a symbolic link to that tree. The name of the server is no key of the map, so the links at
//! the mount point are followed back to their keys; one of them says what the tree is. A new worker finds it in the same way.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::question::{self, Facts, Question};
use crate::engine::{Key, Kind};
use crate::exec::lanes::Lane;
use crate::map::amd::MountType;
use crate::map::{Body, Format, OptionList, RawEntry};
use crate::source::{self, Answer, Found};
use crate::sys::path;

/// Links that are followed back, at most.
const LINKS_MAX: usize = 256;

/// Returns whether `answer` may have to be expanded to the tree of a server, which needs the server.
pub(super) fn may_be(question: &Question, answer: &Answer) -> bool {
    matches!(answer, Answer::NotFound) && may_have_trees(question)
}

/// Returns whether the map is one in which servers may have trees.
fn may_have_trees(question: &Question) -> bool {
    question.kind == Kind::Indirect && question.map.spec.format == Some(Format::Amd)
}

/// Replaces the answer for a key by the tree of the server of this name, if it has one. May wait for the server.
pub(super) async fn expand(question: &Question, answer: Answer) -> Answer {
    if !may_have_trees(question) {
        return answer;
    }
    match &answer {
        Answer::Found(found) => match tree_of(question, found).await {
            Some((host, options)) if *host == *question.key.0 => tree(question, found, options).await,
            _ => answer,
        },
        Answer::NotFound => {
            for key in links_to(question).await {
                let asked = question.at_key(key);
                let Answer::Found(found) = asked.map.source.lookup(&asked.ask()).await else { continue };
                match tree_of(&asked, &found).await {
                    Some((host, options)) if *host == *question.key.0 => return tree(question, &found, options).await,
                    _ => {}
                }
            }
            answer
        }
        Answer::Unavailable(_) => answer,
    }
}

/// Returns the server whose tree an entry is, and the options.
async fn tree_of(question: &Question, found: &Found) -> Option<(Vec<u8>, OptionList)> {
    if !matches!(found.entry, RawEntry::Amd(_)) {
        return None;
    }
    let answers = question::answers(question, found).await.ok()?;
    let facts = Facts { answers, ..Facts::default() };
    let choice = question::with_entry(question, found, &facts, |entry, _| match &entry.body {
        Body::Amd(choices) => choices.first().map(|choice| (choice.mount.clone(), choice.options.clone())),
        _ => None,
    });
    match choice.ok()?? {
        (MountType::Host(host), options) => Some((host, options)),
        _ => None,
    }
}

/// Asks the server with the name of the key for its tree.
async fn tree(question: &Question, found: &Found, options: OptionList) -> Answer {
    let servers = &question.context.sources.servers;
    match source::exported(servers, &question.key.0, question.deadline()).await {
        Answer::Found(Found { entry: RawEntry::Typed(mut entry), .. }) => {
            entry.options = options;
            let provider = found.provider;
            Answer::Found(Found { provider, ..Found::new(RawEntry::Typed(entry), found.place.clone()) })
        }
        other => other,
    }
}

/// Returns the names of links at the mount point that lead to the key.
async fn links_to(question: &Question) -> Vec<Vec<u8>> {
    let Some(root) = question.at.parent().map(Path::to_path_buf) else { return Vec::new() };
    let at: PathBuf = question.at.clone();
    let find = move || -> std::io::Result<Vec<Vec<u8>>> {
        let root = path::open_exact(&root)?;
        let mut names = path::names(root.as_fd())?;
        // Other names are not links, or gone.
        let leads = |name: &Vec<u8>| path::readlink_at(root.as_fd(), Path::new(OsStr::from_bytes(name)));
        names.retain(|name| leads(name).is_ok_and(|to| to == at));
        names.truncate(LINKS_MAX);
        Ok(names)
    };
    question.context.lanes.run(Lane::Mount, find).await.unwrap_or_default()
}

impl Question {
    /// Returns the same question for another key of an indirect mount.
    fn at_key(&self, key: Vec<u8>) -> Self {
        let at = self.at.with_file_name(OsStr::from_bytes(&key));
        Self { at, key: Key::from(&*key), below: Vec::new(), ..self.clone() }
    }
}
