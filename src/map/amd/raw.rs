//! Reads entries as sources have them: text with the defaults of its map.

use std::path::Path;
use std::sync::Arc;

use super::{Answers, Evaluated, Request, Settings, evaluate, parse};
use crate::map::{Scope, SourceKind};
use crate::text::{Diagnostic, Position};

/// An entry as a map has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// The text.
    pub text: Vec<u8>,
    /// The text of `/defaults` of the same map, and where it begins.
    pub defaults: Option<(Vec<u8>, Position)>,
    /// Prefix of the keys of the submount in the map.
    pub prefix: Arc<[u8]>,
    /// The name of the map.
    pub map: Arc<[u8]>,
    /// The kind of its source.
    pub kind: Option<SourceKind>,
}

/// Context in which an entry is read, besides variables.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The path that is asked for.
    pub path: &'a [u8],
    /// autofs.conf.
    pub settings: &'a Settings,
    /// Facts about the machine and the network.
    pub answers: &'a Answers,
    /// Selects all locations, whatever their selectors say: to check them.
    pub all: bool,
}

impl Raw {
    /// Reads the entry of `key`, which starts at `place`.
    ///
    /// # Errors
    /// The entry, or the defaults of its map, cannot be understood.
    pub fn read(
        &self,
        place: &Position,
        key: &[u8],
        scope: &Scope<'_>,
        around: &Around<'_>,
    ) -> Result<Evaluated, Diagnostic> {
        let entry = parse(&self.text, place)?;
        let conf = || Position::whole(Path::new("map_defaults"));
        let defaults = match (&around.settings.map_defaults, &self.defaults) {
            (Some(text), _) => Some(parse(text, &conf())?),
            (None, Some((text, place))) => Some(parse(text, place)?),
            (None, None) => None,
        };
        let key = [&*self.prefix, key].concat();
        let Around { path, settings, answers, all } = *around;
        let (map, kind) = (&*self.map, self.kind);
        evaluate(&entry, defaults.as_ref(), &Request { key: &key, path, map, kind, scope, settings, answers, all })
    }
}
