//! Entries that require one another in a circle: none of them could be mounted.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use crate::text::{Diagnostic, Escaped, Position};

/// Paths that the entries of all maps require.
#[derive(Debug, Default)]
pub(super) struct Requirements {
    /// By the path of the entry; that of a wildcard is the mount point.
    of: BTreeMap<PathBuf, (Vec<PathBuf>, Position)>,
    /// The paths of entries that require nothing.
    free: HashSet<PathBuf>,
}

impl Requirements {
    /// Notes what an entry requires. Of two entries with one path, the first counts.
    pub(super) fn note(&mut self, at: &Path, requires: &[PathBuf], place: &Position) {
        if requires.is_empty() {
            self.free.insert(at.to_owned());
        } else if !self.free.contains(at) {
            self.of.entry(at.to_owned()).or_insert_with(|| (requires.to_vec(), place.clone()));
        }
    }

    /// Returns an error for each circle, at its first entry.
    pub(super) fn circles(&self) -> Vec<Diagnostic> {
        let mut reported: HashSet<&Path> = HashSet::new();
        let mut found = Vec::new();
        for at in self.of.keys().map(PathBuf::as_path) {
            let Some(circle) = self.circle(at).filter(|circle| circle.iter().all(|at| !reported.contains(at))) else {
                continue;
            };
            reported.extend(&circle);
            let names: Vec<String> = circle.iter().chain([&at]).map(|at| Escaped::path(at).to_string()).collect();
            let message = format!("entries require one another in a circle: {}", names.join(" requires "));
            if let Some((_, place)) = self.of.get(at) {
                let error = Diagnostic::error("requires::circle", place.clone(), message);
                found.push(error.help("none of them can be mounted: take one of the requires out"));
            }
        }
        found
    }

    /// Returns the entries of a circle that begins and ends with the one at `start`.
    fn circle<'a>(&'a self, start: &'a Path) -> Option<Vec<&'a Path>> {
        let mut open = vec![vec![start]];
        let mut seen: HashSet<&Path> = HashSet::new();
        while let Some(way) = open.pop() {
            let (requires, _) = self.of.get(*way.last()?)?;
            for next in requires.iter().filter_map(|path| self.entry_of(path)) {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next) {
                    open.push([way.as_slice(), &[next]].concat());
                }
            }
        }
        None
    }

    /// Returns the entry with requirements through which a path leads.
    fn entry_of(&self, path: &Path) -> Option<&Path> {
        for above in path.ancestors() {
            if self.free.contains(above) {
                return None;
            }
            if let Some((at, _)) = self.of.get_key_value(above) {
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(all: &[(&str, &[&str])]) -> Vec<String> {
        let mut requirements = Requirements::default();
        for (at, requires) in all {
            let requires: Vec<PathBuf> = requires.iter().map(PathBuf::from).collect();
            requirements.note(Path::new(at), &requires, &Position::whole(Path::new("/m")));
        }
        requirements.circles().into_iter().map(|d| d.message).collect()
    }

    #[test]
    fn each_circle_is_told_once() {
        let all: [(&str, &[&str]); 6] = [
            ("/m/a", &["/m/b/x"]),
            ("/m/b", &["/m/c", "/elsewhere"]),
            ("/m/c", &["/m/a"]),
            ("/m/d", &["/m/a"]),
            ("/home", &["/home/.keys"]),
            ("/home/own", &["/m/e"]),
        ];
        let circles = [
            "entries require one another in a circle: /home requires /home",
            "entries require one another in a circle: /m/a requires /m/b requires /m/c requires /m/a",
        ];
        assert_eq!(told(&all), circles);
        let with_key = [all.as_slice(), &[("/home/.keys", &[])]].concat();
        assert_eq!(told(&with_key), circles[1..], "the wildcard does not serve that key");
    }
}
