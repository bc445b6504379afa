//! The names of things: nodes, addresses, terms, view ids, connections.

use alloc::{borrow::ToOwned, collections::BTreeSet, format, string::String, sync::Arc};
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A name or address that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// A node id of no bytes, or of more than 64.
    #[error("a node id has 1 to 64 bytes, but {id:?} has {len}; choose a shorter, non-empty name", len = id.len())]
    NodeId {
        /// The text that was given.
        id: String,
    },
    /// A cluster name of no bytes, or of more than 64.
    #[error("a cluster name has 1 to 64 bytes, but {name:?} has {len}; choose a shorter, non-empty name", len = name.len())]
    Cluster {
        /// The text that was given.
        name: String,
    },
    /// Not `host:port`.
    #[error("{address:?} is not an address: {problem}; write it as host:port, for example \"10.0.0.1:7000\"")]
    Address {
        /// The text that was given.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A text in one shared allocation, checked by `$check` wherever it comes from, the wire included.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// [`IdError`] says what was wrong with it, and with which text.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let check: fn(&str) -> Result<Arc<str>, IdError> = $check;
                check(text.as_ref()).map(Self)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
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
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(stringify!($name))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        let made = $name::new(text).map_err(E::custom)?;
                        // One spelling on the wire: what would be rewritten is refused.
                        if &*made.0 == text { Ok(made) } else { Err(E::custom("not in its normal form")) }
                    }
                }
                from.deserialize_str(Text)
            }
        }
    };
}

text! {
    /// A node's name: 1 to 64 bytes, ordered bytewise. The lowest id is preferred as master.
    NodeId, |text| match text.len() {
        1..=64 => Ok(text.into()),
        _ => Err(IdError::NodeId { id: text.to_owned() }),
    }
}

text! {
    /// The name of a cluster, 1 to 64 bytes. Nodes of different names never work together.
    ClusterName, |text| match text.len() {
        1..=64 => Ok(text.into()),
        _ => Err(IdError::Cluster { name: text.to_owned() }),
    }
}

text! {
    /// `host:port` that other nodes can dial: trimmed, its host in lower case, its port without leading zeros, otherwise opaque to the core.
    /// At most 259 bytes (a DNS name of 253, a colon and a port).
    Address, |text| {
        let fail = |problem| Err(IdError::Address { address: text.to_owned(), problem });
        let trimmed = text.trim();
        let Some((host, port)) = trimmed.rsplit_once(':') else { return fail("it has no port") };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return fail("its host is empty or has blanks");
        }
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return fail("an IPv6 host stands in brackets");
        }
        let number = if port.bytes().all(|b| b.is_ascii_digit()) { port.parse::<u16>().ok() } else { None };
        match number {
            None | Some(0) => fail("its port is not a number from 1 to 65535"),
            // In its normal form already, as they all are on the wire.
            Some(_) if trimmed.len() <= 259 && !port.starts_with('0') && host.bytes().all(is_normal) => Ok(trimmed.into()),
            Some(number) => match format!("{}:{number}", host.to_lowercase()) {
                // In its normal form, in which some letters are longer: it is the one that others are told.
                long if long.len() > 259 => fail("it is longer than 259 bytes"),
                address => Ok(address.into()),
            },
        }
    }
}

/// A byte of a host that no lower case changes.
fn is_normal(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_uppercase()
}

/// Tells the runs of one node apart: larger at each start, for example the wall clock in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// One running instance. Votes, promises and links name the incarnation too: a restarted node is *another*.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Which of its runs.
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

/// Grows with every election; a fencing token.
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

/// What identifies a view: the term of the master that wrote it, and that master's count of changes, compared in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewId {
    /// The term of the master that wrote the view.
    pub term: Term,
    /// One more with each change within the term.
    pub version: u64,
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.version)
    }
}

/// A connection, named by the host. Never reused: each is larger than any before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnId(pub u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A dial, named by the core. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DialId(pub u64);

/// A digest of the sorted, deduplicated seed list: 128-bit FNV-1a over each address and a line feed.
/// Nodes whose digests differ never work together.
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

impl fmt::Debug for ElectorateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn seeds(list: &[&str]) -> BTreeSet<Address> {
        list.iter().map(|a| Address::new(a).unwrap()).collect()
    }

    #[test]
    fn node_ids_are_bounded_and_ordered_bytewise() {
        assert!(NodeId::new("").is_err());
        assert!(NodeId::new("x".repeat(64)).is_ok());
        assert!(NodeId::new("x".repeat(65)).unwrap_err().to_string().contains("has 65"));
        assert!(NodeId::new("B").unwrap() < NodeId::new("a").unwrap());
        assert!(NodeId::new("node-10").unwrap() < NodeId::new("node-9").unwrap());
    }

    #[test]
    fn addresses_are_trimmed_and_lowered_and_refused_with_a_reason() {
        assert_eq!(Address::new(" Host.Example:7000 ").unwrap().as_str(), "host.example:7000");
        assert_eq!(Address::new("[::1]:80").unwrap().as_str(), "[::1]:80");
        assert_eq!(Address::new("h:07000").unwrap(), Address::new("h:7000").unwrap());
        for (bad, why) in [
            ("host", "no port"),
            (":80", "host is empty"),
            ("a b:80", "blanks"),
            ("::1:80", "brackets"),
            ("h:0", "1 to 65535"),
            ("h:65536", "1 to 65535"),
            ("h:+1", "1 to 65535"),
            ("h:", "1 to 65535"),
        ] {
            let said = Address::new(bad).unwrap_err().to_string();
            assert!(said.contains(why), "{bad}: {said}");
        }
        assert!(Address::new(format!("{}:1", "h".repeat(258))).is_err());
    }

    /// Some letters are longer in lower case, and peers judge the address that they are told.
    #[test]
    fn what_is_an_address_here_is_one_on_the_wire() {
        for letter in ["h", "\u{130}", "\u{23a}"] {
            for count in 1..=260 {
                let Ok(address) = Address::new(format!("{}:1", letter.repeat(count))) else { continue };
                let bytes = postcard::to_allocvec(&address).unwrap();
                assert_eq!(postcard::from_bytes(&bytes), Ok(address), "{count} times {letter}");
            }
        }
    }

    #[test]
    fn the_digest_depends_on_the_set_alone() {
        let digest = ElectorateDigest::of(&seeds(&["a:1", "b:2"]));
        assert_eq!(digest, ElectorateDigest::of(&seeds(&["B:2", "a:1", "b:2 "])));
        assert_ne!(digest, ElectorateDigest::of(&seeds(&["a:1"])));
        assert_ne!(digest, ElectorateDigest::of(&seeds(&["a:1", "b:3"])));
    }

    #[test]
    fn a_run_of_a_node_an_view_id_and_a_digest_are_shown_as_one_word_each() {
        let node = Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(7) };
        assert_eq!((node.to_string(), format!("{node:?}")), ("a#7".into(), "a#7".into()));
        assert_eq!(ViewId { term: Term(3), version: 12 }.to_string(), "3.12");
        assert_eq!((Term(3).to_string(), ConnId(4).to_string()), ("3".into(), "4".into()));
        let digest = ElectorateDigest(core::array::from_fn(|at| at as u8));
        assert_eq!(format!("{digest:?}"), "000102030405060708090a0b0c0d0e0f");
    }

    #[test]
    fn a_name_from_the_wire_is_checked_like_any_other() {
        let bytes = postcard::to_allocvec("Host:1").unwrap();
        assert!(postcard::from_bytes::<Address>(&bytes).is_err());
        assert!(postcard::from_bytes::<NodeId>(&bytes).is_ok());
        assert!(postcard::from_bytes::<NodeId>(&[0]).is_err());
    }
}
