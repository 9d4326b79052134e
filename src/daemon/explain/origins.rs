//! Origins of mount options, and masking of secrets in them.

use crate::control::{Bytes, OptionOrigin, Origin, Place, PlanTree};
use crate::daemon::jobs::resolve::Explained;
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::plan::{Action, Plan};
use crate::text::Position;
use crate::text::secrets;

/// Masks passwords, unless they are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Masked {
    /// Whether they are shown.
    pub(super) secrets: bool,
}

impl Masked {
    pub(super) fn bytes(self, text: &[u8]) -> Bytes {
        Bytes(if self.secrets { text.to_vec() } else { secrets::masked(text).into_owned() })
    }

    pub(super) fn text(self, text: &str) -> String {
        if self.secrets { text.to_owned() } else { secrets::masked_text(text).into_owned() }
    }

    pub(super) fn plan(self, plan: &Plan) -> PlanTree {
        let mut tree = PlanTree::from(plan);
        tree.for_each_attempt(&mut |attempt| {
            attempt.options = self.bytes(&attempt.options.0);
            attempt.source = self.bytes(&attempt.source.0);
        });
        tree
    }
}

/// Returns where each mount option of the first attempt is written; `line` is the place of the line of the master map.
pub(super) fn origins(
    map: &ConfiguredMap,
    line: Option<Place>,
    explained: &Explained,
    masked: Masked,
) -> Vec<OptionOrigin> {
    let Some(Action::Mount(mounts)) = explained.plan.as_deref().map(|plan| &plan.action) else { return Vec::new() };
    let Some(first) = mounts.first() else { return Vec::new() };
    let origin = |word: &[u8]| {
        let name = word.split(|&b| b == b'=').next().unwrap_or_default();
        let in_entry =
            explained.entry.as_deref().and_then(|entry| position(entry, word).or_else(|| position(entry, name)));
        let (place, from) = match (in_entry, explained.place.as_ref()) {
            (Some(at), Some(place)) => {
                let column = place.column.saturating_add(u32::try_from(at).unwrap_or(0));
                (Some(Place::from(&Position { column, ..place.clone() })), Origin::Entry)
            }
            _ if position(&map.options.mount_options, name).is_some() => (line.clone(), Origin::Master),
            _ => (None, Origin::Automounter),
        };
        OptionOrigin { option: masked.bytes(word), from, place }
    };
    first.options.split(|&b| b == b',').filter(|word| !word.is_empty()).map(origin).collect()
}

/// Returns the position of an option in a list of options or an entry.
fn position(text: &[u8], word: &[u8]) -> Option<usize> {
    let ends = |byte: Option<&u8>| byte.is_none_or(|b| !b.is_ascii_alphanumeric() && !b"_.".contains(b));
    memchr::memmem::find_iter(text, word).find(|&at| {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        ends(before) && ends(text.get(at + word.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_found_as_a_whole() {
        assert_eq!(position(b"-rw,soft srv:/rw", b"soft"), Some(4));
        assert_eq!(position(b"-nosoft,soft,x", b"soft"), Some(8));
        assert_eq!(position(b"-softer", b"soft"), None);
    }

    #[test]
    fn passwords_are_masked_unless_they_are_wanted() {
        let text = b"-fstype=cifs,password=SECRET ://srv/x";
        let shown = |secrets| Masked { secrets }.bytes(text).0;
        assert!(!shown(false).windows(6).any(|part| part == b"SECRET"));
        assert_eq!(shown(true), text);
    }
}
