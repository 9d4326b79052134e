//! `-fstype=autofs`: an automount point inside another, with a map of its own.

use super::context::Context;
use super::{Action, Submount};
use crate::map::{Location, OptionList, Pseudo, SourceKind, SourceSpec};
use crate::text::{Diagnostic, Escaped, split_once};

/// The submount that `locations` name. It has the options of the mount point above it, its `-D` too; of `options` it
/// takes those that are about automounting, the others go on to its entries.
pub(super) fn action(ctx: &Context<'_>, options: &OptionList, locations: &[Location]) -> Result<Action, Diagnostic> {
    let mut own = ctx.master.clone();
    (own.mode, own.owner) = (None, None);
    for word in options.words() {
        let word = dashless(word);
        match (word, Pseudo::of(word)) {
            (_, None) if defined(word).is_some() => own.defines.extend(defined(word)),
            (b"strictexpire", _) => own.strictexpire = true,
            (_, Some(Pseudo::Browse(browse))) => own.browse = Some(browse),
            (_, Some(Pseudo::NoBind)) => own.nobind = true,
            (_, Some(Pseudo::Symlink)) => own.symlink = true,
            (_, Some(Pseudo::Timeout(seconds))) => own.timeout = Some(timeout(ctx, seconds)?),
            _ => {}
        }
    }
    let consumed = |word: &[u8]| {
        let word = dashless(word);
        matches!(word, b"strictexpire" | b"hosts") || Pseudo::of(word).is_some() || defined(word).is_some()
    };
    own.mount_options = options.filter(|word| !consumed(word)).as_bytes().to_vec();
    let source = match locations {
        _ if options.contains(b"hosts") => SourceSpec {
            kind: Some(SourceKind::Hosts),
            format: None,
            name: Vec::new(),
            parts: Vec::new(),
            lists: false,
        },
        [Location(text)] => source(ctx, text)?,
        [] => {
            return Err(ctx.error("plan::submount", "no map for the submount").help("write -fstype=autofs file:/path"));
        }
        _ => return Err(ctx.error("plan::submount", "more than one map for the submount")),
    };
    Ok(Action::Autofs(Box::new(Submount { source, options: own, prefix: Vec::new() })))
}

/// Returns an option of a master map line without its dashes, as it may stand among the options of a submount; a definition keeps
/// its dash.
fn dashless(word: &[u8]) -> &[u8] {
    match word {
        [b'-', b'D', ..] => word,
        [b'-', b'-', word @ ..] | [b'-', word @ ..] | word => word,
    }
}

/// Returns the name and value of a definition, `-DNAME=VALUE`.
fn defined(word: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (name, value) = split_once(word.strip_prefix(b"-D")?, b'=')?;
    (!name.is_empty()).then(|| (name.to_vec(), value.to_vec()))
}

fn timeout(ctx: &Context<'_>, seconds: &[u8]) -> Result<u64, Diagnostic> {
    std::str::from_utf8(seconds).ok().and_then(|s| s.parse().ok()).ok_or_else(|| {
        ctx.error("plan::timeout", format!("invalid timeout \"{}\"", Escaped(seconds)))
            .help("write a whole number of seconds: timeout=300")
    })
}

/// `[type[,format]:]name`, or `:/path`.
fn source(ctx: &Context<'_>, text: &[u8]) -> Result<SourceSpec, Diagnostic> {
    SourceSpec::parse(text.strip_prefix(b":").unwrap_or(text))
        .map_err(|e| ctx.error("plan::submount", e.to_string()).help(e.help()))
}
