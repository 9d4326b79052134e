//! The `automount:` line of nsswitch.conf(5): the services that are searched for maps, and when the search ends.

use std::path::Path;
use std::sync::Arc;

use crate::map::{SourceKind, known};
use crate::text::{Diagnostic, Escaped, Position};

/// The services in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nsswitch {
    /// Never empty.
    pub services: Vec<Service>,
}

/// One service, with its actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `File` for `files`.
    pub kind: SourceKind,
    actions: Vec<Action>,
}

/// The result of asking a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The service has the map or the key.
    Success,
    /// The service works, but does not have it.
    NotFound,
    /// The service does not work.
    Unavail,
    /// The service does not work at the moment.
    TryAgain,
    /// The service is not configured here (no domain, library or file), so the result is unknown.
    Unknown,
}

/// The kind of search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// A master map or one key: the first service that has it is used.
    First,
    /// All entries of a map: those of all services are combined.
    All,
}

/// `[STATUS=ACTION]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Action {
    negated: bool,
    status: Outcome,
    ends: bool,
}

impl Default for Nsswitch {
    /// The default without an `automount:` line: `files`.
    fn default() -> Self {
        Self { services: vec![Service { kind: SourceKind::File, actions: Vec::new() }] }
    }
}

impl Service {
    /// Returns whether the search ends at this service after `outcome`.
    pub fn ends(&self, outcome: Outcome, search: Search) -> bool {
        let outcome = match (outcome, search) {
            // Actions do not apply, because the result is unknown.
            (Outcome::Unknown, _) => return false,
            (Outcome::Success, Search::All) => Outcome::TryAgain,
            (outcome, _) => outcome,
        };
        if self.actions.iter().any(|a| a.negated && a.ends && a.status != outcome) {
            return true;
        }
        let said = self.actions.iter().rfind(|a| !a.negated && a.status == outcome);
        said.map_or(outcome == Outcome::Success, |a| a.ends)
    }
}

impl Nsswitch {
    /// Parses `text`, the content of nsswitch.conf `file`. Services that autofs does not know are left out, with a warning.
    ///
    /// # Errors
    /// Returns an error if the `automount:` line is invalid.
    pub fn parse(text: &[u8], file: &Arc<Path>) -> Result<(Self, Vec<Diagnostic>), Diagnostic> {
        const KEYWORD: usize = b"automount:".len();
        let lines = text.split(|&b| b == b'\n').zip(1..);
        let mut lines =
            lines.filter(|(line, _)| line.get(..KEYWORD).is_some_and(|word| word.eq_ignore_ascii_case(b"automount:")));
        match lines.next() {
            None => Ok((Self::default(), Vec::new())),
            Some((text, number)) => Line { text, at: KEYWORD, number, file }.parse(),
        }
    }
}

/// Returns the service with this name.
fn service(word: &[u8]) -> Option<SourceKind> {
    Some(match word {
        b"files" => SourceKind::File,
        b"nis" => SourceKind::Nis,
        b"yp" => SourceKind::Yp,
        b"nisplus" => SourceKind::NisPlus,
        b"ldap" => SourceKind::Ldap,
        b"hesiod" => SourceKind::Hesiod,
        b"sss" => SourceKind::Sss,
        _ => return None,
    })
}

/// Returns what to write instead of the name of a service that does not exist.
fn help_for(word: &[u8]) -> String {
    const SERVICES: &str = "files nis yp nisplus ldap hesiod sss";
    let all = "services for automount are files, nis, yp, nisplus, ldap, hesiod and sss";
    let lower = word.to_ascii_lowercase();
    let parts: Vec<&[u8]> = lower.split(|b| b",;|".contains(b)).filter(|part| !part.is_empty()).collect();
    if parts.len() > 1 && parts.iter().all(|part| service(part).is_some()) {
        return format!("write blanks between the services: {}", Escaped(&parts.join(&b' ')));
    }
    let near = match &*lower {
        b"file" | b"compat" | b"local" => Some("files"),
        b"sssd" => Some("sss"),
        b"nis+" => Some("nisplus"),
        _ if lower != word => SERVICES.split(' ').find(|name| name.as_bytes() == lower),
        _ => known::nearest(&lower, SERVICES.split(' ')),
    };
    match near {
        Some(near) => format!("did you mean {near}? {all}"),
        None => all.to_owned(),
    }
}

/// The parser of the `automount:` line.
struct Line<'a> {
    text: &'a [u8],
    at: usize,
    number: u32,
    file: &'a Arc<Path>,
}

impl<'a> Line<'a> {
    fn parse(mut self) -> Result<(Nsswitch, Vec<Diagnostic>), Diagnostic> {
        let mut services: Vec<Service> = Vec::new();
        let mut warnings = Vec::new();
        // Actions belong to the service before them, even if that is left out.
        let mut known = false;
        let mut any = false;
        while let Some(byte) = self.peek() {
            let start = self.at;
            if byte == b'[' {
                if !any {
                    return Err(self.error(start, "an action stands behind a service"));
                }
                let actions = self.actions()?;
                if let Some(service) = services.last_mut().filter(|_| known) {
                    service.actions.extend(actions);
                }
                continue;
            }
            let word = self.word();
            if word.is_empty() {
                return Err(self.error(start, "expected the name of a service"));
            }
            any = true;
            let kind = service(word);
            known = kind.is_some();
            match kind {
                Some(kind) => {
                    if services.iter().any(|service| service.kind == kind) {
                        let message = format!("the service \"{}\" stands here twice", Escaped::start_of(word));
                        let d = Diagnostic::warning("nsswitch::twice", self.place(start), message).length(word.len());
                        warnings.push(d.help("remove one of the two").excerpt(self.text));
                    }
                    services.push(Service { kind, actions: Vec::new() });
                }
                None => {
                    let message = format!("ignored unsupported autofs nsswitch source \"{}\"", Escaped::start_of(word));
                    let d = Diagnostic::warning("nsswitch::service", self.place(start), message).length(word.len());
                    let d = d.help(help_for(word));
                    warnings.push(d.excerpt(self.text));
                }
            }
        }
        if services.is_empty() {
            let d = Diagnostic::warning("nsswitch::empty", self.place(0), "no usable service for automount");
            warnings.push(d.help("files are used: write automount: files").excerpt(self.text));
            return Ok((Nsswitch::default(), warnings));
        }
        Ok((Nsswitch { services }, warnings))
    }

    /// Parses `[STATUS=ACTION ...]`.
    fn actions(&mut self) -> Result<Vec<Action>, Diagnostic> {
        let open = self.at;
        self.at += 1;
        let mut actions = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error(open, "action without a closing bracket")),
                Some(b']') => {
                    self.at += 1;
                    return Ok(actions);
                }
                Some(_) => {}
            }
            let negated = self.take(b'!');
            self.skip_blanks();
            let start = self.at;
            let status = match self.word().to_ascii_uppercase().as_slice() {
                b"SUCCESS" => Outcome::Success,
                b"NOTFOUND" => Outcome::NotFound,
                b"UNAVAIL" => Outcome::Unavail,
                b"TRYAGAIN" => Outcome::TryAgain,
                _ => return Err(self.error(start, "expected SUCCESS, NOTFOUND, UNAVAIL or TRYAGAIN")),
            };
            self.skip_blanks();
            if !self.take(b'=') {
                return Err(self.error(self.at, "expected \"=\" and an action"));
            }
            self.skip_blanks();
            let start = self.at;
            let ends = match self.word().to_ascii_lowercase().as_slice() {
                b"return" => true,
                b"continue" => false,
                _ => return Err(self.error(start, "expected return or continue")),
            };
            actions.push(Action { negated, status, ends });
        }
    }

    /// Returns the next byte that is not a blank. Returns `None` at the end and at a comment.
    fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.text.get(self.at).copied().filter(|&b| b != b'#')
    }

    fn skip_blanks(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self) -> &'a [u8] {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let ends = |b: &u8| b.is_ascii_whitespace() || b"[]=!#".contains(b);
        let word = rest.get(..rest.iter().position(ends).unwrap_or(rest.len())).unwrap_or_default();
        self.at += word.len();
        word
    }

    fn place(&self, at: usize) -> Position {
        Position::new(self.file, self.number, u32::try_from(at + 1).unwrap_or(u32::MAX))
    }

    fn error(&self, at: usize, what: &str) -> Diagnostic {
        let message = format!("can't to read name service switch config: {what}");
        Diagnostic::error("nsswitch::syntax", self.place(at), message)
            .help("write as in automount: files nis [NOTFOUND=return] ldap")
            .length(self.text.len().saturating_sub(at).min(1))
            .excerpt(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<(Nsswitch, Vec<Diagnostic>), Diagnostic> {
        Nsswitch::parse(text.as_bytes(), &Path::new("/etc/nsswitch.conf").into())
    }

    fn kinds(text: &str) -> Vec<&'static str> {
        parse(text).unwrap().0.services.iter().map(|s| s.kind.name()).collect()
    }

    #[test]
    fn the_line_is_found_and_read() {
        assert_eq!(kinds("hosts: files\n"), ["file"]);
        assert_eq!(kinds("hosts: x\nautomount: nis files # ldap\nautomount: sss\n"), ["nis", "file"]);
        assert_eq!(kinds("AutoMount:\tsss yp nisplus ldap hesiod"), ["sss", "yp", "nisplus", "ldap", "hesiod"]);
        assert_eq!(kinds(" automount: nis"), ["file"], "not in the first column");
        assert_eq!(kinds("automount:"), ["file"]);
    }

    #[test]
    fn unknown_services_are_left_out_with_their_actions() {
        let (nsswitch, warnings) = parse("hosts: files\nautomount: foo [SUCCESS=continue] files\n").unwrap();
        assert_eq!(nsswitch, Nsswitch::default());
        let said = "/etc/nsswitch.conf:2:12: ignored unsupported autofs nsswitch source \"foo\": \
                    services for automount are files, nis, yp, nisplus, ldap, hesiod and sss";
        assert_eq!(warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [said]);
    }

    /// Returns how many services are asked when each has the given outcome.
    fn asked(line: &str, search: Search, outcomes: &[Outcome]) -> usize {
        let services = parse(&format!("automount: {line}")).unwrap().0.services;
        assert_eq!(services.len(), outcomes.len());
        services.iter().zip(outcomes).position(|(s, &o)| s.ends(o, search)).map_or(services.len(), |n| n + 1)
    }

    #[test]
    fn actions_decide_when_the_search_ends() {
        use Outcome::{NotFound, Success, TryAgain, Unavail, Unknown};
        let first = |line, outcomes| asked(line, Search::First, outcomes);
        assert_eq!(first("nis files", &[Success, Success]), 1);
        assert_eq!(first("nis files", &[NotFound, Success]), 2);
        assert_eq!(first("nis [NOTFOUND=return] files", &[NotFound, Success]), 1);
        assert_eq!(first("nis [ notfound = RETURN ] files", &[NotFound, Success]), 1);
        assert_eq!(first("nis [NOTFOUND=return] files", &[TryAgain, Success]), 2);
        assert_eq!(first("nis [SUCCESS=continue] files", &[Success, Success]), 2);
        assert_eq!(first("nis [!SUCCESS=return] files", &[Unavail, Success]), 1);
        assert_eq!(first("nis [!UNAVAIL=return] files", &[Unavail, Success]), 2);
        assert_eq!(first("nis [UNAVAIL=return TRYAGAIN=return] files", &[TryAgain, Success]), 1);
        assert_eq!(first("nis [UNAVAIL=return] files", &[Unknown, Success]), 2, "not set up here: never decides");
        assert_eq!(asked("nis files", Search::All, &[Success, Success]), 2);
        assert_eq!(asked("nis [SUCCESS=return] files", Search::All, &[Success, Success]), 2);
        assert_eq!(asked("nis [TRYAGAIN=return] files", Search::All, &[Success, Success]), 1);
    }

    #[test]
    fn a_line_that_is_wrong_makes_the_file_unusable() {
        for (line, expected) in [
            (
                "automount: [NOTFOUND=return] files",
                "1:12: can't to read name service switch config: an action stands \
              behind a service",
            ),
            (
                "automount: nis [NOTFOUND=stop]",
                "1:26: can't to read name service switch config: expected return or \
              continue",
            ),
            (
                "automount: nis [GONE=return]",
                "1:17: can't to read name service switch config: expected SUCCESS, \
              NOTFOUND, UNAVAIL or TRYAGAIN",
            ),
            (
                "automount: nis [NOTFOUND return]",
                "1:26: can't to read name service switch config: expected \"=\" and \
              an action",
            ),
            (
                "automount: nis [NOTFOUND=return files",
                "1:33: can't to read name service switch config: expected \
              SUCCESS, NOTFOUND, UNAVAIL or TRYAGAIN",
            ),
            (
                "automount: nis [NOTFOUND=return # x]",
                "1:16: can't to read name service switch config: action without \
              a closing bracket",
            ),
            (
                "automount: nis = files",
                "1:16: can't to read name service switch config: expected the name of a \
              service",
            ),
        ] {
            let said = parse(line).unwrap_err().to_string();
            let help = "write as in automount: files nis [NOTFOUND=return] ldap";
            assert_eq!(said, format!("/etc/nsswitch.conf:{expected}: {help}"), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange(rest in "([\\[\\]!=# a]|files|SUCCESS|return|\\PC){0,20}") {
            let line = format!("automount:{rest}");
            match parse(&line) {
                Ok((nsswitch, _)) => prop_assert!(!nsswitch.services.is_empty()),
                Err(d) => prop_assert!((d.place.column + d.length) as usize <= line.len() + 1),
            }
        }
    }
}
