//! A text that is cheap to clone and to compare. A short one needs no allocation.

use alloc::sync::Arc;
use core::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

/// The longest text that needs no allocation. `255.255.255.255:65535` is one.
const INLINE: usize = 22;

/// Two texts in one allocation have no more bytes than this together: a node id and an address.
const PAIR: usize = 64 + 259;

/// An immutable text of at most 64 KiB, equal, ordered and hashed as a `str`.
#[derive(Clone)]
pub(super) enum Text {
    /// Every text of at most [`INLINE`] bytes. The bytes behind it are 0.
    Inline { len: u8, bytes: [u8; INLINE] },
    /// Every longer text: a part of an allocation.
    Shared { from: u16, to: u16, all: Arc<str> },
}

impl Text {
    /// The text that these bytes are.
    pub(super) fn of(text: &[u8]) -> Self {
        Self::inline(text).unwrap_or_else(|| Self::Shared { from: 0, to: place(text.len()), all: valid(text).into() })
    }

    /// Two texts that belong together. They need one allocation at most.
    pub(super) fn pair(first: &[u8], second: &[u8]) -> (Self, Self) {
        if first.len().min(second.len()) <= INLINE {
            return (Self::of(first), Self::of(second));
        }
        let (middle, end) = (first.len(), first.len() + second.len());
        let mut bytes = [0; PAIR];
        bytes[..middle].copy_from_slice(first);
        bytes[middle..end].copy_from_slice(second);
        let all: Arc<str> = valid(&bytes[..end]).into();
        let (middle, end) = (place(middle), place(end));
        (Self::Shared { from: 0, to: middle, all: all.clone() }, Self::Shared { from: middle, to: end, all })
    }

    fn inline(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self::Inline { len: u8::try_from(text.len()).ok()?, bytes })
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Inline { .. } => valid(self.as_bytes()),
            Self::Shared { from, to, all } => &all[usize::from(*from)..usize::from(*to)],
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Shared { from, to, all } => &all.as_bytes()[usize::from(*from)..usize::from(*to)],
        }
    }
}

/// Numbers that are ordered as the bytes are. A view compares many texts.
fn words(bytes: &[u8; INLINE]) -> [u64; 3] {
    [0, 8, INLINE - 8].map(|from| u64::from_be_bytes(core::array::from_fn(|at| bytes[from + at])))
}

/// A place within an allocation.
fn place(at: usize) -> u16 {
    u16::try_from(at).expect("names and addresses are short")
}

/// Bytes that were copied from whole texts.
fn valid(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).expect("the bytes of a text are UTF-8")
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inline { len, bytes }, Self::Inline { len: other_len, bytes: other }) => {
                len == other_len && bytes == other
            }
            _ => self.as_bytes() == other.as_bytes(),
        }
    }
}

impl Eq for Text {}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Inline { len, bytes }, Self::Inline { len: other_len, bytes: other }) => {
                (words(bytes), len).cmp(&(words(other), other_len))
            }
            _ => self.as_bytes().cmp(other.as_bytes()),
        }
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String, vec::Vec};

    use super::*;

    /// Texts of all lengths around the limit, with bytes of all kinds.
    fn texts() -> Vec<String> {
        let ends = ["", "\0", "\0\0", "a", "b", "é", "\u{10ffff}", "a\0", "\0a"];
        let begins = [0, 1, 2, 8, 17, 18, 19, 20, 21, 22, 23, 24, 60].map(|len| "x".repeat(len));
        begins.iter().flat_map(|begin| ends.map(|end| format!("{begin}{end}"))).collect()
    }

    #[test]
    fn a_text_is_equal_and_ordered_as_its_str() {
        let texts = texts();
        for a in &texts {
            let text = Text::of(a.as_bytes());
            assert_eq!((text.as_str(), text.as_bytes()), (&**a, a.as_bytes()));
            assert_eq!(matches!(text, Text::Inline { .. }), a.len() <= INLINE, "{a:?}");
            for b in &texts {
                let other = Text::of(b.as_bytes());
                assert_eq!((text == other, text.cmp(&other)), (a == b, a.cmp(b)), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn two_texts_share_an_allocation_if_both_are_long() {
        for a in texts() {
            for b in texts() {
                let (first, second) = Text::pair(a.as_bytes(), b.as_bytes());
                assert_eq!((first.as_str(), second.as_str()), (&*a, &*b));
                assert!(first == Text::of(a.as_bytes()) && second == Text::of(b.as_bytes()));
                if let (Text::Shared { all: first, .. }, Text::Shared { all: second, .. }) = (first, second) {
                    assert!(Arc::ptr_eq(&first, &second), "{a:?} {b:?}");
                }
            }
        }
        let longest = Text::pair(&[b'i'; 64], &[b'h'; 259]);
        assert_eq!((longest.0.as_str().len(), longest.1.as_str().len()), (64, 259));
    }

    #[test]
    fn a_text_takes_three_words() {
        assert_eq!(size_of::<Text>(), 3 * size_of::<usize>());
        assert_eq!(size_of::<Option<Text>>(), size_of::<Text>());
    }
}
