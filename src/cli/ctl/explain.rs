//! `autofsctl explain`: shows what an access would do.

use std::fmt::Write as _;

use super::Session;
use super::client::ClientError;
use super::exit::Exit;
use crate::control::{Answer, Bytes, Call, Explanation, MountKind, Outcome, PlanTree};

/// Explains one path. The exit status is 1 if there is nothing to mount.
pub(super) fn explain(session: &Session, path: Bytes) -> Result<Exit, ClientError> {
    let Answer::Explanation(explanation) = session.ask(Call::Explain { path })? else {
        return Err(ClientError::unexpected());
    };
    session.show(&explanation, || told(&explanation));
    Ok(if explanation.outcome == Outcome::Found { Exit::Yes } else { Exit::No })
}

fn told(e: &Explanation) -> String {
    let kind = match e.kind {
        MountKind::Indirect => "indirect",
        MountKind::Direct => "direct",
    };
    let maps = e.maps.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let outcome = match e.outcome {
        Outcome::Found => "found",
        Outcome::NotFound => "no map has this key",
        Outcome::Invalid => "the entry is invalid",
        Outcome::Unavailable => "no map can be read",
    };
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "path     {}", e.path);
    let _ = writeln!(text, "mount    {} ({kind})", e.mount_point);
    let _ = writeln!(text, "map      {maps}");
    let _ = writeln!(text, "key      {}", e.key);
    let _ = writeln!(text, "outcome  {outcome}");
    if let Some(place) = &e.place {
        let _ = writeln!(text, "place    {place}");
    }
    if let Some(entry) = &e.entry {
        let _ = writeln!(text, "entry    {entry}");
    }
    for note in &e.notes {
        let _ = writeln!(text, "note     {}", crate::text::Escaped(note.as_bytes()));
    }
    if let Some(plan) = &e.plan {
        text += "plan\n";
        branch(&mut text, plan, 1);
    }
    text
}

fn branch(text: &mut String, plan: &PlanTree, depth: usize) {
    let indent = "  ".repeat(depth);
    let strict = if plan.strict { "  (strict)" } else { "" };
    let _ = writeln!(text, "{indent}{}{strict}", plan.at);
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
            branch(text, offset, depth + 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::plan::Attempt;

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
            offsets: Vec::new(),
        };
        let plan = PlanTree {
            at: bytes("/home/alice"),
            attempts: vec![attempt("bind", "/export/alice", ""), attempt("nfs", "filer:/export/alice", "rw,soft")],
            strict: true,
            offsets: vec![sub],
        };
        let explanation = Explanation {
            path: bytes("/home/alice"),
            mount_point: bytes("/home"),
            kind: MountKind::Indirect,
            key: bytes("alice"),
            maps: vec![bytes("auto.home")],
            outcome: Outcome::Found,
            place: Some(bytes("/etc/auto.home:3:1")),
            entry: Some(bytes("-rw,soft filer:/export/&")),
            plan: Some(plan),
            notes: vec!["duplicate key".into()],
        };
        assert_eq!(
            told(&explanation),
            "path     /home/alice\n\
             mount    /home (indirect)\n\
             map      auto.home\n\
             key      alice\n\
             outcome  found\n\
             place    /etc/auto.home:3:1\n\
             entry    -rw,soft filer:/export/&\n\
             note     duplicate key\n\
             plan\n  \
               /home/alice  (strict)\n    \
                 bind  /export/alice\n    \
                 else nfs  filer:/export/alice  rw,soft\n    \
                 on demand:\n      \
                   /home/alice/mail\n        \
                     tmpfs  tmpfs\n"
        );
    }
}
