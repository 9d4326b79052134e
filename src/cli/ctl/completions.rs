//! `autofsctl completions`: the scripts by which shells complete the command line, and the candidates that these ask for.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Arg, Command, ValueEnum};
use serde::Serialize;

use super::client::{self, ClientError};
use super::exit::Exit;
use super::{Session, check, output};
use crate::control::{Answer, Call};
use crate::sys::mountinfo;

/// How long to wait for the daemon: nobody wants to wait for a completion.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(150);

/// The source of autofs mounts that systemd makes.
const SYSTEMD: &[u8] = b"systemd-1";

/// A shell that has a script.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Serialize)]
struct Script {
    text: &'static str,
}

/// Prints the script for a shell.
pub(super) fn script(session: &Session, shell: Shell) -> Result<Exit, ClientError> {
    let text = match shell {
        Shell::Bash => include_str!("../../../packaging/completions/autofsctl.bash"),
        Shell::Zsh => include_str!("../../../packaging/completions/_autofsctl"),
        Shell::Fish => include_str!("../../../packaging/completions/autofsctl.fish"),
    };
    session.show(&Script { text }, || text.to_owned())?;
    Ok(Exit::Yes)
}

/// Prints what the last of `words` may become, one candidate per line, with a tab before its description.
pub(super) fn complete(command: Command, words: &[OsString], socket: &Path) -> Result<Exit, ClientError> {
    let text = candidates(command, words, |kind| names(kind, socket));
    output::print(&text)?;
    Ok(if text.is_empty() { Exit::No } else { Exit::Yes })
}

/// The names that are not in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// Autofs mounts, and what is mounted below them.
    Paths,
    /// The paths that are blocked.
    Blocked,
}

/// Returns the names that exist now. Looks at no path, so that nothing is mounted.
fn names(kind: Names, socket: &Path) -> Vec<String> {
    match kind {
        Names::Paths => mountinfo::read().map(|table| paths(&table)).unwrap_or_default(),
        Names::Blocked => match client::ask(socket, Call::Status, ANSWER_TIMEOUT) {
            Ok(Answer::Status(status)) => status.blocks.iter().map(|block| block.path.to_string()).collect(),
            _ => Vec::new(),
        },
    }
}

fn paths(table: &[u8]) -> Vec<String> {
    let mut roots = HashSet::new();
    let mut found = Vec::new();
    for mount in mountinfo::parse(table) {
        if mount.autofs().is_some() && &*mount.source != SYSTEMD {
            roots.insert(mount.path().to_owned());
        } else if !mount.path().ancestors().any(|dir| roots.contains(dir)) {
            continue;
        }
        // A shell cannot be given other names on a line.
        if let Ok(path) = String::from_utf8(mount.target.to_vec()) {
            if !path.contains(char::is_control) {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Position on the command line of the word to complete.
struct Place<'a> {
    command: &'a Command,
    /// The option that still needs its value.
    option: Option<&'a Arg>,
    /// The number of arguments before that belong to no option.
    positionals: usize,
}

fn candidates(mut command: Command, words: &[OsString], names: impl Fn(Names) -> Vec<String>) -> String {
    command.build();
    let Some((last, before)) = words.split_last() else { return String::new() };
    let Some(last) = last.to_str() else { return String::new() };
    let place = place(&command, before);
    // Bash makes three words of `--color=always`.
    let (lead, last) = if last == "=" { ("", "") } else { split_value(last) };
    let option = place.option.or_else(|| option(place.command, lead.strip_suffix('=')?));
    let mut found: Vec<(String, String)> = Vec::new();
    if let Some(option) = option {
        values(option, &names, &mut found);
    } else if last.starts_with('-') {
        let shown = place.command.get_arguments().filter(|arg| !arg.is_hide_set());
        found.extend(shown.filter_map(|arg| Some((format!("--{}", arg.get_long()?), described(arg.get_help())))));
    } else if place.command.has_subcommands() {
        let shown = place.command.get_subcommands().filter(|verb| !verb.is_hide_set());
        found.extend(shown.map(|verb| (verb.get_name().to_owned(), described(verb.get_about()))));
    } else {
        let mut positionals = place.command.get_positionals();
        if let Some(arg) = positionals.nth(place.positionals) {
            values(arg, &names, &mut found);
        }
    }
    let mut text = String::new();
    for (name, about) in found.iter().filter(|(name, _)| name.starts_with(last)) {
        text += lead;
        text += name;
        if !about.is_empty() {
            text += "\t";
            text += about;
        }
        text += "\n";
    }
    text
}

/// Splits `--color=al` into `--color=` and `al`.
fn split_value(word: &str) -> (&str, &str) {
    match word.find('=') {
        Some(at) if word.starts_with("--") => word.split_at(at + 1),
        _ => ("", word),
    }
}

fn place<'a>(command: &'a Command, words: &[OsString]) -> Place<'a> {
    let mut place = Place { command, option: None, positionals: 0 };
    for word in words.iter().map(OsString::as_os_str) {
        if word == OsStr::new("=") && place.option.is_some() {
            continue;
        }
        if place.option.take().is_some() {
            continue;
        }
        let text = word.to_str().unwrap_or_default();
        if text.starts_with('-') {
            place.option = option(place.command, text).filter(|arg| arg.get_action().takes_values());
        } else if let Some(verb) = place.command.find_subcommand(word) {
            place.command = verb;
        } else {
            place.positionals += 1;
        }
    }
    place
}

fn option<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.strip_prefix("--")?;
    command.get_arguments().find(|arg| arg.get_long() == Some(name))
}

fn values(arg: &Arg, names: impl Fn(Names) -> Vec<String>, found: &mut Vec<(String, String)>) {
    let known = arg.get_possible_values();
    let about = |value: &PossibleValue| (value.get_name().to_owned(), described(value.get_help()));
    found.extend(known.iter().map(about));
    if matches!(arg.get_id().as_str(), "explain" | "allow") && !arg.is_positional() {
        found.extend(check::codes::all().into_iter().map(|code| (code.to_owned(), String::new())));
    }
    let is_path = arg.is_positional() && matches!(arg.get_id().as_str(), "path" | "which");
    if arg.get_id() == "blocked" {
        found.extend(names(Names::Blocked).into_iter().map(|name| (name, String::new())));
    } else if is_path {
        found.extend(names(Names::Paths).into_iter().map(|name| (name, String::new())));
    }
}

fn described(help: Option<&clap::builder::StyledStr>) -> String {
    help.map(ToString::to_string).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn completed(words: &[&str]) -> Vec<String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let names = |kind| match kind {
            Names::Paths => vec!["/home".to_owned(), "/home/alice".to_owned(), "/proj".to_owned()],
            Names::Blocked => vec!["/proj/x".to_owned()],
        };
        let text = candidates(super::super::Arguments::command(), &words, names);
        text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn words_are_completed_by_where_they_stand() {
        assert_eq!(completed(&["un"]), ["unblock"]);
        assert_eq!(completed(&["--json", "ex"]), ["expire", "explain"]);
        assert_eq!(completed(&["--socket", "/run/x", "moni"]), ["monitor"]);
        assert_eq!(completed(&["status", "/h"]), ["/home", "/home/alice"]);
        assert_eq!(completed(&["history", "/p"]), ["/proj"]);
        assert_eq!(completed(&["unblock", ""]), ["/proj/x"]);
        assert_eq!(completed(&["reload", "--d"]), ["--dry-run"]);
        assert_eq!(completed(&["status", "--js"]), ["--json"]);
        assert_eq!(completed(&["log-level", "/home", "v"]), ["verbose"]);
        assert_eq!(completed(&["completions", ""]), ["bash", "zsh", "fish"]);
    }

    #[test]
    fn values_of_options_are_completed() {
        assert_eq!(completed(&["--color", "a"]), ["auto", "always"]);
        assert_eq!(completed(&["--color=al"]), ["--color=always"]);
        assert_eq!(completed(&["--color", "="]), ["auto", "always", "never"]);
        assert_eq!(completed(&["--color", "=", "n", "ping"]), ["ping"]);
        assert_eq!(completed(&["quiesce", "--mode", "l"]), ["live"]);
        assert_eq!(completed(&["check", "--as", "a"]), ["amd", "autofs.conf", "autofs.toml", "autofs_ldap_auth.conf"]);
        assert_eq!(completed(&["check", "--explain", "map::sh"]), ["map::shadowed"]);
        assert_eq!(completed(&["check", "--allow", "text::cr"]), ["text::crlf"]);
    }

    #[test]
    fn where_nothing_is_known_the_shell_completes_files() {
        for words in
            [&["check", ""][..], &["convert", "/e"], &["--socket", ""], &["complete", ""], &["status", "/home", ""]]
        {
            assert_eq!(completed(words), [""; 0], "{words:?}");
        }
    }

    #[test]
    fn paths_are_autofs_mounts_and_what_is_below() {
        let table = b"1 0 8:1 / / rw - ext4 /dev/a rw\n\
            2 1 0:5 / /home rw - autofs /etc/auto.home rw,fd=5,pgrp=1,timeout=300,minproto=5,maxproto=5,indirect,pipe_ino=9\n\
            3 2 8:1 /srv /home/alice rw - ext4 /dev/a rw\n\
            4 1 0:6 / /homes rw - tmpfs tmpfs rw\n\
            5 1 0:7 / /proc/x rw - autofs systemd-1 rw,fd=5,pgrp=1,timeout=0,minproto=5,maxproto=5,direct,pipe_ino=8\n";
        assert_eq!(paths(table), ["/home", "/home/alice"]);
    }
}
