//! Parses Sun map entries, `autofs(5)`: the text after the key, after expansion.
//!
//! ```text
//! entry  := {-options} location {location} {"||" location {location}}
//!         | {-options} [part] {offset {-options} location {location}}
//! offset := path that begins with "/", below the key
//! ```

use std::collections::HashMap;

use super::entry::{Body, Entry, Location, Part};
use super::expand::Expanded;
use super::location::{Flaw, location};
use super::misplaced;
use super::mount_options::OptionList;
use super::words::{Unbalanced, Word, dequote, words};
use crate::text::{Diagnostic, Escaped, Position};

/// Reads an entry. `place` is where its unexpanded text begins. What is doubtful but works goes to `warnings`.
pub fn parse(text: &Expanded<'_>, place: &Position, warnings: &mut Vec<Diagnostic>) -> Result<Entry, Diagnostic> {
    let reader = Reader { text, place };
    if let Some(at) = text.cut {
        warnings.push(
            Diagnostic::warning(
                "sun::variable",
                reader.place_of(at),
                "\"${\" without \"}\": the rest of the entry is lost",
            )
            .help("write ${NAME}, or \\$ for a plain dollar"),
        );
    }
    if let Some(at) = memchr::memchr(0, &text.text) {
        return Err(Diagnostic::error("sun::nul", reader.place_of(text.origin(at)), "a NUL byte in the entry"));
    }
    if is_hidden(&text.text) {
        return Ok(Entry { options: OptionList::default(), body: Body::Hidden });
    }
    reader.entry(warnings)
}

/// Returns whether the entry `text`, expanded or not, begins with `-null`: its key is as good as none.
pub fn is_hidden(text: &[u8]) -> bool {
    let null = words(text).next().and_then(|word| word.raw.strip_prefix(b"-null"));
    null.is_some_and(|rest| rest.is_empty() || rest.starts_with(b","))
}

/// The word between places of which the first that exists is mounted.
pub const ELSE: &[u8] = b"||";

struct Reader<'a> {
    text: &'a Expanded<'a>,
    place: &'a Position,
}

/// A part as it is being read.
#[derive(Default)]
struct Draft<'a> {
    /// The word of the offset, and its path if it is below the key; `None` for the part before the first offset.
    offset: Option<(Word<'a>, Option<Vec<u8>>)>,
    options: OptionList,
    locations: Vec<Location>,
    /// The locations before the last `||`.
    places: Vec<Vec<Location>>,
    /// The last word of options.
    option: Option<Word<'a>>,
    /// The words of the locations.
    words: Vec<Word<'a>>,
    /// Which of them is the first without a colon: none with one may follow it.
    plain: Option<usize>,
}

impl<'a> Reader<'a> {
    fn entry(&self, warnings: &mut Vec<Diagnostic>) -> Result<Entry, Diagnostic> {
        let mut first = Draft::default();
        let mut others: Vec<Draft<'a>> = Vec::new();
        let mut empty = true;
        for word in words(&self.text.text) {
            let current = others.last_mut().unwrap_or(&mut first);
            match word.raw {
                [b'-', options @ ..] => self.option_word(current, word, options)?,
                raw if raw == ELSE => self.next_place(current, word)?,
                [b'/', ..] | [b'"', b'/', ..] => {
                    let offset = Some((word, self.offset(word)?));
                    others.push(Draft { offset, ..Draft::default() });
                }
                _ => self.location(current, word)?,
            }
            empty = false;
        }
        if empty {
            return Err(Diagnostic::error("sun::empty", self.place.clone(), "the entry is empty")
                .help("write a location: host:/path, or :/path for a local one"));
        }
        if others.is_empty() {
            self.check_located(&first, &first.options, None)?;
            if !first.places.is_empty() {
                let Draft { options, mut places, locations, .. } = first;
                places.push(locations);
                return Ok(Entry { options, body: Body::First(places) });
            }
            return Ok(Entry { options: first.options, body: Body::Single(first.locations) });
        }
        self.multi(first, others, warnings)
    }

    fn option_word(&self, draft: &mut Draft<'a>, word: Word<'a>, options: &[u8]) -> Result<(), Diagnostic> {
        if !draft.locations.is_empty() || !draft.places.is_empty() {
            let flaw = Flaw::new(0, "options after a location", "write the options before the location");
            return Err(self.error(word, Flaw { code: "sun::options", ..flaw }));
        }
        if self.text.has_key_with_comma(word.at..word.at + word.raw.len()) {
            let message = "the key, which users choose, has a comma and would add options";
            let flaw = Flaw::new(0, message, "write an entry of its own for this key");
            return Err(self.error(word, Flaw { code: "sun::comma", ..flaw }));
        }
        // Positions count from the dash on, which the options do not have.
        let text = dequote(options).map_err(|Unbalanced(at)| self.error(word, Unbalanced(at + 1).into()))?;
        draft.options.push(&text);
        draft.option = Some(word);
        Ok(())
    }

    fn location(&self, draft: &mut Draft<'a>, word: Word<'a>) -> Result<(), Diagnostic> {
        let text = location(word.raw).map_err(|flaw| self.error(word, flaw))?;
        if memchr::memchr(b':', &text).is_none() {
            draft.plain = draft.plain.or(Some(draft.words.len()));
        } else if let Some((before, [plain, ..])) = draft.plain.and_then(|at| draft.words.split_at_checked(at)) {
            let around = misplaced::Around {
                option: draft.option,
                before,
                next: word,
                rest: self.text.text.get(word.at..).unwrap_or_default(),
                in_part: draft.offset.is_some(),
            };
            return Err(self.error(*plain, misplaced::flaw(*plain, &around)));
        }
        draft.words.push(word);
        draft.locations.push(Location(text));
        Ok(())
    }

    /// Ends a place: what follows is mounted if it does not exist.
    fn next_place(&self, draft: &mut Draft<'a>, word: Word<'a>) -> Result<(), Diagnostic> {
        let flaw = if draft.offset.is_some() {
            Flaw::new(0, "|| in a multi-mount", "only an entry with one mount has several places")
        } else if draft.locations.is_empty() {
            Flaw::new(0, "no location before ||", "write host:/path || host:/path")
        } else {
            draft.places.push(std::mem::take(&mut draft.locations));
            draft.words.clear();
            draft.plain = None;
            return Ok(());
        };
        Err(self.error(word, Flaw { code: "sun::else", ..flaw }))
    }

    /// Returns the path of an offset without quotes, needless slashes, `.` and `..`; `None` if it leads out of the key.
    fn offset(&self, word: Word<'a>) -> Result<Option<Vec<u8>>, Diagnostic> {
        let text = dequote(word.raw).map_err(|e| self.error(word, e.into()))?;
        let mut names: Vec<&[u8]> = Vec::new();
        for name in text.split(|&b| b == b'/') {
            match name {
                b"" | b"." => {}
                b".." if names.pop().is_none() => return Ok(None),
                b".." => {}
                name => names.push(name),
            }
        }
        let path = names.iter().flat_map(|name| [b"/", *name]).collect::<Vec<_>>().concat();
        Ok(Some(if path.is_empty() { b"/".to_vec() } else { path }))
    }

    fn multi(
        &self,
        first: Draft<'a>,
        others: Vec<Draft<'a>>,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Entry, Diagnostic> {
        if let (false, Some((word, _))) =
            (first.places.is_empty(), others.first().and_then(|other| other.offset.as_ref()))
        {
            let flaw = Flaw::new(0, "a multi-mount after ||", "only an entry with one mount has several places");
            return Err(self.error(*word, Flaw { code: "sun::else", ..flaw }));
        }
        let mut parts: Vec<Part> = Vec::with_capacity(others.len() + 1);
        let mut places: HashMap<Vec<u8>, usize> = HashMap::with_capacity(others.len() + 1);
        if !first.locations.is_empty() {
            places.insert(b"/".to_vec(), 0);
            parts.push(Part { path: b"/".to_vec(), options: OptionList::default(), locations: first.locations });
        }
        // The words just before a part without a location may belong to it.
        let mut before = Some((first.words, first.plain == Some(0))).filter(|(words, _)| !words.is_empty());
        for draft in others {
            let words = before.as_ref().map(|(words, plain)| (&words[..], *plain));
            self.check_located(&draft, &first.options, words)?;
            before = None;
            let Draft { offset: Some((word, path)), options, locations, .. } = draft else { continue };
            let Some(path) = path else {
                let message =
                    format!("the offset {} leads out of the key and is left out", Escaped::start_of(word.raw));
                let place = self.place_of(self.text.origin(word.at));
                let warning = Diagnostic::warning("sun::offset", place, message).length(word.raw.len());
                warnings.push(warning.help("write the path from the key on"));
                continue;
            };
            let part = Part { path: path.clone(), options, locations };
            match places.get(&path).and_then(|&at| parts.get_mut(at)) {
                Some(earlier) => {
                    let message = format!("the offset {} stands here twice: the last one counts", Escaped(&path));
                    let place = self.place_of(self.text.origin(word.at));
                    warnings.push(Diagnostic::warning("sun::duplicate", place, message).length(word.raw.len()));
                    *earlier = part;
                }
                None => {
                    places.insert(path, parts.len());
                    parts.push(part);
                }
            }
        }
        if parts.is_empty() {
            let error = Diagnostic::error("sun::offset", self.place.clone(), "every offset leads out of the key");
            return Err(error.help("write the paths from the key on"));
        }
        Ok(Entry { options: first.options, body: Body::Multi(parts) })
    }

    /// There has to be a location; only a submount of the hosts map goes without.
    /// `before` are the words of locations before the first offset, and whether the first of them has no colon.
    fn check_located(
        &self,
        draft: &Draft<'_>,
        general: &OptionList,
        before: Option<(&[Word<'_>], bool)>,
    ) -> Result<(), Diagnostic> {
        if !draft.locations.is_empty() || general.contains(b"hosts") || draft.options.contains(b"hosts") {
            return Ok(());
        }
        let Some((word, _)) = &draft.offset else {
            return Err(Diagnostic::error("sun::location", self.place.clone(), "no location in the entry")
                .help("write host:/path, or :/path for a local one"));
        };
        let shown = Escaped::start_of(word.raw);
        let flaw = match before {
            _ if word.raw.starts_with(b"//") => {
                Flaw::new(0, format!("no colon before {shown}"), format!("write :{shown} for a share"))
            }
            // `srv /path` and `srv:/my /path`
            Some((words, true)) => {
                let words = words.iter().map(|word| word.raw).collect::<Vec<_>>().join(&b' ');
                let help = format!("write {}:{shown}", Escaped::start_of(&words));
                Flaw::new(0, format!("a blank in place of the colon before {shown}"), help)
            }
            Some((words, false)) => {
                let words = words.iter().map(|word| word.raw).collect::<Vec<_>>().join(&b' ');
                let help =
                    format!("write \"{} {shown}\"; a part of a multi-mount has a location", Escaped::start_of(&words));
                Flaw::new(0, format!("a blank in the path, or no location for the offset {shown}"), help)
            }
            None => {
                let message = format!("no location for the offset {shown}");
                Flaw::new(0, message, format!("write :{shown} for a local directory or device"))
            }
        };
        Err(self.error(*word, flaw))
    }

    fn error(&self, word: Word<'_>, flaw: Flaw) -> Diagnostic {
        let place = self.place_of(self.text.origin(word.at + flaw.at));
        Diagnostic::error(flaw.code, place, flaw.message).length(word.raw.len().saturating_sub(flaw.at)).help(flaw.help)
    }

    fn place_of(&self, offset: usize) -> Position {
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        Position::new(&self.place.file, self.place.line, self.place.column.saturating_add(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::expand;
    use proptest::prelude::*;
    use std::path::Path;

    fn place() -> Position {
        Position::new(&Path::new("/etc/auto.test").into(), 3, 5)
    }

    fn read(text: &str) -> Result<Entry, Diagnostic> {
        parse(&Expanded::from(text.as_bytes()), &place(), &mut Vec::new())
    }

    /// `[options] location location` or `[options] /path[options]location ...`
    fn shown(text: &str) -> String {
        let entry = read(text).unwrap();
        let words = |l: &[Location]| l.iter().map(|l| Escaped(&l.0).to_string()).collect::<Vec<_>>().join("|");
        let body = match &entry.body {
            Body::Hidden => "hidden".to_owned(),
            Body::Single(locations) => words(locations),
            Body::First(places) => places.iter().map(|place| words(place)).collect::<Vec<_>>().join(" else "),
            Body::Multi(parts) => {
                let part = |p: &Part| format!("{}[{}]{}", Escaped(&p.path), p.options, words(&p.locations));
                parts.iter().map(part).collect::<Vec<_>>().join(" ")
            }
            Body::Amd(_) => unreachable!("no Sun entry"),
        };
        format!("[{}] {body}", entry.options)
    }

    #[test]
    fn entries() {
        for (text, want) in [
            ("srv1:/x", "[] srv1:/x"),
            ("-ro,soft,timeo=5 srv1:/x", "[ro,soft,timeo=5] srv1:/x"),
            ("-ro -soft srv1:/x", "[ro,soft] srv1:/x"),
            ("-ro,,soft, srv1:/x", "[ro,soft] srv1:/x"),
            ("- srv1:/x", "[] srv1:/x"),
            ("\t-ro\tsrv1:/x\r", "[ro] srv1:/x"),
            ("srv1:/x # trailing", "[] srv1:/x"),
            (r"srv1:/with\ space/x", "[] srv1:/with space/x"),
            (r#""srv1:/with space/y""#, "[] srv1:/with space/y"),
            (r#"-o="a b" srv1:/y"#, "[o=a b] srv1:/y"),
            ("srv1:/x :/opt", "[] srv1:/x|:/opt"),
            ("-fstype=tmpfs tmpfs", "[fstype=tmpfs] tmpfs"),
            ("-fstype=autofs,hosts -hosts", "[fstype=autofs,hosts,hosts] "),
            ("-ro / srv1:/r /usr srv1:/u /home -rw srv2:/h", "[ro] /[]srv1:/r /usr[]srv1:/u /home[rw]srv2:/h"),
            ("-ro srv1:/r /usr srv1:/u", "[ro] /[]srv1:/r /usr[]srv1:/u"),
            ("/x srv1:/x /y/z -ro srv1:/yz", "[] /x[]srv1:/x /y/z[ro]srv1:/yz"),
            ("/ srv1:/r //b/ srv1:/b", "[] /[]srv1:/r /b[]srv1:/b"),
            ("\"/b c\" srv1:/b", "[] /b c[]srv1:/b"),
            ("/t -fstype=tmpfs tmpfs /s srv1:/s", "[] /t[fstype=tmpfs]tmpfs /s[]srv1:/s"),
            ("-ro srv1:/x srv2:/x || :/opt || :/usr", "[ro] srv1:/x|srv2:/x else :/opt else :/usr"),
            ("-null", "[] hidden"),
            ("-null,ro srv1:/x", "[] hidden"),
            ("-nullx srv1:/x", "[nullx] srv1:/x"),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
    }

    #[test]
    fn the_last_of_two_equal_offsets_counts() {
        let mut warnings = Vec::new();
        let text = Expanded::from(&b"/a srv1:/1 /b srv1:/b /a/ srv1:/2"[..]);
        let entry = parse(&text, &place(), &mut warnings).unwrap();
        assert_eq!(entry.to_bytes(), b"/a srv1:/2 /b srv1:/b");
        assert_eq!(
            warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["/etc/auto.test:3:27: the offset /a stands here twice: the last one counts"]
        );
    }

    #[test]
    fn dots_in_an_offset_are_taken_away_and_none_leads_out_of_the_key() {
        let mut warnings = Vec::new();
        let text = Expanded::from(&b"/ srv1:/r /./a srv1:/a /b/../c/. srv1:/c /d/../../e srv1:/e"[..]);
        let entry = parse(&text, &place(), &mut warnings).unwrap();
        assert_eq!(entry.to_bytes(), b"/ srv1:/r /a srv1:/a /c srv1:/c");
        assert_eq!(
            warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["/etc/auto.test:3:46: the offset /d/../../e leads out of the key and is left out: \
              write the path from the key on"]
        );
    }

    #[test]
    fn refused() {
        for (text, code, column) in [
            ("", "sun::empty", 5),
            (" # comment", "sun::empty", 5),
            ("-ro", "sun::location", 5),
            ("/x", "sun::location", 5),
            ("-ro /opt", "sun::location", 9),
            ("srv1:x", "sun::location", 9),
            ("srv1, srv2:/x", "sun::location", 5),
            ("srv1,,srv2:/x", "sun::location", 10),
            ("srv1:/x -ro", "sun::options", 13),
            ("|| srv1:/x", "sun::else", 5),
            ("srv1:/x || || :/opt", "sun::else", 16),
            ("srv1:/x ||", "sun::location", 5),
            ("srv1:/x || -ro :/opt", "sun::options", 16),
            ("srv1:/x || :/y /a srv1:/a", "sun::else", 20),
            ("/a srv1:/a || :/opt", "sun::else", 16),
            ("srv1:\"/x", "sun::quote", 10),
            ("-a\"b srv1:/x", "sun::quote", 7),
            ("/a/../../b srv1:/x", "sun::offset", 5),
            ("srv1:/x\0y", "sun::nul", 12),
        ] {
            let e = read(text).unwrap_err();
            assert_eq!((e.code, e.place.column), (code, column), "{text}: {e}");
        }
    }

    #[test]
    fn a_key_with_a_comma_adds_no_options() {
        let read = |text: &[u8], key: &[u8]| {
            let text = expand(text, key, &|name| (name == b"OPTS").then(|| b"ro,nosuid".into()), true);
            parse(&text, &place(), &mut Vec::new())
        };
        for text in ["-uid=&,ro srv1:/x", "/ -ro srv1:/x /a -uid=x& srv1:/y"] {
            assert_eq!(read(text.as_bytes(), b"joe,suid").unwrap_err().code, "sun::comma", "{text}");
            assert!(read(text.as_bytes(), b"joe").is_ok(), "{text}");
        }
        for text in ["-uid=1,$OPTS srv1:/x&", "-ro,x=\\& srv1:/&", "/ -ro,y srv1:/& /a& -ro srv1:/&"] {
            assert!(read(text.as_bytes(), b"joe,suid").is_ok(), "{text}");
        }
    }

    #[test]
    fn a_column_is_that_of_the_map() {
        let text = expand(b"-ro,x=&& srv1:x", b"a-long-key", &|_| None, true);
        assert_eq!(parse(&text, &place(), &mut Vec::new()).unwrap_err().place.column, 5 + 13);
        let mut warnings = Vec::new();
        parse(&expand(b"srv:/${X", b"k", &|_| None, true), &place(), &mut warnings).unwrap();
        assert_eq!((warnings[0].code, warnings[0].place.column), ("sun::variable", 10));
    }

    fn locations() -> impl Strategy<Value = Vec<Location>> {
        let location = prop_oneof![
            "[a-z]{1,4}(,[a-z]\\(5\\)){0,2}:/[a-z :$&#\"\\\\]{0,6}",
            ":[/a-z #:\"]{0,8}",
            "\\[fd00::1\\]:/x",
        ];
        proptest::collection::vec(location.prop_map(|l| Location(l.into_bytes())), 1..3)
    }

    fn options() -> impl Strategy<Value = OptionList> {
        "([a-z]{1,4}(=[a-z0-9 $&\"#\\\\]{0,4})?,){0,3}".prop_map(|o| OptionList::parse(o.as_bytes()))
    }

    fn entries_of_all_kinds() -> impl Strategy<Value = Entry> {
        let parts = proptest::collection::btree_map("(/[a-z #:&]{1,3}){1,3}", (options(), locations()), 1..5);
        let multi = parts.prop_map(|parts| {
            let part = |(path, (options, locations)): (String, _)| Part { path: path.into_bytes(), options, locations };
            Body::Multi(parts.into_iter().map(part).collect())
        });
        let first = proptest::collection::vec(locations(), 2..4).prop_map(Body::First);
        (options(), prop_oneof![locations().prop_map(Body::Single), first, multi])
            .prop_map(|(options, body)| Entry { options, body })
    }

    proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&Expanded::from(&text[..]), &place(), &mut Vec::new());
        }

        #[test]
        fn never_panics_on_nearly_an_entry(text in "[-/:,a \"\\\\#&$({})\\[\\]]{0,40}") {
            let text = expand(text.as_bytes(), b"key", &|_| None, true);
            let _ = parse(&text, &place(), &mut Vec::new());
        }

        #[test]
        fn what_is_printed_reads_the_same(entry in entries_of_all_kinds()) {
            let printed = entry.to_bytes();
            let text = expand(&printed, b"key", &|_| None, true);
            prop_assert_eq!(parse(&text, &place(), &mut Vec::new()), Ok(entry));
        }
    }
}
