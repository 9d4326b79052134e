//! The layers of `ARCHITECTURE.md`, held by the imports in `src`: the pure modules use no shell module and no system
//! call, jobs know neither the worker nor the engine's state, and no module imports itself by way of others.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules without I/O.
const PURE: &[&str] = &["text", "config", "map", "plan", "engine", "control", "directory", "rpc", "record", "wire"];

/// What pure modules use besides the standard library: each of these would be I/O, a clock or a thread.
const IMPURE: &[&str] = &["nix", "rustix", "tokio", "std::fs", "std::net", "std::process", "std::thread", "std::env"];

/// Which modules must not use which others, with the reason.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("exec", &["daemon", "keeper", "link", "cli"], "the executor serves any caller"),
    ("sys", &["exec", "source", "daemon", "keeper", "link", "cli"], "system calls are below everything else"),
    ("source", &["daemon", "keeper", "link", "cli"], "sources serve the daemon and the command line alike"),
    ("lookup", &["source", "daemon", "keeper", "link", "cli", "exec"], "a lookup process answers, and knows nobody"),
    ("keeper", &["daemon", "cli", "exec", "source", "engine"], "the keeper mounts nothing and reads no map"),
    ("link", &["daemon", "keeper", "cli"], "both sides of the link use it"),
    ("options", &["daemon", "keeper", "cli"], "options are data"),
    ("daemon", &["cli", "keeper"], "the daemon is run by them"),
    (
        "daemon::jobs",
        &[
            "daemon::worker",
            "daemon::life",
            "daemon::requests",
            "daemon::checkpoint",
            "daemon::control",
            "daemon::reload",
            "daemon::upgrade",
            "engine::Engine",
        ],
        "a job gets tools and mounts, and returns its outcome",
    ),
    ("daemon::mounts", &["daemon::jobs", "daemon::life", "daemon::worker"], "owners call nothing above them"),
    ("daemon::requests", &["daemon::jobs", "daemon::life", "daemon::worker"], "owners call nothing above them"),
    ("daemon::life", &["daemon"], "the phases know nothing of what happens in them"),
    (
        "daemon::worker",
        &["daemon::reload", "daemon::upgrade", "daemon::checkpoint::restore", "daemon::checkpoint::quiesce"],
        "they call the worker; it sends them what is to be done next",
    ),
];

/// Modules that share one type by `impl` blocks in several files: circles inside of them are no concern of this test.
const ONE_PIECE: &[&str] = &["engine", "plan", "map", "text", "config", "control", "exec", "source", "sys", "cli"];

/// The sources of a crate: for each module (`""` is the crate) its text without tests and comments.
struct Sources(BTreeMap<String, String>);

/// A path that a module uses.
type Used = BTreeMap<String, BTreeSet<String>>;

impl Sources {
    #[allow(clippy::disallowed_methods, reason = "no automounts in the repository")]
    fn read(top: &Path) -> Self {
        let mut sources = BTreeMap::new();
        let mut directories: Vec<PathBuf> = vec![top.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(top).unwrap().with_extension("").to_str().unwrap().replace('/', "::");
                    if name.starts_with("bin::") {
                        continue;
                    }
                    let name = if name == "lib" { "" } else { name.strip_suffix("::mod").unwrap_or(&name) };
                    sources.insert(name.to_owned(), stripped(&fs::read_to_string(&path).unwrap()));
                }
            }
        }
        Self(sources)
    }

    fn of(texts: &[(&str, &str)]) -> Self {
        Self(texts.iter().map(|(name, text)| ((*name).to_owned(), stripped(text))).collect())
    }

    /// The paths that each module uses: those of this crate without `crate::`, others as written.
    fn used(&self) -> Used {
        let paths = |(name, text): (&String, &String)| {
            let absolute = paths(text).into_iter().filter_map(|path| self.absolute(name, &path));
            (name.clone(), absolute.collect())
        };
        self.0.iter().map(paths).collect()
    }

    /// A path as seen from the crate. One that begins with `::` names another crate.
    fn absolute(&self, module: &str, path: &str) -> Option<String> {
        if let Some(external) = path.strip_prefix("::") {
            return Some(external.to_owned());
        }
        let mut base: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
        let mut parts = path.split("::").peekable();
        match *parts.peek()? {
            "crate" => {
                parts.next();
                base.clear();
            }
            "self" => {
                parts.next();
            }
            "super" => {
                while parts.next_if_eq(&"super").is_some() {
                    base.pop();
                }
            }
            first => {
                let child = [module, first].join("::");
                if !self.0.contains_key(child.trim_start_matches("::")) {
                    return Some(path.to_owned());
                }
            }
        }
        base.extend(parts);
        Some(base.join("::"))
    }

    /// The module in which what a path names is found: re-exports are followed.
    fn module_of<'p>(&'p self, path: &'p str) -> Option<&'p str> {
        let longest = std::iter::successors(Some(path), |path| path.rsplit_once("::").map(|(above, _)| above))
            .find(|path| self.0.contains_key(*path))?;
        let rest = path.strip_prefix(longest)?.trim_start_matches("::");
        let name = rest.split("::").next().filter(|name| !name.is_empty());
        let Some(name) = name else { return Some(longest) };
        for (from, names) in re_exports(self.0.get(longest)?) {
            if names.contains(name) {
                let child = [longest, &from].join("::");
                return self.0.get_key_value(&child).map_or(Some(longest), |(module, _)| Some(module.as_str()));
            }
        }
        Some(longest)
    }
}

/// Text without comments, without strings and without the tests at its end.
fn stripped(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = |line: &str| {
        let code = line.trim_start();
        if code.starts_with("//") { String::new() } else { line.split(" // ").next().unwrap_or_default().to_owned() }
    };
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// All paths in `use` declarations, and those in the code that begin with `crate::`, `self::` or `super::`.
fn paths(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for statement in uses(text) {
        expand("", &statement, &mut found);
    }
    for start in ["crate::", "super::"] {
        for (at, _) in text.match_indices(start) {
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path: String = text.get(at..).unwrap_or_default().chars().take_while(|c| is_word(*c)).collect();
            let before = text.get(..at).and_then(|before| before.chars().next_back());
            if before.is_none_or(|c| !is_word(c)) {
                found.insert(path.trim_end_matches(':').to_owned());
            }
        }
    }
    found
}

/// What stands between `use` and `;`.
fn uses(text: &str) -> Vec<String> {
    let declarations = text.split(['\n', '{', ';']).scan(0, |at, piece| {
        let start = *at;
        *at += piece.len() + 1;
        Some((start, piece))
    });
    let is_use = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub(super) ")).unwrap_or(line);
        line.strip_prefix("pub ").unwrap_or(line).starts_with("use ")
    };
    let whole = |(start, _): (usize, &str)| {
        let declaration = text.get(start..)?.split(';').next()?;
        Some(declaration.split_once("use ")?.1.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    declarations.filter(|(_, piece)| is_use(piece)).filter_map(whole).collect()
}

/// Takes the braces of a `use` apart.
fn expand(prefix: &str, tree: &str, found: &mut BTreeSet<String>) {
    let tree = tree.trim();
    match tree.split_once('{') {
        None => {
            let name = tree.split(" as ").next().unwrap_or_default().trim();
            let path = format!("{prefix}{name}");
            found.insert(path.trim_end_matches("::self").trim_end_matches("::*").to_owned());
        }
        Some((before, inner)) => {
            let prefix = format!("{prefix}{}", before.trim());
            let inner = inner.strip_suffix('}').unwrap_or(inner);
            let (mut depth, mut start) = (0, 0);
            for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        let one = inner.get(start..at).unwrap_or_default();
                        if !one.trim().is_empty() {
                            expand(&prefix, one, found);
                        }
                        start = at + 1;
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The `pub use child::{...}` of a module: what comes from which child.
fn re_exports(text: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut exports = Vec::new();
    for line in text.split(';').map(str::trim).filter(|line| line.starts_with("pub")) {
        let Some((_, tree)) = line.split_once(" use ") else { continue };
        let mut found = BTreeSet::new();
        expand("", &tree.split_whitespace().collect::<Vec<_>>().join(" "), &mut found);
        for path in found {
            if let Some((from, name)) = path.rsplit_once("::") {
                exports.push((from.to_owned(), BTreeSet::from([name.to_owned()])));
            }
        }
    }
    exports
}

fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The imports that cross a layer.
fn crossed(sources: &Sources) -> Vec<String> {
    let mut wrong = Vec::new();
    let shell = |path: &str| {
        let top = path.split("::").next().unwrap_or_default();
        sources.0.contains_key(top) && !PURE.contains(&top)
    };
    for (module, used) in sources.used() {
        let top = module.split("::").next().unwrap_or_default();
        for path in &used {
            if PURE.contains(&top) && (IMPURE.iter().any(|impure| is_in(path, impure)) || shell(path)) {
                wrong.push(format!("{module} uses {path}: {top} is a pure module"));
            }
            for (from, others, reason) in FORBIDDEN {
                if is_in(&module, from) && others.iter().any(|other| is_in(path, other)) {
                    wrong.push(format!("{module} uses {path}: {reason}"));
                }
            }
        }
    }
    wrong
}

/// Circles of imports: the modules of each.
fn circles(sources: &Sources) -> Vec<Vec<String>> {
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let piece = |module: &str| {
        let whole = ONE_PIECE.iter().find(|piece| is_in(module, piece));
        whole.map_or_else(|| module.to_owned(), |piece| (*piece).to_owned())
    };
    for (module, used) in sources.used() {
        let re_exported: BTreeSet<String> = re_exports(sources.0.get(&module).map_or("", String::as_str))
            .into_iter()
            .flat_map(|(from, names)| names.into_iter().map(move |name| format!("{from}::{name}")))
            .filter_map(|path| sources.absolute(&module, &path))
            .collect();
        for path in used.iter().filter(|path| !re_exported.contains(*path)) {
            let Some(target) = sources.module_of(path) else { continue };
            let (from, to) = (piece(&module), piece(target));
            if from != to && !to.is_empty() {
                arrows.entry(from).or_default().insert(to);
            }
        }
    }
    let reached = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut next = vec![from.to_owned()];
        while let Some(module) = next.pop() {
            for to in arrows.get(&module).into_iter().flatten() {
                if reached.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        reached
    };
    let reach: BTreeMap<&String, BTreeSet<String>> = arrows.keys().map(|from| (from, reached(from))).collect();
    let mut circles: Vec<Vec<String>> = Vec::new();
    for (from, to) in &reach {
        if to.contains(*from) && !circles.iter().flatten().any(|known| known == *from) {
            let back = |other: &&String| reach.get(other).is_some_and(|reached| reached.contains(*from));
            circles.push(to.iter().filter(back).cloned().collect());
        }
    }
    circles
}

fn ours() -> Sources {
    Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn no_import_crosses_a_layer() {
    let wrong = crossed(&ours());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_imports_in_a_circle() {
    let circles = circles(&ours());
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn a_planted_import_is_found() {
    let plant = |module: &str, line: &str| {
        let Sources(mut sources) = ours();
        let text = sources.get_mut(module).unwrap_or_else(|| panic!("no module {module}"));
        text.insert_str(0, &format!("{line}\n"));
        Sources(sources)
    };
    for (module, line, found) in [
        ("engine::request", "use crate::sys::autofs;", "engine::request uses sys::autofs: engine is a pure module"),
        ("plan", "use std::{fmt, fs};", "plan uses std::fs: plan is a pure module"),
        ("map::sun", "use tokio::sync::{\n    Notify,\n};", "map::sun uses tokio::sync::Notify: map is a pure module"),
        ("exec::lanes", "use crate::daemon::tools::Tools;", "exec::lanes uses daemon::tools::Tools: "),
        (
            "daemon::jobs::expire",
            "use super::super::worker::Worker;",
            "daemon::jobs::expire uses daemon::worker::Worker: ",
        ),
        ("daemon::jobs::check", "fn f(e: &crate::engine::Engine) {}", "daemon::jobs::check uses engine::Engine: "),
    ] {
        let wrong = crossed(&plant(module, line));
        assert!(wrong.iter().any(|one| one.starts_with(found)), "{line} in {module}: {wrong:?}");
    }
    let circle = circles(&plant("daemon::tools", "use crate::daemon::worker::Worker;"));
    assert!(circle.iter().flatten().any(|module| module == "daemon::worker"), "{circle:?}");
}

#[test]
fn re_exports_lead_to_the_module_that_defines() {
    let texts = [
        ("", "mod a;\nmod b;"),
        ("a", "mod inner;\npub(crate) use inner::{Thing, other};"),
        ("a::inner", "use super::Base;"),
        ("b", "use crate::a::Thing;\nuse crate::a::Base as _;"),
    ];
    let sources = Sources::of(&texts);
    assert_eq!(sources.module_of("a::Thing"), Some("a::inner"));
    assert_eq!(sources.module_of("a::Base"), Some("a"));
    assert_eq!(circles(&sources), [[""; 0]; 0], "a re-export is no arrow");
}
