//! Master maps in TOML: a list of mount points, and includes. Each mount point becomes a line of a Sun master map.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::Error as _;
use toml::Spanned;
use toml::de::DeValue;

use super::text::{Several, Source};
use crate::map::master::{self, checked_include, checked_mount_point};
use crate::map::options::is_account;
use crate::map::{
    Include, Item, MasterEntry, MasterOptions, Owner, Propagation, SourceKind, SourceSpec, Verbosity, known,
};
use crate::text::{Diagnostic, Escaped, lines};

/// Keys at the top of a master map.
const TOP: [&str; 2] = ["mount_points", "include"];

/// The list of mount points, in a master map and in autofs.toml.
pub const MOUNT_POINTS: &str = TOP[0];

/// Reads the master map `text`, the content of `file`. A mount point that is wrong costs only itself.
pub fn read(text: &[u8], file: &Arc<Path>) -> (Vec<Item>, Vec<Diagnostic>) {
    let source = Source { text, file };
    let (table, mut diagnostics) = match source.tables() {
        Ok(read) => read,
        Err(error) => return (Vec::new(), vec![error]),
    };
    // Mount points and includes, and where they are in the text: of two for the same path, the first counts.
    let mut items: Vec<(usize, Item)> = Vec::new();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            MOUNT_POINTS => {
                let (points, wrong) = mount_points(value, &source);
                items.extend(points);
                diagnostics.extend(wrong);
            }
            "include" => match includes(value, &source) {
                Ok(includes) => {
                    for include in includes {
                        match include {
                            Ok((at, include)) => items.push((at, Item::Include(include))),
                            Err(error) => diagnostics.push(error),
                        }
                    }
                }
                Err(error) => diagnostics.push(error),
            },
            other => {
                let message = format!("unknown key \"{}\"", Escaped(other.as_bytes()));
                diagnostics.push(source.error("toml::unknown", key.span(), message).help(
                    match known::nearest(other.as_bytes(), TOP.into_iter()) {
                        Some(near) => format!("did you mean {near}?"),
                        None => "a master map has the tables [[mount_points]], and the list include".to_owned(),
                    },
                ));
            }
        }
    }
    items.sort_by_key(|(at, _)| *at);
    diagnostics.sort_by_key(|d| (d.place.line, d.place.column));
    (items.into_iter().map(|(_, item)| item).collect(), diagnostics)
}

/// Returns whether the name of a file says that it is in TOML.
pub fn is_named(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "toml")
}

/// Returns whether `text` looks like a master map in TOML, and not like another file in TOML.
pub fn is_master(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let (table, _) = toml::de::DeTable::parse_recoverable(&text);
    let keys: Vec<&str> = table.get_ref().keys().map(|key| key.get_ref().as_ref()).collect();
    keys.contains(&MOUNT_POINTS) && keys.iter().all(|key| TOP.contains(key))
}

/// Reads the list of mount points: those that are right with their place in the text, and what is wrong with the others.
pub(crate) fn mount_points(value: Spanned<DeValue<'_>>, source: &Source<'_>) -> (Vec<(usize, Item)>, Vec<Diagnostic>) {
    const WRITE: &str = "write [[mount_points]], and below it path = \"/misc\" and map = \"/etc/auto.misc\"";
    let (mut items, mut diagnostics) = (Vec::new(), Vec::new());
    let at = value.span();
    let DeValue::Array(points) = value.into_inner() else {
        let error = source.error("toml::mount-points", at, "\"mount_points\" is a list of tables");
        return (items, vec![error.help(WRITE)]);
    };
    for point in points {
        let at = point.span();
        let is_include =
            matches!(point.get_ref(), DeValue::Table(table) if table.keys().any(|key| key.get_ref() == "include"));
        let read = if is_include {
            source
                .read::<Included>(point)
                .and_then(|point| include(&point.include, at.start, source))
                .map(Item::Include)
        } else {
            let read = source.read::<MountPoint>(point).map_err(|mut error| {
                // serde's own help says less.
                if error.message.starts_with("missing field") {
                    error.help = Some(WRITE.to_owned());
                }
                error
            });
            read.and_then(|point| entry(point, at.start, source, &mut diagnostics)).map(Item::Entry)
        };
        match read {
            Ok(item) => items.push((at.start, item)),
            Err(error) => diagnostics.push(error),
        }
    }
    (items, diagnostics)
}

/// Another master map, in the place of a mount point.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Included {
    include: Spanned<String>,
}

fn include(map: &Spanned<String>, at: usize, source: &Source<'_>) -> Result<Include, Diagnostic> {
    match checked_include(map.get_ref().as_bytes()) {
        Ok(spec) => Ok(Include { source: spec, place: source.place(at) }),
        Err((message, help)) => Err(source.error("toml::include", map.span(), message).help(help)),
    }
}

/// A mount point of the master map.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MountPoint {
    path: Spanned<String>,
    /// Its map, or several: the first that has a key counts.
    map: Option<Spanned<String>>,
    #[serde(default)]
    maps: Vec<Map>,
    options: Option<Spanned<Several>>,
    /// Paths that are mounted before each entry.
    #[serde(default)]
    requires: Vec<Spanned<String>>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    list: bool,
    timeout: Option<u64>,
    negative_timeout: Option<u64>,
    browse: Option<bool>,
    bind: Option<bool>,
    #[serde(default)]
    symlink: bool,
    #[serde(default)]
    strictexpire: bool,
    propagation: Option<Kind>,
    #[serde(default)]
    random_multimount_selection: bool,
    #[serde(default)]
    use_weight_only: bool,
    verbosity: Option<Level>,
    #[serde(default, deserialize_with = "mode")]
    mode: Option<u32>,
    owner: Option<Spanned<Account>>,
    group: Option<Spanned<Account>>,
    trigger_propagation: Option<Kind>,
    slashify_colons: Option<bool>,
}

/// One of several maps.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Map {
    map: Spanned<String>,
    options: Option<Spanned<Several>>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    list: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Slave,
    Private,
    Shared,
}

impl From<Kind> for Propagation {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Slave => Self::Slave,
            Kind::Private => Self::Private,
            Kind::Shared => Self::Shared,
        }
    }
}

/// A user or group.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected the name or the number of a user or group")]
enum Account {
    Number(u32),
    Name(String),
}

/// The owner and the group of a mount point, if one of them is given.
fn owner(
    user: Option<&Spanned<Account>>,
    group: Option<&Spanned<Account>>,
    source: &Source<'_>,
) -> Result<Option<Box<Owner>>, Diagnostic> {
    let text = |given: Option<&Spanned<Account>>| given.map(|given| account(given, source)).transpose();
    let owner = Owner { user: text(user)?, group: text(group)? };
    Ok((owner != Owner::default()).then(|| Box::new(owner)))
}

/// The name or number as text.
fn account(account: &Spanned<Account>, source: &Source<'_>) -> Result<Vec<u8>, Diagnostic> {
    let text = match account.get_ref() {
        Account::Number(number) => number.to_string(),
        Account::Name(name) => name.clone(),
    };
    if is_account(text.as_bytes()) {
        return Ok(text.into_bytes());
    }
    let message = format!("invalid user or group \"{}\"", Escaped::start_of(text.as_bytes()));
    Err(source.error("toml::owner", account.span(), message).help("write a name or a number, as in owner = \"alice\""))
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Basic,
    Verbose,
    Debug,
}

/// Permission bits: a string of octal digits, as a bare number would be read as a decimal one.
fn mode<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    let wrong = "invalid mode, expected a string of octal digits, as in mode = \"0755\"";
    let text = String::deserialize(value).map_err(|_| D::Error::custom(wrong))?;
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777 && !text.starts_with('+'));
    mode.map(Some).ok_or_else(|| D::Error::custom(wrong))
}

/// The entry of a mount point.
fn entry(
    point: MountPoint,
    at: usize,
    source: &Source<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<MasterEntry, Diagnostic> {
    let wrong = |at: Range<usize>, message: &str, help: &str| {
        Err(source.error("toml::mount-point", at, message.to_owned()).help(help))
    };
    let path = point.path.span();
    let mount_point = match checked_mount_point(point.path.get_ref().as_bytes()) {
        Ok(mount_point) => mount_point,
        Err((message, help)) => return wrong(path, message, help),
    };
    let requires = requires(&point.requires, source)?;
    let mut map = match (point.map, point.maps.as_slice()) {
        (Some(map), []) => one_map(&map, point.list, source)?,
        (None, [_, ..]) if point.list || point.options.is_some() || !point.variables.is_empty() => {
            let help = "write it into the table of a map: maps = [{ map = \"auto.a\", options = \"ro\" }, ...]";
            return wrong(path, "options, variables and list belong to one of the maps", help);
        }
        (None, [_, ..]) => SourceSpec { kind: Some(SourceKind::Multi), ..SourceSpec::default() },
        (Some(_), _) => return wrong(path, "both map and maps", "write one of them"),
        (None, []) => return wrong(path, "no map", "write map = \"/etc/auto.misc\", or what the map is called"),
    };
    for part in &point.maps {
        let spec = one_map(&part.map, part.list, source)?;
        if spec.kind == Some(SourceKind::Null) {
            return wrong(part.map.span(), "-null is no map", "leave it out");
        }
        let mut passed = passed_on(part.options.as_ref(), &part.variables, source)?;
        join(&mut passed.arguments, &requires);
        map.parts.push((spec, passed));
    }
    let mut passed = passed_on(point.options.as_ref(), &point.variables, source)?;
    if map.parts.is_empty() {
        join(&mut passed.arguments, &requires);
    }
    let options = MasterOptions {
        timeout: point.timeout,
        negative_timeout: point.negative_timeout.filter(|&n| n > 0),
        browse: point.browse,
        nobind: point.bind == Some(false),
        symlink: point.symlink,
        strictexpire: point.strictexpire,
        propagation: point.propagation.map(Propagation::from),
        random: point.random_multimount_selection,
        use_weight_only: point.use_weight_only,
        verbosity: point.verbosity.and_then(|level| match level {
            Level::Basic => None,
            Level::Verbose => Some(Verbosity::Verbose),
            Level::Debug => Some(Verbosity::Debug),
        }),
        mode: point.mode,
        owner: owner(point.owner.as_ref(), point.group.as_ref(), source)?,
        trigger_propagation: point.trigger_propagation.map(Propagation::from),
        slashify_colons: point.slashify_colons,
        ..passed
    };
    let direct = mount_point == b"/-";
    let entry = MasterEntry { mount_point, direct, source: map, options, place: source.place(at) };
    as_a_line(entry, path, source, warnings)
}

/// Reads the entry back from its line in a Sun master map, for what both formats share: which options there are.
fn as_a_line(
    entry: MasterEntry,
    at: Range<usize>,
    source: &Source<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<MasterEntry, Diagnostic> {
    let text = entry.line();
    let mut said = Vec::new();
    let read = match lines(&text, source.file).next() {
        Some(line) => line.and_then(|line| master::parse(&line, &mut said)),
        None => return Err(source.error("toml::mount-point", at, "no mount point")),
    };
    // Their columns are those of the line.
    let in_file = |d: Diagnostic| {
        let message = d.message.rsplit_once(" ]: ").map_or(d.message.as_str(), |(_, message)| message);
        let moved = source.error(d.code, at.clone(), message);
        let moved = if let Some(help) = d.help { moved.help(help) } else { moved };
        Diagnostic { severity: d.severity, ..moved }
    };
    let Item::Entry(read) = read.map_err(in_file)? else {
        return Err(source.error("toml::mount-point", at, "a path begins with \"/\""));
    };
    warnings.extend(said.into_iter().map(in_file));
    let plain = |entry: &MasterEntry| {
        let mut entry = MasterEntry { place: source.place(at.start), ..entry.clone() };
        let parts = entry.source.parts.iter_mut().map(|(_, options)| options);
        for options in parts.chain([&mut entry.options]) {
            options.mount_options.clear();
            options.arguments.clear();
        }
        entry
    };
    if plain(&read) != plain(&entry) {
        let message = "the mount point cannot be written as a line of a master map";
        let help = "keep blanks, commas and quotes out of variables and the names of maps";
        return Err(source.error("toml::mount-point", at, message).help(help));
    }
    Ok(MasterEntry { place: entry.place, ..read })
}

/// The options that say what each entry requires.
fn requires(paths: &[Spanned<String>], source: &Source<'_>) -> Result<Vec<u8>, Diagnostic> {
    let mut all = Vec::new();
    for path in paths {
        let text = path.get_ref();
        if !text.starts_with('/')
            || text.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, ',' | '"'))
        {
            let message = format!("a mount point cannot require \"{}\"", Escaped(text.as_bytes()));
            let help = "write absolute paths without blanks, commas and quotes: requires = [\"/path\"]";
            return Err(source.error("toml::requires", path.span(), message).help(help));
        }
        join(&mut all, format!("requires={text}").as_bytes());
    }
    Ok(all)
}

/// Adds options to others.
fn join(options: &mut Vec<u8>, more: &[u8]) {
    if !options.is_empty() && !more.is_empty() {
        options.push(b',');
    }
    options.extend_from_slice(more);
}

/// A map as one word.
fn one_map(map: &Spanned<String>, lists: bool, source: &Source<'_>) -> Result<SourceSpec, Diagnostic> {
    let wrong = |message: &str, help: &str| Err(source.error("toml::map", map.span(), message.to_owned()).help(help));
    let word = map.get_ref().as_bytes();
    let spec = match SourceSpec::parse_type(word).filter(|_| !word.contains(&b':')) {
        // There is one such map; it needs no name.
        Some(Ok((SourceKind::Hesiod, format))) => {
            SourceSpec { kind: Some(SourceKind::Hesiod), format, ..SourceSpec::default() }
        }
        Some(_) => return wrong("a type without a map", "write map = \"TYPE:NAME\", as in \"file:/etc/auto.misc\""),
        None => match SourceSpec::parse(word) {
            Ok(spec) => spec,
            Err(error) => return wrong(&error.to_string(), &error.help()),
        },
    };
    match spec.kind {
        _ if spec.name.is_empty() && spec.kind.is_none() => wrong("no map", "write map = \"/etc/auto.misc\""),
        _ if word.iter().any(u8::is_ascii_control) => wrong("a control character", "names of maps are plain text"),
        Some(SourceKind::Multi) => wrong("several maps are no word", "write maps = [{ map = \"auto.a\" }, ...]"),
        Some(SourceKind::Dir) => {
            wrong("a directory is no map", "write include = [\"dir:PATH\"] at the top of the file")
        }
        _ if lists && !spec.may_be_program() => wrong("only a program lists its keys", "leave list out"),
        _ => Ok(SourceSpec { lists, ..spec }),
    }
}

/// Returns the options that are passed on to each entry of the map.
fn passed_on(
    options: Option<&Spanned<Several>>,
    variables: &BTreeMap<String, String>,
    source: &Source<'_>,
) -> Result<MasterOptions, Diagnostic> {
    let mut passed = MasterOptions::default();
    passed
        .defines
        .extend(variables.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())));
    let Some(options) = options else { return Ok(passed) };
    let text = options.get_ref().joined();
    let wrong = |message: String, help: &str| Err(source.error("toml::options", options.span(), message).help(help));
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return wrong("a blank in the options".to_owned(), "write options = \"ro,soft\" or [\"ro\", \"soft\"]");
    }
    for word in text.split(',') {
        let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
        if let Some((_, key)) = KEYS.iter().find(|(known, _)| *known == name) {
            return wrong(format!("\"{}\" is no mount option", Escaped(word.as_bytes())), &format!("write {key}"));
        }
        if word.starts_with("-D") {
            return wrong("a variable is no mount option".to_owned(), "write variables = { NAME = \"value\" }");
        }
    }
    passed.arguments = text.into_bytes();
    Ok(passed)
}

/// Words of a Sun master map that are no mount options, and the keys that say the same.
const KEYS: [(&str, &str); 26] = [
    ("browse", "browse = true"),
    ("nobrowse", "browse = false"),
    ("ghost", "browse = true"),
    ("g", "browse = true"),
    ("list", "list = true"),
    ("nobind", "bind = false"),
    ("symlink", "symlink = true"),
    ("strictexpire", "strictexpire = true"),
    ("slave", "propagation = \"slave\""),
    ("private", "propagation = \"private\""),
    ("shared", "propagation = \"shared\""),
    ("timeout", "timeout = 300"),
    ("t", "timeout = 300"),
    ("negative-timeout", "negative_timeout = 60"),
    ("n", "negative_timeout = 60"),
    ("mode", "mode = \"0755\""),
    ("owner", "owner = \"alice\""),
    ("group", "group = \"staff\""),
    ("trigger-propagation", "trigger_propagation = \"private\""),
    ("verbose", "verbosity = \"verbose\""),
    ("debug", "verbosity = \"debug\""),
    ("random-multimount-selection", "random_multimount_selection = true"),
    ("use-weight-only", "use_weight_only = true"),
    ("slashify-colons", "slashify_colons = true"),
    ("no-slashify-colons", "slashify_colons = false"),
    ("w", "use_weight_only = true"),
];

/// An include with its place in the text, or what is wrong with it.
type Found = Result<(usize, Include), Diagnostic>;

fn includes(value: Spanned<DeValue<'_>>, source: &Source<'_>) -> Result<Vec<Found>, Diagnostic> {
    let maps: Vec<Spanned<String>> = source.read(value)?;
    let found = |map: &Spanned<String>| {
        let at = map.span().start;
        Ok((at, include(map, at, source)?))
    };
    Ok(maps.iter().map(found).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Arc<Path> {
        Path::new("/m.toml").into()
    }

    fn said(text: &str) -> (Vec<String>, Vec<String>) {
        let (items, diagnostics) = read(text.as_bytes(), &file());
        let show = |item: Item| match item {
            Item::Entry(entry) => String::from_utf8(entry.line()).unwrap(),
            Item::Include(include) => format!("+{}", String::from_utf8(include.source.word()).unwrap()),
        };
        (items.into_iter().map(show).collect(), diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn mount_points_become_lines_in_their_order() {
        let text = r#"
            include = ["dir:/etc/auto.master.d", "file,toml:/etc/more"]
            [[mount_points]]
            path = "/home/"
            map = "file,toml:/etc/auto.home.toml"
            options = ["rw", "soft"]
            timeout = 300
            negative_timeout = 10
            mode = "0711"
            owner = "alice"
            group = 1000
            trigger_propagation = "private"
            browse = true
            bind = false
            propagation = "private"
            verbosity = "debug"
            variables = { OS = "Linux", SITE = "a b" }
            [[mount_points]]
            path = "/-"
            map = "auto.direct"
            [[mount_points]]
            path = "/-"
            map = "program:/etc/auto prog"
            list = true
            [[mount_points]]
            path = "/net"
            map = "-hosts"
            options = "-nosuid,nodev"
            requires = ["/keys"]
            [[mount_points]]
            path = "/both"
            maps = [{ map = "auto.a", options = "ro" }, { map = "hesiod" }, { map = "yp:b", list = false }]
            symlink = true
        "#;
        let (lines, wrong) = said(text);
        assert_eq!(wrong, [""; 0]);
        let expected = [
            "+dir:/etc/auto.master.d",
            "+file,toml:/etc/more",
            "/home file,toml:/etc/auto.home.toml --timeout=300 --negative-timeout=10 --mode=0711 --owner=alice --group=1000 \
             --trigger-propagation=private browse nobind private \
             --debug -DOS=Linux -DSITE=a\\ b rw,soft",
            "/- auto.direct",
            "/- program:/etc/auto\\ prog list",
            "/net -hosts -nosuid,nodev,requires=/keys",
            "/both multi auto.a ro -- hesiod -- yp:b symlink",
        ];
        assert_eq!(lines, expected);
    }

    /// The same line in both formats is the same entry, what `automount -m` shows included.
    #[test]
    fn a_mount_point_is_what_its_line_is() {
        let text = "[[mount_points]]\npath = \"/a b\"\nmap = \"file:/etc/x y\"\noptions = \"-ro,soft\"\n\
                    variables.A = \"b\"\nbrowse = false\n";
        let (toml, _) = read(text.as_bytes(), &file());
        let (sun, _) = master::read(b"/a\\ b file:/etc/x\\ y nobrowse -DA=b -ro,soft\n", &file());
        assert_eq!(toml, sun);
    }

    #[test]
    fn what_is_wrong_is_told_where_and_costs_itself_only() {
        let good = "[[mount_points]]\npath = \"/good\"\nmap = \"auto.x\"\n[[mount_points]]\n";
        for (bad, told) in [
            ("path = \"x\"\nmap = \"y\"\n", "5:8: a mount point starts with \"/\": write an absolute path, "),
            ("path = \"/\"\nmap = \"y\"\n", "5:8: cannot mount on the root directory: "),
            ("path = \"/x\"\n", "5:8: no map: write map = "),
            ("map = \"/x\"\n", "4:1: missing field `path`: write [[mount_points]], and below it path = "),
            ("path = \"/x\"\nmpa = \"y\"\n", "6:1: unknown field `mpa`: did you mean map? expected one of "),
            ("path = \"/x\"\nmap = \"files:/y\"\n", "6:7: unknown map type \"files\": did you mean file:? "),
            ("path = \"/x\"\nmap = \"file\"\n", "6:7: a type without a map: write map = "),
            ("path = \"/x\"\nmap = \"dir:/y\"\n", "6:7: a directory is no map: write include = "),
            ("path = \"/x\"\nmap = \"-xfn\"\n", "6:7: built-in map \"-xfn\" is not supported: "),
            (
                "path = \"/x\"\nmap = \"y\"\ntimeout = \"5m\"\n",
                "7:11: invalid type: string \"5m\": expected a whole number, 0 or more",
            ),
            ("path = \"/x\"\nmap = \"y\"\nmode = 755\n", "7:8: invalid mode: expected a string of octal digits"),
            ("path = \"/x\"\nmap = \"y\"\nowner = \"a b\"\n", "7:9: invalid user or group \"a b\": write a name "),
            ("path = \"/x\"\nmap = \"y\"\nrequires = [\"a\"]\n", "7:13: a mount point cannot require \"a\": write "),
            ("path = \"/x\"\nmap = \"y\"\ngroup = true\n", "7:9: expected the name or the number "),
            (
                "path = \"/x\"\nmap = \"y\"\npropagation = \"share\"\n",
                "7:15: unknown variant `share`: did you mean shared? ",
            ),
            (
                "path = \"/x\"\nmap = \"y\"\noptions = \"ro,browse\"\n",
                "7:11: \"browse\" is no mount option: write browse = true",
            ),
            (
                "path = \"/x\"\nmap = \"y\"\noptions = \"--timeout=5\"\n",
                "7:11: \"--timeout=5\" is no mount option: write timeout = ",
            ),
            ("path = \"/x\"\nmap = \"y\"\noptions = \"ro soft\"\n", "7:11: a blank in the options: write "),
            ("path = \"/x\"\nmap = \"y\"\noptions = \"ro,,soft\"\n", "5:8: two commas in a row: remove one"),
            ("path = \"/x\"\nmap = \"y\"\nmaps = [{ map = \"z\" }]\n", "5:8: both map and maps: "),
            (
                "path = \"/x\"\nmaps = [{ map = \"z\" }]\noptions = \"ro\"\n",
                "5:8: options, variables and list belong to ",
            ),
            ("path = \"/x\"\nmaps = [{ map = \"-null\" }]\n", "6:17: -null is no map: "),
            ("path = \"/x\"\nmap = \"y\\nz\"\n", "6:7: a control character: "),
            ("path = \"/x\"\nmap = \"-hosts\"\nlist = true\n", "6:7: only a program lists its keys: "),
            ("path = \"/x\"\nmap = \"y\"\nvariables = { \"A,\" = \"x\" }\n", "5:8: "),
            ("path = \"/x\"\nmap = \n", "6:"),
        ] {
            let (lines, wrong) = said(&format!("{good}{bad}"));
            assert_eq!(lines.first().map(String::as_str), Some("/good auto.x"), "{bad}");
            let told = format!("/m.toml:{told}");
            assert!(wrong.iter().any(|wrong| wrong.starts_with(&told)), "{bad}: {wrong:?}");
        }
        let (lines, wrong) = said("mount_point = []\ninclude = [\"-hosts\", \"program:/x\", \"b\"]\n");
        assert_eq!(lines, ["+b"]);
        assert_eq!(
            wrong,
            [
                "/m.toml:1:1: unknown key \"mount_point\": did you mean mount_points?",
                "/m.toml:2:12: a hosts map cannot be included: includes are of type file, dir, sss, yp, nis, nisplus, \
                 ldap or ldaps",
                "/m.toml:2:22: a program map cannot be included: includes are of type file, dir, sss, yp, nis, nisplus, \
                 ldap or ldaps",
            ]
        );
        assert!(said("mount_points = 5\n").1[0].starts_with("/m.toml:1:16: \"mount_points\" is a list of tables: "));
    }
}
