//! Names: of nodes, addresses, clusters, terms, views, connections, dials and streams.

use alloc::{
    borrow::{Cow, ToOwned},
    collections::BTreeSet,
    string::String,
};
use core::{borrow::Borrow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A name or an address is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// A text is no node id.
    #[error("{id:?} is not a node id: {problem}; choose 1 to 64 bytes of visible text")]
    NodeId {
        /// The text.
        id: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A text is no cluster name.
    #[error("{name:?} is not a cluster name: {problem}; choose 1 to 64 bytes of visible text")]
    Cluster {
        /// The text.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A text is no name of a stream.
    #[error("{name:?} is not the name of a stream: {problem}; choose 1 to 64 bytes of visible text")]
    Stream {
        /// The text.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An address is not `host:port`.
    #[error("{address:?} is not an address: {problem}; write it as host:port, for example \"10.0.0.1:7000\"")]
    Address {
        /// The text.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A checked text. `$check` checks it, wherever it comes from: the wire too. It returns the normal form of the text. A text that is
/// `$plain` is in its normal form, and needs no further check.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $plain:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Text);

        impl $name {
            const CHECK: fn(&str) -> Result<Cow<'_, str>, IdError> = $check;

            /// Checks the text, and brings it into its normal form.
            ///
            /// # Errors
            /// [`IdError`] has the text and says what is wrong with it.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                if $plain(text.as_bytes()) {
                    return Ok(Self(Text::of(text.as_bytes())));
                }
                Self::CHECK(text).map(|text| Self(Text::of(text.as_bytes())))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// Checks a text that comes from the wire. Each value has one spelling there, so a text that would be changed is an error.
            pub(super) fn in_normal_form<E: de::Error>(bytes: &[u8]) -> Result<&[u8], E> {
                if $plain(bytes) {
                    return Ok(bytes);
                }
                let text = core::str::from_utf8(bytes).map_err(E::custom)?;
                let normal = Self::CHECK(text).map_err(E::custom)?;
                if normal == text { Ok(bytes) } else { Err(E::custom("the text is not in its normal form")) }
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        /// It is equal, ordered and hashed as its text.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;

            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl core::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(stringify!($name))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::in_normal_form(text.as_bytes()).map(|text| $name(Text::of(text)))
                    }
                }
                from.deserialize_str(Visitor)
            }
        }
    };
}

mod address;
mod text;

pub use address::Address;

use self::text::Text;

text! {
    /// The name of a node: 1 to 64 bytes, ordered bytewise. It has no control characters, no invisible ones, and no white space
    /// at its ends. Of voters with the same priority, the one with the lowest id is preferred as master.
    NodeId, is_plain_name, |text| match name_problem(text) {
        None => Ok(text.into()),
        Some(problem) => Err(IdError::NodeId { id: text.to_owned(), problem }),
    }
}

text! {
    /// The name of a cluster: 1 to 64 bytes. It has no control characters, no invisible ones, and no white space at its ends.
    /// Nodes of clusters with different names never work together.
    ///
    /// ```
    /// use formation_core::ClusterName;
    ///
    /// assert_eq!(ClusterName::new("orders")?.as_str(), "orders");
    /// assert!(ClusterName::new(" orders").is_err());
    /// # Ok::<(), formation_core::IdError>(())
    /// ```
    ClusterName, is_plain_name, |text| match name_problem(text) {
        None => Ok(text.into()),
        Some(problem) => Err(IdError::Cluster { name: text.to_owned(), problem }),
    }
}

text! {
    /// The name under which a node takes streams: 1 to 64 bytes. It has no control characters, no invisible ones, and no white space at
    /// its ends.
    ///
    /// ```
    /// use formation_core::StreamName;
    ///
    /// assert_eq!(StreamName::new("kv")?.as_str(), "kv");
    /// assert!(StreamName::new("").is_err());
    /// # Ok::<(), formation_core::IdError>(())
    /// ```
    StreamName, is_plain_name, |text| match name_problem(text) {
        None => Ok(text.into()),
        Some(problem) => Err(IdError::Stream { name: text.to_owned(), problem }),
    }
}

impl StreamName {
    /// The name that these bytes on the wire are.
    pub(crate) fn from_wire(name: &[u8]) -> Option<Self> {
        Self::new(core::str::from_utf8(name).ok()?).ok()
    }
}

impl NodeId {
    /// The id as it is on the wire.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The id that this text on the wire is.
    pub(crate) fn from_wire<E: de::Error>(text: &[u8]) -> Result<Self, E> {
        Self::in_normal_form(text).map(|text| Self(Text::of(text)))
    }

    /// The id and the address of one node, from the wire. They need one allocation at most.
    pub(crate) fn with_address_from_wire<E: de::Error>(id: &[u8], address: &[u8]) -> Result<(Self, Address), E> {
        let (id, address) = Text::pair(Self::in_normal_form(id)?, Address::in_normal_form(address)?);
        Ok((Self(id), Address::of(address)))
    }
}

/// Whether a text is a name of the usual kind. A view has many names.
fn is_plain_name(name: &[u8]) -> bool {
    (1..=64).contains(&name.len()) && each_is(GRAPHIC, name)
}

/// What is wrong with the name of a node, a cluster or a stream. People read names, and programs write them into logs.
fn name_problem(name: &str) -> Option<&'static str> {
    match name.len() {
        0 => return Some("it is empty"),
        1..=64 => {}
        _ => return Some("it has more than 64 bytes"),
    }
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return Some("it begins or ends with white space");
    }
    hidden(name)
}

/// A byte that is seen: ASCII without white space and control characters.
const GRAPHIC: u8 = 1;
/// A byte of a host that is a name, in its normal form, or of an IPv4 address.
const HOST: u8 = 2;
const DIGIT: u8 = 4;

/// The kinds of each byte. A view has many texts, so one look at each byte has to do.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let is_host = matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        kinds[byte as usize] = if byte.is_ascii_graphic() { GRAPHIC } else { 0 }
            | if is_host { HOST } else { 0 }
            | if byte.is_ascii_digit() { DIGIT } else { 0 };
        byte += 1;
    }
    kinds
};

/// Whether each of these bytes is of this kind.
fn each_is(kind: u8, bytes: &[u8]) -> bool {
    bytes.iter().fold(kind, |all, byte| all & KINDS[usize::from(*byte)]) != 0
}

/// What a reader of this text would not see.
fn hidden(text: &str) -> Option<&'static str> {
    if text.contains(char::is_control) {
        return Some("it has a control character");
    }
    text.contains(is_invisible).then_some("it has an invisible character or a mark for the direction of writing")
}

/// Whether a character is invisible: the default ignorable code points of Unicode, among them the bidirectional controls, the
/// separators of lines and paragraphs, and the annotation marks.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The number of one run of a node. It is larger at each start, for example the wall clock in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of a node. Votes, promises and links name its incarnation too, so a restarted node is a *different* one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Node {
    /// The name of the node.
    pub id: NodeId,
    /// The run of the node.
    pub incarnation: Incarnation,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.id, self.incarnation.0)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A number that grows with every election. It is a fencing token: see [`Leadership`](crate::Leadership).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term(pub u64);

impl Term {
    /// The term after this one.
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one view: the term of the master that wrote it, and the number of its change within that term. View ids are
/// compared in this order.
///
/// ```
/// use formation_core::{Term, ViewId};
///
/// let (old, new) = (ViewId { term: Term(3), version: 12 }, ViewId { term: Term(4), version: 1 });
/// assert!(old < new, "a view of a later term is newer");
/// assert_eq!(new.to_string(), "4.1");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewId {
    /// The term of the master that wrote the view.
    pub term: Term,
    /// The number of the change within the term. The first view of a term has version 1.
    pub version: u64,
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.version)
    }
}

/// The number of a connection. The embedder chooses it: each one is larger than all before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnId(pub u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a dial. The core chooses it, and never uses it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DialId(pub u64);

impl fmt::Display for DialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a stream that this node opens. The embedder chooses it: each one is larger than all before.
///
/// ```
/// use formation_core::StreamId;
///
/// assert!(StreamId(2) > StreamId(1));
/// assert_eq!(StreamId(2).to_string(), "2");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A digest of the seed list: 128-bit FNV-1a over the sorted, deduplicated addresses, each followed by a line feed
/// (PROTOCOL.md, H6). Nodes with different digests never work together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ElectorateDigest(pub [u8; 16]);

impl ElectorateDigest {
    pub(crate) fn of(seeds: &BTreeSet<Address>) -> Self {
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let bytes = seeds.iter().flat_map(|seed| seed.as_str().bytes().chain([b'\n']));
        Self(bytes.fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)).to_be_bytes())
    }
}

impl fmt::Display for ElectorateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ElectorateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A digest of the members of a view: the first 16 bytes of SHA-256 over each member as it is on the wire, in the order of
/// their ids (PROTOCOL.md, V9). Nobody can write two different views with one digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewDigest(pub [u8; 16]);

impl fmt::Display for ViewDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ViewDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString};

    use super::*;

    fn seeds(list: &[&str]) -> BTreeSet<Address> {
        list.iter().map(|a| Address::new(a).unwrap()).collect()
    }

    #[test]
    fn node_ids_have_a_limit_and_are_ordered_bytewise() {
        assert!(NodeId::new("").is_err());
        assert!(NodeId::new("x".repeat(64)).is_ok());
        assert!(NodeId::new("x".repeat(65)).unwrap_err().to_string().contains("more than 64 bytes"));
        assert!(NodeId::new("B").unwrap() < NodeId::new("a").unwrap());
        assert!(NodeId::new("node-10").unwrap() < NodeId::new("node-9").unwrap());
    }

    /// A name with a line feed would forge a line of a log, and others would be taken for a name that they only look like.
    #[test]
    fn what_a_reader_would_not_see_is_no_part_of_a_name() {
        let control = "control character";
        let invisible = "invisible character";
        for (text, why) in [
            ("", "empty"),
            (" a", "white space"),
            ("a\u{a0}", "white space"),
            ("a\nINFO forged", control),
            ("a\u{1b}[31m", control),
            ("a\u{7f}b", control),
            ("a\u{9b}b", control),
            ("a\0b", control),
            ("a\u{202e}b", invisible),
            ("a\u{2066}b", invisible),
            ("a\u{200b}b", invisible),
            ("\u{feff}a", invisible),
            ("a\u{2028}b", invisible),
            ("a\u{e0041}b", invisible),
        ] {
            let is_named = |error: &str| error.contains(why) && !error.contains(char::is_control);
            let error = NodeId::new(text).unwrap_err().to_string();
            assert!(is_named(&error), "{error}");
            let error = ClusterName::new(text).unwrap_err().to_string();
            assert!(is_named(&error), "{error}");
            let bytes = postcard::to_allocvec(text).unwrap();
            assert!(postcard::from_bytes::<NodeId>(&bytes).is_err(), "{text:?} from the wire");
            assert!(postcard::from_bytes::<ClusterName>(&bytes).is_err(), "{text:?} from the wire");
            if why == control || why == invisible {
                let address = format!("a{}:1", text.replace(char::is_whitespace, "\u{1}"));
                assert!(Address::new(&address).is_err(), "{address:?}");
                let bytes = postcard::to_allocvec(&address).unwrap();
                assert!(postcard::from_bytes::<Address>(&bytes).is_err(), "{address:?} from the wire");
            }
        }
        for text in ["node 1", "sõlm-ä", "узел", "节点", "עכבר", "a\u{301}"] {
            assert_eq!(NodeId::new(text).unwrap().as_str(), text);
            assert!(ClusterName::new(text).is_ok());
        }
    }

    #[test]
    fn the_digest_depends_only_on_the_set_of_seeds() {
        let digest = ElectorateDigest::of(&seeds(&["a:1", "b:2"]));
        assert_eq!(digest, ElectorateDigest::of(&seeds(&["B:2", "a:1", "b:2 "])));
        assert_ne!(digest, ElectorateDigest::of(&seeds(&["a:1"])));
        assert_ne!(digest, ElectorateDigest::of(&seeds(&["a:1", "b:3"])));
    }

    #[test]
    fn nodes_view_ids_and_digests_are_displayed_as_one_word() {
        let node = Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(7) };
        assert_eq!((node.to_string(), format!("{node:?}")), ("a#7".into(), "a#7".into()));
        assert_eq!(ViewId { term: Term(3), version: 12 }.to_string(), "3.12");
        assert_eq!((Term(3).to_string(), ConnId(4).to_string()), ("3".into(), "4".into()));
        let digest = ElectorateDigest(core::array::from_fn(|at| at as u8));
        assert_eq!(format!("{digest:?}"), "000102030405060708090a0b0c0d0e0f");
    }

    #[test]
    fn names_from_the_wire_are_checked_too() {
        let bytes = postcard::to_allocvec("Host:1").unwrap();
        assert!(postcard::from_bytes::<Address>(&bytes).is_err());
        assert!(postcard::from_bytes::<NodeId>(&bytes).is_ok());
        assert!(postcard::from_bytes::<NodeId>(&[0]).is_err());
    }
}
