//! `autofsctl explain`: shows what an access would do, and whether it would succeed.

use std::fmt::Write as _;

use super::client::ClientError;
use super::exit::Exit;
use super::table::{Align, Table, duration};
use super::{Session, absolute, elsewhere};
use crate::control::{Answer, Bytes, Call, Explain, Explanation, MountKind, Origin, Place, PlanTree};
use crate::daemon::explain::offline;
use crate::engine::Requester;
use crate::sys::user;
use crate::text::Escaped;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A path at or below a mount point
    path: std::path::PathBuf,
    /// Read the files instead of asking the daemon
    #[arg(long)]
    offline: bool,
    /// The user who accesses the path, by name or number
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// Show passwords
    #[arg(long)]
    secrets: bool,
}

/// Explains one path. The exit status is 1 if an access would fail.
pub(super) fn explain(session: &Session, arguments: Arguments) -> Result<Exit, ClientError> {
    let path = absolute(&arguments.path)?;
    let ids = arguments.user.as_deref().map(identity).transpose()?;
    let (uid, gid) = (ids.map(|ids| ids.0), ids.map(|ids| ids.1));
    let wish = Explain { path, uid, gid, secrets: arguments.secrets };
    let mut explanation = if arguments.offline {
        let own = user::effective_uid();
        let who = Requester { uid: uid.unwrap_or(own), gid: gid.unwrap_or(own), ..Requester::default() };
        offline::explain(&wish, who)?
    } else {
        match session.ask(Call::Explain(wish))? {
            Answer::Explanation(explanation) => *explanation,
            _ => return Err(ClientError::unexpected()),
        }
    };
    if !arguments.offline && explanation.succeeds {
        if let Some(why) = unreachable(session, &explanation) {
            (explanation.succeeds, explanation.answer) = (false, why);
        }
    }
    session.show(&explanation, || told(&explanation))?;
    Ok(if explanation.succeeds { Exit::Yes } else { Exit::No })
}

/// Returns why an access in the mount namespace of this process does not reach what the daemon mounts.
fn unreachable(session: &Session, explanation: &Explanation) -> Option<String> {
    explanation.key.as_ref()?;
    let point = explanation.mount_point.as_ref()?;
    // Symbolic links and directories are in the file system of the mount point and need no further mount.
    let is_no_mount = |plan: &PlanTree| {
        deepest(plan, &explanation.path).attempts.first().is_none_or(|attempt| attempt.fstype.0 == b"symlink")
    };
    if explanation.plan.as_ref().is_some_and(is_no_mount) {
        return None;
    }
    elsewhere::unreachable(session, point, &explanation.path)
}

/// Returns the ids of a user.
fn identity(name: &str) -> Result<(u32, u32), ClientError> {
    user::ids(name)?.ok_or_else(|| ClientError::Usage(format!("there is no user {}", Escaped(name.as_bytes()))))
}

fn told(e: &Explanation) -> String {
    let mut text = format!("{}: {}\n", e.path, Escaped(e.answer.as_bytes()));
    let mut table = Table::new([("", Align::Left), ("", Align::Left), ("", Align::Left)]);
    let place = |place: &Option<Place>| place.as_ref().map(Place::to_string).unwrap_or_default();
    let mut row = |name: &str, what: String, place: String| table.push([format!("  {name}"), what, place]);
    if let Some(at) = &e.answer_place {
        row("where", at.to_string(), String::new());
    }
    if let (Some(point), Some(kind)) = (&e.mount_point, e.kind) {
        let kind = match kind {
            MountKind::Indirect => "indirect",
            MountKind::Direct => "direct",
            MountKind::Submount => "submount",
        };
        let timeout = if e.timeout == 0 { "no timeout".to_owned() } else { format!("timeout {}", duration(e.timeout)) };
        row("mount point", format!("{point}  {kind}, {timeout}"), place(&e.line));
    }
    for map in &e.maps {
        row("map", map.to_string(), String::new());
    }
    if let Some(key) = &e.key {
        row("key", key.to_string(), place(&e.place));
    }
    if let Some(entry) = &e.entry {
        row("entry", entry.to_string(), String::new());
    }
    for (n, option) in e.options.iter().enumerate() {
        let from = match option.from {
            Origin::Entry | Origin::Master => String::new(),
            Origin::CommandLine => "command line of the daemon".to_owned(),
            Origin::Automounter => "automounter".to_owned(),
        };
        row(if n == 0 { "options" } else { "" }, option.option.to_string(), place(&option.place) + &from);
    }
    text += &table.rows_only();
    if let Some(plan) = &e.plan {
        text += "  plan\n";
        branch(&mut text, plan, 2, &e.path);
    }
    for note in &e.notes {
        let _ = writeln!(text, "  note         {}", Escaped(note.as_bytes()));
    }
    text
}

/// Returns the part of a plan that an access to the path leads to.
fn deepest<'a>(plan: &'a PlanTree, path: &Bytes) -> &'a PlanTree {
    let is_above = |offset: &&PlanTree| path.as_path().starts_with(offset.at.as_path());
    plan.offsets.iter().find(is_above).map_or(plan, |offset| deepest(offset, path))
}

fn branch(text: &mut String, plan: &PlanTree, depth: usize, path: &Bytes) {
    let indent = "  ".repeat(depth);
    let strict = if plan.strict { "  (strict)" } else { "" };
    let is_here = path.as_path().starts_with(plan.at.as_path()) && deepest(plan, path).at == plan.at;
    let here = if is_here && depth > 2 { "  <- here" } else { "" };
    let _ = writeln!(text, "{indent}{}{strict}{here}", plan.at);
    for path in &plan.requires {
        let _ = writeln!(text, "{indent}  after {path}, which is required");
    }
    if plan.attempts.is_empty() {
        let _ = writeln!(text, "{indent}  directories only");
    }
    for (i, attempt) in plan.attempts.iter().enumerate() {
        let or = if i == 0 { "" } else { "else " };
        let options = if attempt.options.0.is_empty() { String::new() } else { format!("  {}", attempt.options) };
        let _ = writeln!(text, "{indent}  {or}{}  {}{options}", attempt.fstype, attempt.source);
    }
    if !plan.offsets.is_empty() {
        let _ = writeln!(text, "{indent}  on demand:");
        for offset in &plan.offsets {
            branch(text, offset, depth + 2, path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::plan::Attempt;
    use crate::control::{OptionOrigin, Outcome};

    fn bytes(text: &str) -> Bytes {
        text.as_bytes().into()
    }

    #[test]
    fn as_people_see_it() {
        let attempt =
            |fstype, source, options| Attempt { fstype: bytes(fstype), source: bytes(source), options: bytes(options) };
        let sub = PlanTree {
            at: bytes("/home/alice/mail"),
            attempts: vec![attempt("tmpfs", "tmpfs", "")],
            strict: false,
            requires: Vec::new(),
            offsets: Vec::new(),
        };
        let plan = PlanTree {
            at: bytes("/home/alice"),
            attempts: vec![attempt("bind", "/export/alice", ""), attempt("nfs", "filer:/export/alice", "rw,soft")],
            strict: true,
            requires: vec![bytes("/etc/keys")],
            offsets: vec![sub],
        };
        let place = |file, line, column| Some(Place { file: bytes(file), line, column });
        let explanation = Explanation {
            succeeds: true,
            answer: "an access would mount it".into(),
            mount_point: Some(bytes("/home")),
            kind: Some(MountKind::Indirect),
            line: place("/etc/auto.master", 2, 1),
            timeout: 300,
            key: Some(bytes("alice")),
            maps: vec![bytes("auto.home")],
            outcome: Outcome::Found,
            place: place("/etc/auto.home", 3, 1),
            entry: Some(bytes("-rw,soft filer:/export/&")),
            options: vec![OptionOrigin {
                option: bytes("rw"),
                from: Origin::Entry,
                place: place("/etc/auto.home", 3, 8),
            }],
            plan: Some(plan),
            notes: vec!["duplicate key".into()],
            ..Explanation::of(&bytes("/home/alice/mail"))
        };
        assert_eq!(
            told(&explanation),
            "/home/alice/mail: an access would mount it\n  \
               mount point  /home  indirect, timeout 5m  /etc/auto.master:2:1\n  \
               map          auto.home\n  \
               key          alice                        /etc/auto.home:3:1\n  \
               entry        -rw,soft filer:/export/&\n  \
               options      rw                           /etc/auto.home:3:8\n  \
               plan\n    \
                 /home/alice  (strict)\n      \
                   after /etc/keys, which is required\n      \
                   bind  /export/alice\n      \
                   else nfs  filer:/export/alice  rw,soft\n      \
                   on demand:\n        \
                     /home/alice/mail  <- here\n          \
                       tmpfs  tmpfs\n  \
               note         duplicate key\n"
        );
    }
}
