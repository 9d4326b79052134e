//! Evaluates an entry for a request: tests selectors, fills in defaults, replaces variables.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::choice::{Choice, MountType};
use super::parse::place_of;
use super::value::{TooLong, Value};
use super::{Answers, Compared, Entry, Function, Item, Location, Opt, Question, Selector, Settings, Test, options};
use crate::map::{OptionList, Scope, SourceKind, known};
use crate::text::{Diagnostic, Escaped, Position};

/// The words that `type:=` knows.
const TYPES: &[&str] = &[
    "auto", "link", "linkx", "host", "lofs", "nfs", "nfs4", "nfsl", "program", "ufs", "ext2", "ext3", "ext4", "xfs",
    "cdfs", "error",
];

/// Types of am-utils that autofs does not have, and what to write instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("nfsx", "write an entry for each of the directories, or a multi-mount in a Sun map"),
    ("direct", "name the map in the master map with the mount point /-, in Sun format"),
    ("jfs", "write the mount as type:=program"),
    ("lustre", "write the mount as type:=program, or the entry in a Sun map"),
    ("union", "write the mount as type:=program with an overlay"),
];

/// Input of an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The key with the prefix of its submount.
    pub key: &'a [u8],
    /// The path that is asked for.
    pub path: &'a [u8],
    /// The name of the map.
    pub map: &'a [u8],
    /// The kind of its source.
    pub kind: Option<SourceKind>,
    /// Variables.
    pub scope: &'a Scope<'a>,
    /// autofs.conf.
    pub settings: &'a Settings,
    /// Facts about the machine and the network.
    pub answers: &'a Answers,
    /// Selects all locations, whatever their selectors say.
    pub all: bool,
}

/// Result of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evaluated {
    /// The selected locations, in the order in which they are tried. They hold if nothing is `needed`.
    pub choices: Vec<Choice>,
    /// Questions that must be answered first.
    pub needed: BTreeSet<Question>,
    /// Doubtful parts of the entry.
    pub warnings: Vec<Diagnostic>,
}

/// Options by name.
type Fields = BTreeMap<Opt, Value>;

/// Evaluates `entry`, with the defaults of its map.
///
/// # Errors
/// A value of the entry has no meaning.
pub fn evaluate(entry: &Entry, defaults: Option<&Entry>, request: &Request<'_>) -> Result<Evaluated, Diagnostic> {
    let mut evaluation = Evaluation { request, entry, evaluated: Evaluated::default() };
    let general = evaluation.general(defaults);
    let mut inherited = general.clone();
    for item in &entry.items {
        match item {
            Item::Cut if !request.all && !evaluation.evaluated.choices.is_empty() => break,
            Item::Cut => {}
            Item::Reset => inherited = general.clone(),
            Item::Defaults(location) => inherited = evaluation.defaults(location, &general)?,
            Item::Location(location) => {
                let matches = evaluation.matches(&location.selectors, &Locals::default())?;
                if request.all || matches != Some(false) {
                    let fields = merged(location, &inherited);
                    if let Some(choice) = evaluation.choice(location, &fields)? {
                        evaluation.evaluated.choices.push(choice);
                    }
                }
            }
        }
    }
    Ok(evaluation.evaluated)
}

/// The options of a location over those that it inherits.
fn merged(location: &Location, inherited: &Fields) -> Fields {
    let mut fields = inherited.clone();
    fields.extend(location.options.iter().map(|(option, value)| (*option, value.clone())));
    fields
}

/// The mount options of a location.
#[derive(Debug, Default)]
struct Words {
    /// For this host, and for servers nearby.
    near: OptionList,
    /// For other servers, if they are others.
    far: Option<OptionList>,
    timeout: Option<u64>,
    never: bool,
}

struct Evaluation<'a> {
    request: &'a Request<'a>,
    entry: &'a Entry,
    evaluated: Evaluated,
}

/// The variables that the options of a location define.
#[derive(Debug, Default)]
struct Locals(BTreeMap<&'static str, Vec<u8>>);

impl Locals {
    fn get(&self, name: &str) -> Vec<u8> {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

impl<'a> Evaluation<'a> {
    /// Returns the defaults of the map.
    fn general(&mut self, defaults: Option<&Entry>) -> Fields {
        let Some(defaults) = defaults else {
            return Fields::from([(Opt::Opts, Value::plain(b"rw,defaults"))]);
        };
        let locations = defaults.items.iter().filter_map(|item| match item {
            Item::Location(location) | Item::Defaults(location) => Some(location),
            Item::Cut | Item::Reset => None,
        });
        let with_selectors = self.request.settings.selectors_in_defaults;
        let mut chosen = None;
        for location in locations {
            // A selector that cannot be tested matches nothing.
            if !with_selectors || matches!(self.matches(&location.selectors, &Locals::default()), Ok(Some(true))) {
                chosen = Some(location);
                break;
            }
        }
        if !with_selectors && defaults.items.len() > 1 {
            let message = "only the first location of the defaults counts";
            let warning = Diagnostic::warning("amd::defaults", defaults.place.clone(), message);
            let help = "set selectors_in_defaults = yes in autofs.conf to select one of them";
            self.evaluated.warnings.push(warning.help(help));
        }
        chosen.map(|location| merged(location, &Fields::new())).unwrap_or_default()
    }

    /// Returns the defaults that a location with `-` sets. Where it says what the server has, but not where that is
    /// mounted, the place is that of this host, as automount has it.
    fn defaults(&mut self, location: &Location, general: &Fields) -> Result<Fields, Diagnostic> {
        let mut fields = merged(location, general);
        if fields.contains_key(&Opt::Rfs) && !fields.contains_key(&Opt::Rhost) && !fields.contains_key(&Opt::Fs) {
            let mut locals = Locals::default();
            self.place(&fields, &mut locals)?;
            if let Some(fs) = locals.0.remove("fs") {
                fields.insert(Opt::Fs, Value::plain(&fs));
            }
        }
        Ok(fields)
    }

    /// Returns whether all selectors match, or `None` if that is not known yet.
    fn matches(&mut self, selectors: &[Selector], locals: &Locals) -> Result<Option<bool>, Diagnostic> {
        let mut result = Some(true);
        for selector in selectors {
            match self.test(selector, locals)? {
                Some(false) => return Ok(Some(false)),
                None => result = None,
                Some(true) => {}
            }
        }
        Ok(result)
    }

    fn test(&mut self, selector: &Selector, locals: &Locals) -> Result<Option<bool>, Diagnostic> {
        match &selector.test {
            Test::Compare { compared, value, equal } => {
                let Some(is) = self.lookup(compared.name().as_bytes(), locals).map(Cow::into_owned) else {
                    return Ok(Some(false));
                };
                if self.is_undefined(value, locals) {
                    return Ok(Some(false));
                }
                let value = self.expand(value, locals)?;
                // uname(2) writes Linux, am-utils linux.
                let same = match compared {
                    Compared::Os | Compared::Vendor => is.eq_ignore_ascii_case(&value),
                    _ => is == value,
                };
                Ok(Some(same == *equal))
            }
            Test::Call { function, arguments, negated } => {
                if arguments.iter().any(|argument| self.is_undefined(argument, locals)) {
                    return Ok(Some(false));
                }
                let values: Vec<Vec<u8>> =
                    arguments.iter().map(|argument| self.expand(argument, locals)).collect::<Result<_, _>>()?;
                let first = values.first().cloned().unwrap_or_default();
                let known = |name: &[u8]| self.lookup(name, locals).map(Cow::into_owned).unwrap_or_default();
                let question = match function {
                    Function::True | Function::False => return Ok(Some((*function == Function::True) != *negated)),
                    Function::Xhost if first == known(b"host") || first == known(b"hostd") => {
                        return Ok(Some(!*negated));
                    }
                    Function::Xhost => Question::IsThisHost(first),
                    Function::Exists => Question::Exists(first),
                    Function::InNetwork => Question::OnNetwork(first),
                    Function::Netgrp | Function::Netgrpd => {
                        let own: &[u8] = if *function == Function::Netgrp { b"host" } else { b"hostd" };
                        let host = values.get(1).cloned().unwrap_or_else(|| known(own));
                        Question::InNetgroup { group: first, host }
                    }
                };
                Ok(self.ask(question).map(|yes| yes != *negated))
            }
        }
    }

    /// Returns the answer to a question, or notes that it is needed.
    fn ask(&mut self, question: Question) -> Option<bool> {
        let answer = self.request.answers.is(&question);
        if answer.is_none() {
            self.evaluated.needed.insert(question);
        }
        answer
    }

    fn is_undefined(&self, value: &Value, locals: &Locals) -> bool {
        value.variables().any(|name| self.lookup(name, locals).is_none())
    }

    fn lookup<'l>(&self, name: &[u8], locals: &'l Locals) -> Option<Cow<'l, [u8]>>
    where
        'a: 'l,
    {
        lookup(self.request, name, locals)
    }

    fn expand(&self, value: &Value, locals: &Locals) -> Result<Vec<u8>, Diagnostic> {
        let slashes = self.request.settings.normalize_slashes;
        value.expand(&|name| self.lookup(name, locals), slashes).map_err(|TooLong| {
            let message = "the value is too long when its variables are replaced";
            self.error("amd::long", value, message)
        })
    }

    /// Expands an option and defines the variable of its name.
    fn define(&self, fields: &Fields, option: Opt, locals: &mut Locals) -> Result<Option<Vec<u8>>, Diagnostic> {
        let Some(value) = fields.get(&option) else { return Ok(None) };
        let text = self.expand(value, locals)?;
        locals.0.insert(option.name(), text.clone());
        Ok(Some(text))
    }

    /// Defines `rhost`, `pref`, `sublink`, `rfs` and `fs`, in this order.
    fn place(&mut self, fields: &Fields, locals: &mut Locals) -> Result<(), Diagnostic> {
        let host = |name: &[u8]| self.request.scope.lookup(name).map(Cow::into_owned).unwrap_or_default();
        let (own, domain) = (host(b"host"), host(b"domain"));
        let rhost = self.define(fields, Opt::Rhost, locals)?;
        let rhost = rhost.filter(|name| !name.is_empty()).unwrap_or(own);
        locals.0.insert("rhost", self.server(rhost, &domain));
        self.define(fields, Opt::Pref, locals)?;
        self.define(fields, Opt::Sublink, locals)?;
        if self.define(fields, Opt::Rfs, locals)?.is_none() {
            locals.0.insert("rfs", self.request.path.to_vec());
        }
        if self.define(fields, Opt::Fs, locals)?.is_none() {
            let (rhost, rfs) = (locals.get("rhost"), locals.get("rfs"));
            let slash: &[u8] = if rfs.starts_with(b"/") { b"" } else { b"/" };
            let fs = [&self.request.settings.auto_dir, &b"/"[..], &rhost, slash, &rfs].concat();
            locals.0.insert("fs", fs);
        }
        Ok(())
    }

    /// Returns the name by which a server is called.
    fn server(&mut self, name: Vec<u8>, domain: &[u8]) -> Vec<u8> {
        let mut name = name;
        if self.request.settings.normalize_hostnames {
            let question = Question::Canonical(name.clone());
            match self.request.answers.name(&question) {
                Some(Some(canonical)) => name = canonical.to_vec(),
                Some(None) => {}
                None => {
                    self.evaluated.needed.insert(question);
                }
            }
        }
        if self.request.settings.domain_strip && !domain.is_empty() {
            let stripped = name.strip_suffix(domain).and_then(|host| host.strip_suffix(b"."));
            if let Some(host) = stripped.filter(|host| !host.is_empty()) {
                name = host.to_vec();
            }
        }
        name
    }

    /// Makes a choice of a selected location. Returns `None` for one that is left out.
    fn choice(&mut self, location: &Location, fields: &Fields) -> Result<Option<Choice>, Diagnostic> {
        let place = place_of(&self.entry.place, location.at);
        let mut locals = Locals::default();
        self.place(fields, &mut locals)?;
        let words = self.options(fields, &mut locals, &place)?;
        let mount_command = self.define(fields, Opt::Mount, &mut locals)?;
        let umount_command = self.define(fields, Opt::Umount, &mut locals)?;
        let kind_of_type = match self.define(fields, Opt::Type, &mut locals)? {
            Some(word) => word,
            None => b"nfs".to_vec(),
        };
        let device = self.define(fields, Opt::Dev, &mut locals)?;
        let (rhost, rfs, fs) = (locals.get("rhost"), locals.get("rfs"), locals.get("fs"));
        let mut target = match locals.0.get("sublink").filter(|sublink| !sublink.is_empty()) {
            Some(sublink) if sublink.starts_with(b"/") => sublink.clone(),
            Some(sublink) => [&fs[..], b"/", sublink].concat(),
            None => fs.clone(),
        };
        let mut fs = fs;
        let disk = |fstype: &[u8]| match device.clone().filter(|device| !device.is_empty()) {
            Some(device) => Ok(MountType::Disk { fstype: fstype.to_vec(), device }),
            None => {
                let error = Diagnostic::error("amd::device", place.clone(), "a file system without a device");
                Err(error.help("write dev:=/dev/NAME"))
            }
        };
        let mount = match &*kind_of_type {
            b"auto" => {
                let kind = self.map_type(fields, &locals, &place)?;
                if !fields.contains_key(&Opt::Fs) {
                    fs = self.request.map.to_vec();
                }
                fs = self.map_file(fs, kind);
                target.clone_from(&fs);
                MountType::Auto { kind, prefix: self.prefix(fields, &locals) }
            }
            b"link" => MountType::Link { exists: false },
            b"linkx" => MountType::Link { exists: true },
            b"host" => MountType::Host(rhost),
            b"lofs" => MountType::Lofs(rfs),
            b"nfsl" if self.is_local(&rhost) => match self.ask(Question::Exists(target.clone())) {
                Some(true) | None => MountType::Link { exists: false },
                Some(false) => MountType::Nfs { fstype: "nfs", host: rhost, path: rfs },
            },
            b"nfs" | b"nfsl" => MountType::Nfs { fstype: "nfs", host: rhost, path: rfs },
            b"nfs4" => MountType::Nfs { fstype: "nfs4", host: rhost, path: rfs },
            b"program" => self.program(mount_command, umount_command, &place)?,
            b"ext2" | b"ext3" | b"ext4" | b"xfs" => disk(&kind_of_type)?,
            b"ufs" => disk(&self.request.settings.ufs)?,
            b"cdfs" => disk(b"iso9660")?,
            b"error" => MountType::Error,
            b"cachefs" => {
                let warning = Diagnostic::warning("amd::type", place, "a location of type cachefs is left out");
                self.evaluated.warnings.push(warning.help("write type:=nfs"));
                return Ok(None);
            }
            other => return Err(unknown_type(other, place)),
        };
        let far = match (&mount, words.far) {
            (MountType::Nfs { host, .. }, Some(options)) if self.ask(Question::IsNear(host.clone())) == Some(false) => {
                Some(options)
            }
            _ => None,
        };
        let options = far.unwrap_or_else(|| words.near.clone());
        let (link_options, timeout, never) = (words.near, words.timeout, words.never);
        Ok(Some(Choice { place, mount, fs, target, link_options, options, timeout, never }))
    }

    /// Returns whether a server is this host by its name.
    fn is_local(&self, rhost: &[u8]) -> bool {
        let is = |name: &[u8]| self.request.scope.lookup(name).is_some_and(|own| *own == *rhost);
        is(b"host") || is(b"hostd")
    }

    /// Returns what the keys of a submount begin with: nothing, unless `pref` says so, or it has neither `pref` nor a map of its own.
    fn prefix(&self, fields: &Fields, locals: &Locals) -> Vec<u8> {
        match locals.0.get("pref") {
            Some(pref) if pref == b"null" => Vec::new(),
            Some(pref) if !pref.is_empty() => pref.clone(),
            _ if fields.contains_key(&Opt::Fs) => Vec::new(),
            _ => [self.request.key, b"/"].concat(),
        }
    }

    /// Returns the kind of source of a submount.
    fn map_type(&self, fields: &Fields, locals: &Locals, place: &Position) -> Result<Option<SourceKind>, Diagnostic> {
        let Some(value) = fields.get(&Opt::Maptype) else {
            return Ok(self.request.settings.map_type.or(self.request.kind));
        };
        let word = self.expand(value, locals)?;
        match &*word {
            b"file" | b"nis" | b"nisplus" | b"ldap" | b"hesiod" | b"exec" => Ok(SourceKind::from_word(&word)),
            _ => {
                let message = format!("unknown map type \"{}\"", Escaped::start_of(&word));
                let error = Diagnostic::error("amd::maptype", place.clone(), message);
                Err(error.help("map types are file, nis, nisplus, ldap, hesiod and exec"))
            }
        }
    }

    /// Returns the path of a map file: one with a relative name is looked for in `search_path`.
    fn map_file(&mut self, name: Vec<u8>, kind: Option<SourceKind>) -> Vec<u8> {
        let is_file = matches!(kind, None | Some(SourceKind::File | SourceKind::Program));
        if !is_file || name.starts_with(b"/") {
            return name;
        }
        for directory in &self.request.settings.search_path {
            let path = [directory, &b"/"[..], &name].concat();
            if self.ask(Question::Exists(path.clone())) == Some(true) {
                return path;
            }
        }
        name
    }

    fn program(
        &self,
        mount: Option<Vec<u8>>,
        unmount: Option<Vec<u8>>,
        place: &Position,
    ) -> Result<MountType, Diagnostic> {
        let words = |text: Option<Vec<u8>>| -> Vec<Vec<u8>> {
            let text = text.unwrap_or_default();
            text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
        };
        let error = |message: &str| {
            let help = "write mount:=\"/path/of/program argv0 arguments\", and unmount:= in the same way";
            Err(Diagnostic::error("amd::program", place.clone(), message).help(help))
        };
        let (mount, unmount) = (words(mount), words(unmount));
        match mount.first() {
            None => error("type:=program without a command that mounts"),
            Some(program) if !program.starts_with(b"/") => error("the program that mounts is no absolute path"),
            _ if unmount.first().is_some_and(|program| !program.starts_with(b"/")) => {
                error("the program that unmounts is no absolute path")
            }
            _ => Ok(MountType::Program { mount, unmount }),
        }
    }

    /// Fails if a key with a comma, which users choose, would become several mount options.
    fn check_key(&self, fields: &Fields, option: Opt, locals: &Locals) -> Result<(), Diagnostic> {
        let (key, Some(value)) = (self.request.key, fields.get(&option)) else { return Ok(()) };
        let has_key = |value: &[u8]| memchr::memmem::find(value, key).is_some();
        let is_split =
            key.contains(&b',') && value.variables().any(|name| self.lookup(name, locals).is_some_and(|v| has_key(&v)));
        if !is_split {
            return Ok(());
        }
        let message = "the key, which users choose, has a comma and would add mount options";
        Err(self.error("amd::comma", value, message).help("write an entry of its own for this key"))
    }

    /// Expands `opts`, `addopts` and `remopts`.
    fn options(&mut self, fields: &Fields, locals: &mut Locals, place: &Position) -> Result<Words, Diagnostic> {
        for option in [Opt::Opts, Opt::Addopts, Opt::Remopts] {
            self.check_key(fields, option, locals)?;
        }
        let opts = self.define(fields, Opt::Opts, locals)?;
        let addopts = self.define(fields, Opt::Addopts, locals)?;
        let remopts = self.define(fields, Opt::Remopts, locals)?;
        let mut words = Words::default();
        let mut sort = |text: &[u8]| {
            let sorted = options::sort(text);
            words.timeout = sorted.timeout.or(words.timeout);
            words.never |= sorted.never;
            if !sorted.ignored.is_empty() {
                let list = sorted.ignored.join(&b',');
                let message = format!("{} has no effect here", Escaped::start_of(&list));
                self.evaluated.warnings.push(Diagnostic::warning("amd::ignored", place.clone(), message));
            }
            match sorted.invalid {
                None => Ok(sorted.mount),
                Some(word) => {
                    let message = format!("\"{}\" is no mount option", Escaped::start_of(&word));
                    let error = Diagnostic::error("amd::options", place.clone(), message);
                    Err(error.help("write words separated by commas: opts:=ro,timeo=7"))
                }
            }
        };
        let near = sort(&opts.unwrap_or_default())?;
        let added = sort(&addopts.unwrap_or_default())?;
        let far = remopts.map(|remopts| sort(&remopts)).transpose()?;
        words.near = options::merge(&near, &added);
        words.far = far.map(|far| options::merge(&far, &added));
        Ok(words)
    }

    /// An error about a value: in the entry, or in the defaults, whose text is another.
    fn error(&self, code: &'static str, value: &Value, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, place_of(&self.entry.place, value.at), message)
    }
}

/// Returns the value of a variable.
fn lookup<'l>(request: &Request<'l>, name: &[u8], locals: &'l Locals) -> Option<Cow<'l, [u8]>> {
    let number = |n: u32| Some(Cow::Owned(n.to_string().into_bytes()));
    if let Some(value) = std::str::from_utf8(name).ok().and_then(|name| locals.0.get(name)) {
        return Some(Cow::Borrowed(value));
    }
    match name {
        b"key" => Some(Cow::Borrowed(request.key)),
        b"path" => Some(Cow::Borrowed(request.path)),
        b"map" => Some(Cow::Borrowed(request.map)),
        b"autodir" => Some(Cow::Borrowed(&request.settings.auto_dir)),
        b"uid" => number(request.scope.user?.uid),
        b"gid" => number(request.scope.user?.gid),
        _ => request.scope.lookup(name),
    }
}

fn unknown_type(word: &[u8], place: Position) -> Diagnostic {
    if let Some((name, help)) = UNSUPPORTED.iter().find(|(name, _)| name.as_bytes() == word) {
        let error = Diagnostic::error("amd::type", place, format!("file systems of type {name} are not supported"));
        return error.help(*help);
    }
    let error = Diagnostic::error("amd::type", place, format!("unknown type \"{}\"", Escaped::start_of(word)));
    error.help(match known::nearest(word, TYPES.iter().copied()) {
        Some(near) => format!("did you mean {near}? types are {}", TYPES.join(", ")),
        None => format!("types are {}", TYPES.join(", ")),
    })
}
