//! Entry to plan: options from all sides joined, a method for each part, the parts of a multi-mount in a tree.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::context::{Context, Facts};
use super::method::{self, Role};
use super::{Action, Plan, amd, first, nfs, requires};
use crate::map::{Body, Entry, Location, OptionList, Part, Pseudo};
use crate::text::{Diagnostic, Escaped, Severity};

/// PATH_MAX of linux/limits.h without the NUL: nothing longer can be named to the kernel.
const LONGEST_PATH: usize = 4095;

/// The longest timeout of an entry: some hundred years. The kernel has no room for many more.
const LONGEST: u64 = u32::MAX as u64;

/// Returns the host names that [`build`] needs to know about, each once: those of NFS locations.
pub fn hosts<'e>(entry: &'e Entry, ctx: &Context<'_>) -> BTreeSet<&'e [u8]> {
    let general = ctx.options(&entry.options);
    match &entry.body {
        Body::Single(locations) if ctx.wishes(&general).is_nfs() => nfs::hosts(locations).collect(),
        Body::First(places) if ctx.wishes(&general).is_nfs() => {
            places.iter().flat_map(|locations| nfs::hosts(locations)).collect()
        }
        Body::Multi(parts) => parts
            .iter()
            .filter(|part| ctx.wishes(&OptionList::join(&general, &part.options)).is_nfs())
            .flat_map(|part| nfs::hosts(&part.locations))
            .collect(),
        Body::Amd(choices) => amd::hosts(choices).collect(),
        _ => BTreeSet::new(),
    }
}

/// Makes the plan for an access to the key of `entry`. Invalid parts of a nonstrict multi-mount are left out, with a warning in
/// `warnings`.
///
/// # Errors
/// Returns why no plan can be made of the entry.
pub fn build(
    entry: &Entry,
    ctx: &Context<'_>,
    facts: &Facts<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Arc<Plan>, Diagnostic> {
    let mut plan = body(entry, ctx, facts, warnings)?;
    let timeout = match &entry.body {
        Body::Amd(choices) => choices.first().and_then(|first| if first.never { Some(0) } else { first.timeout }),
        _ => timeout(ctx, &entry.options, warnings),
    };
    // A submount has a timeout for its own keys.
    if timeout.is_some() && plan.action.submount().is_none() {
        Arc::make_mut(&mut plan).timeout = timeout;
    }
    let requires = requires::of(entry, ctx)?;
    if !requires.is_empty() {
        Arc::make_mut(&mut plan).requires = requires;
    }
    Ok(plan)
}

/// The timeout of an entry among its own options.
fn timeout(ctx: &Context<'_>, own: &OptionList, warnings: &mut Vec<Diagnostic>) -> Option<u64> {
    let is_timeout = |word| if let Some(Pseudo::Timeout(text)) = Pseudo::of(word) { Some(text) } else { None };
    let text = own.words().filter_map(is_timeout).last()?;
    let seconds =
        std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).filter(|seconds| *seconds <= LONGEST);
    if seconds.is_none() && ctx.wishes(own).fstype != b"autofs" {
        let error = ctx.error("plan::timeout", format!("the timeout \"{}\" is no number of seconds", Escaped(text)));
        warnings.push(error.help("write timeout=300, or timeout=0 for an entry that stays mounted").into_warning());
    }
    seconds
}

/// Makes the plan without the timeout of the entry.
fn body(
    entry: &Entry,
    ctx: &Context<'_>,
    facts: &Facts<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Arc<Plan>, Diagnostic> {
    let general = ctx.options(&entry.options);
    let strict = ctx.wishes(&general).strict;
    let at = ctx.at.to_path_buf();
    match &entry.body {
        Body::Hidden => Err(ctx.error("plan::hidden", "the key is hidden by -null")),
        Body::Single(locations) => {
            let action = method::action(ctx, &at, &general, locations, Role::Whole, facts)?;
            Ok(Arc::new(Plan { at, action, offsets: Vec::new(), strict, timeout: None, requires: Vec::new() }))
        }
        Body::First(places) => {
            let place = |locations: &Vec<Location>| {
                // A server whose name is not known now may be known when it is asked.
                let action = method::action(ctx, &at, &general, locations, Role::Offset, facts)?;
                let link = ctx.wishes(&general).symlink && !ctx.direct;
                Ok(first::place(action, link))
            };
            let action = Action::Leads(places.iter().map(place).collect::<Result<_, _>>()?);
            Ok(Arc::new(Plan { at, action, offsets: Vec::new(), strict, timeout: None, requires: Vec::new() }))
        }
        Body::Amd(choices) => {
            let action = amd::action(ctx, choices, facts)?;
            Ok(Arc::new(Plan { at, action, offsets: Vec::new(), strict, timeout: None, requires: Vec::new() }))
        }
        Body::Multi(parts) => {
            let mut root =
                Plan { at, action: Action::Nothing, offsets: Vec::new(), strict, timeout: None, requires: Vec::new() };
            let mut offsets = Vec::new();
            for part in parts {
                let role = if part.is_root() { Role::Root } else { Role::Offset };
                match plan_part(ctx, &general, part, role, facts) {
                    Ok(plan) if part.is_root() => root = plan,
                    Ok(plan) => offsets.push(plan),
                    Err(error) if strict => return Err(error),
                    Err(error) => warnings.push(Diagnostic { severity: Severity::Warning, ..error }),
                }
            }
            if offsets.is_empty() && root.action == Action::Nothing {
                return Err(ctx.error("plan::empty", "nothing of the entry can be mounted"));
            }
            Ok(tree(root, offsets))
        }
    }
}

fn plan_part(
    ctx: &Context<'_>,
    general: &OptionList,
    part: &Part,
    role: Role,
    facts: &Facts<'_>,
) -> Result<Plan, Diagnostic> {
    let options = OptionList::join(general, &part.options);
    let at = below(ctx.at, &part.path);
    if at.as_os_str().len() > LONGEST_PATH {
        return Err(ctx.error("plan::path", format!("the path of an offset is longer than {LONGEST_PATH} bytes")));
    }
    let action = method::action(ctx, &at, &options, &part.locations, role, facts)
        .map_err(|e| Diagnostic { message: format!("{}: {}", Escaped(&part.path), e.message), ..e })?;
    Ok(Plan {
        at,
        action,
        offsets: Vec::new(),
        strict: ctx.wishes(&options).strict,
        timeout: None,
        requires: Vec::new(),
    })
}

fn below(key: &Path, offset: &[u8]) -> PathBuf {
    match offset.strip_prefix(b"/") {
        Some(b"") | None => key.to_path_buf(),
        Some(relative) => key.join(OsStr::from_bytes(relative)),
    }
}

/// Makes a tree: puts each offset below the nearest offset above it, or below `root`.
fn tree(root: Plan, mut offsets: Vec<Plan>) -> Arc<Plan> {
    // Paths compare name by name, so that what is below an offset follows it directly.
    offsets.sort_unstable_by(|a, b| a.at.cmp(&b.at));
    let mut root = root;
    let mut branch: Vec<Plan> = Vec::new();
    for plan in offsets {
        while branch.last().is_some_and(|upper| !plan.at.starts_with(&upper.at)) {
            fold(&mut branch, &mut root);
        }
        branch.push(plan);
    }
    while !branch.is_empty() {
        fold(&mut branch, &mut root);
    }
    Arc::new(root)
}

/// Removes the last plan of `branch` and puts it below the one before it.
fn fold(branch: &mut Vec<Plan>, root: &mut Plan) {
    if let Some(done) = branch.pop() {
        branch.last_mut().unwrap_or(root).offsets.push(Arc::new(done));
    }
}
