//! Lines of a master map in one spelling: what is printed is read back as the same.

use super::spec::{Format, MasterOptions, Propagation, SourceKind, SourceSpec, Verbosity};
use super::{MasterEntry, words};

impl SourceSpec {
    /// Writes the map as one word of a master map; of a `multi` map only the first word.
    pub fn word(&self) -> Vec<u8> {
        self.with_type(&escaped(&self.name))
    }

    /// Returns the map as it is called, without the backslashes of a master map.
    pub fn name_with_type(&self) -> Vec<u8> {
        self.with_type(&self.name)
    }

    fn with_type(&self, name: &[u8]) -> Vec<u8> {
        let format = self.format.map_or(String::new(), |format| format!(",{}", format.name()));
        match self.kind {
            None => name.to_vec(),
            Some(kind @ (SourceKind::Hosts | SourceKind::Null)) => format!("-{}", kind.name()).into_bytes(),
            Some(kind) if name.is_empty() => format!("{}{format}", kind.name()).into_bytes(),
            Some(kind) => [format!("{}{format}:", kind.name()).as_bytes(), name].concat(),
        }
    }
}

impl Format {
    /// The word as written behind a type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sun => "sun",
            Self::Amd => "amd",
            Self::Hesiod => "hesiod",
            Self::Toml => "toml",
            Self::Fstab => "fstab",
        }
    }
}

impl Propagation {
    /// The word as written in a master map.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slave => "slave",
            Self::Private => "private",
            Self::Shared => "shared",
        }
    }
}

impl MasterEntry {
    /// Writes the line of a Sun master map.
    pub fn line(&self) -> Vec<u8> {
        let mut line = vec![escaped(&self.mount_point), self.source.word()];
        let mut parts = self.source.parts.iter();
        let put = |source: &SourceSpec, options: &MasterOptions, line: &mut Vec<Vec<u8>>| {
            line.extend(source.lists.then(|| b"list".to_vec()));
            line.extend(mount_words(options));
        };
        if let Some((first, options)) = parts.next() {
            line.push(first.word());
            put(first, options, &mut line);
        }
        for (source, options) in parts {
            line.extend([b"--".to_vec(), source.word()]);
            put(source, options, &mut line);
        }
        line.extend(settings(&self.options));
        put(&self.source, &self.options, &mut line);
        line.join(&b' ')
    }
}

/// The options for the mount point itself.
fn settings(options: &MasterOptions) -> Vec<Vec<u8>> {
    let flag = |on: bool, word: &str| on.then(|| word.to_owned());
    // The reader lets only plain text be the name of a user.
    let word = |name: &[u8]| String::from_utf8_lossy(&escaped(name)).into_owned();
    let words = [
        options.timeout.map(|n| format!("--timeout={n}")),
        options.negative_timeout.map(|n| format!("--negative-timeout={n}")),
        options.mode.map(|mode| format!("--mode={mode:04o}")),
        options.user().map(|owner| format!("--owner={}", word(owner))),
        options.group().map(|group| format!("--group={}", word(group))),
        options.trigger_propagation.map(|kind| format!("--trigger-propagation={}", kind.name())),
        options.browse.map(|on| if on { "browse" } else { "nobrowse" }.to_owned()),
        flag(options.nobind, "nobind"),
        flag(options.symlink, "symlink"),
        flag(options.strictexpire, "strictexpire"),
        options.propagation.map(|propagation| propagation.name().to_owned()),
        flag(options.random, "--random-multimount-selection"),
        flag(options.use_weight_only, "--use-weight-only"),
        match options.verbosity {
            Some(Verbosity::Debug) => Some("--debug".to_owned()),
            Some(Verbosity::Verbose) => Some("--verbose".to_owned()),
            Some(Verbosity::Basic) | None => None,
        },
        options.slashify_colons.map(|on| if on { "--slashify-colons" } else { "--no-slashify-colons" }.to_owned()),
    ];
    words.into_iter().flatten().map(String::into_bytes).collect()
}

/// The variables and the mount options. The options are spelled as in the line from which they were read.
fn mount_words(options: &MasterOptions) -> Vec<Vec<u8>> {
    let variable = |(name, value): &(Vec<u8>, Vec<u8>)| [b"-D", &*escaped(name), b"=", &*escaped(value)].concat();
    let mut all: Vec<Vec<u8>> = options.defines.iter().map(variable).collect();
    let written = mount_options(options);
    all.extend((!written.is_empty()).then_some(written));
    all
}

/// Returns the mount options as they were written, joined by commas.
pub fn mount_options(options: &MasterOptions) -> Vec<u8> {
    let words: Vec<&[u8]> =
        words::words(&options.arguments).map(|word| word.raw).filter(|word| !word.starts_with(b"-D")).collect();
    if words.is_empty() { options.mount_options.clone() } else { words.join(&b',') }
}

/// Protects what would end the word, begin a comment or quote something.
fn escaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (at, &byte) in text.iter().enumerate() {
        if matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c | b'"' | b'\\') || at == 0 && byte == b'#' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out
}
