//! Names: of nodes, addresses, clusters, terms, views, connections and dials.

use alloc::{
    borrow::{Cow, ToOwned},
    collections::BTreeSet,
    format,
    string::{String, ToString},
    sync::Arc,
};
use core::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

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
    /// An address is not `host:port`.
    #[error("{address:?} is not an address: {problem}; write it as host:port, for example \"10.0.0.1:7000\"")]
    Address {
        /// The text.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A text in one shared allocation. `$check` checks it, wherever it comes from: the wire too.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text, and brings it into its normal form.
            ///
            /// # Errors
            /// [`IdError`] has the text and says what is wrong with it.
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
                        let name = $name::new(text).map_err(E::custom)?;
                        // Each value has one spelling on the wire, so a text that would be changed is an error.
                        if &*name.0 == text { Ok(name) } else { Err(E::custom("the text is not in its normal form")) }
                    }
                }
                from.deserialize_str(Text)
            }
        }
    };
}

text! {
    /// The name of a node: 1 to 64 bytes, ordered bytewise. It has no control characters, no invisible ones, and no white space
    /// at its ends. The voter with the lowest id is preferred as master.
    NodeId, |text| match name_problem(text) {
        None => Ok(text.into()),
        Some(problem) => Err(IdError::NodeId { id: text.to_owned(), problem }),
    }
}

text! {
    /// The name of a cluster: 1 to 64 bytes. It has no control characters, no invisible ones, and no white space at its ends.
    /// Nodes of clusters with different names never work together.
    ClusterName, |text| match name_problem(text) {
        None => Ok(text.into()),
        Some(problem) => Err(IdError::Cluster { name: text.to_owned(), problem }),
    }
}

text! {
    /// `host:port` text that other nodes can dial. In its normal form it is trimmed, the host is in lower case, the port has no
    /// leading zeros, and an IP address has the form of RFC 5952, without IPv4 in IPv6. The core does not interpret it further. It
    /// has at most 259 bytes: a DNS name of 253, a colon and a port. The host has no white space, no control characters and no
    /// invisible ones.
    Address, |text| {
        let fail = |problem| Err(IdError::Address { address: text.to_owned(), problem });
        let trimmed = text.trim();
        let Some((host, port)) = trimmed.rsplit_once(':') else { return fail("it has no port") };
        if trimmed.parse::<Ipv6Addr>().is_ok() {
            return fail("an IPv6 host needs brackets");
        }
        if let Some(problem) = host_problem(host) {
            return fail(problem);
        }
        let host = normal_host(host);
        let host = &*host;
        let number = if port.bytes().all(|b| b.is_ascii_digit()) { port.parse::<u16>().ok() } else { None };
        match number {
            None | Some(0) => fail("its port is not a number from 1 to 65535"),
            // It is in its normal form already, as all addresses on the wire are.
            Some(_) if trimmed.len() <= 259 && !port.starts_with('0') && host.bytes().all(is_normal) && trimmed.starts_with(host) => {
                Ok(trimmed.into())
            }
            Some(number) => match format!("{}:{number}", host.to_lowercase()) {
                // Some letters are longer in lower case. The limit is for the normal form, because that is sent to other
                // nodes.
                long if long.len() > 259 => fail("it is longer than 259 bytes"),
                address => Ok(address.into()),
            },
        }
    }
}

impl Address {
    /// Whether the host is an IP address that means every address of a machine.
    pub(crate) fn is_unspecified(&self) -> bool {
        let host = self.0.rsplit_once(':').map_or("", |(host, _)| host);
        ip(host).is_some_and(|ip| ip.is_unspecified())
    }
}

/// The IP address that is this host, if it is one.
fn ip(host: &str) -> Option<IpAddr> {
    match bracketed(host) {
        Some(host) => host.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

fn bracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// The one form of an IP address. A name is left as it is.
fn normal_host(host: &str) -> Cow<'_, str> {
    match ip(host).map(|ip| ip.to_canonical()) {
        None => host.into(),
        Some(IpAddr::V4(ip)) => ip.to_string().into(),
        Some(IpAddr::V6(ip)) => format!("[{ip}]").into(),
    }
}

/// What is wrong with the host of an address.
fn host_problem(host: &str) -> Option<&'static str> {
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Some("its host is empty or has white space");
    }
    if let Some(problem) = hidden(host) {
        return Some(problem);
    }
    if host.contains('/') {
        return Some("it has a scheme or a path; write host:port only");
    }
    if let Some(inner) = bracketed(host) {
        return match ip(host) {
            Some(_) => None,
            None if inner.contains('%') => Some("an IPv6 zone means nothing on another machine"),
            None => Some("only an IPv6 address has brackets"),
        };
    }
    if host.contains(['[', ']']) {
        return Some("its brackets do not enclose the host");
    }
    if host.contains(':') {
        let is_ipv6 = host.parse::<Ipv6Addr>().is_ok();
        return Some(if is_ipv6 { "an IPv6 host needs brackets" } else { "it has several ports" });
    }
    let is_number = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    let looks_like_ipv4 = host.contains('.') && host.rsplit('.').next().is_some_and(is_number);
    (looks_like_ipv4 && ip(host).is_none()).then_some("it looks like an IPv4 address, and is none")
}

/// What is wrong with the name of a node or a cluster. People read names, and programs write them into logs.
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

/// Whether a byte of a host stays the same in lower case.
fn is_normal(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_uppercase()
}

/// The number of one run of a node. It is larger at each start, for example the wall clock in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

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

impl fmt::Debug for ElectorateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A digest of the members of a view: the first 16 bytes of SHA-256 over each member as it is on the wire, in the order of
/// their ids (PROTOCOL.md, V9). Nobody can write two different views with one digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewDigest(pub [u8; 16]);

impl fmt::Debug for ViewDigest {
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
    fn node_ids_have_a_limit_and_are_ordered_bytewise() {
        assert!(NodeId::new("").is_err());
        assert!(NodeId::new("x".repeat(64)).is_ok());
        assert!(NodeId::new("x".repeat(65)).unwrap_err().to_string().contains("more than 64 bytes"));
        assert!(NodeId::new("B").unwrap() < NodeId::new("a").unwrap());
        assert!(NodeId::new("node-10").unwrap() < NodeId::new("node-9").unwrap());
    }

    #[test]
    fn addresses_are_normalized_or_refused_with_a_reason() {
        assert_eq!(Address::new(" Host.Example:7000 ").unwrap().as_str(), "host.example:7000");
        assert_eq!(Address::new("[::1]:80").unwrap().as_str(), "[::1]:80");
        assert_eq!(Address::new("h:07000").unwrap(), Address::new("h:7000").unwrap());
        for (bad, why) in [
            ("host", "no port"),
            (":80", "host is empty"),
            ("a b:80", "white space"),
            ("::1:80", "brackets"),
            ("fe80::1", "brackets"),
            ("2001:db8:0:0:0:0:0:1:80", "brackets"),
            ("[h]:80", "only an IPv6 address has brackets"),
            ("[10.0.0.1]:80", "only an IPv6 address has brackets"),
            ("[fe80::1%eth0]:80", "zone"),
            ("h]:80", "brackets"),
            ("http://h:80", "scheme"),
            ("h/a:80", "scheme or a path"),
            ("h:80:81", "several ports"),
            ("10.0.0.256:80", "looks like an IPv4"),
            ("10.0.0.01:80", "looks like an IPv4"),
            ("10.1:80", "looks like an IPv4"),
            ("h:0", "1 to 65535"),
            ("h:65536", "1 to 65535"),
            ("h:+1", "1 to 65535"),
            ("h:", "1 to 65535"),
        ] {
            let error = Address::new(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(Address::new(format!("{}:1", "h".repeat(258))).is_err());
    }

    #[test]
    fn an_ip_address_has_one_normal_form() {
        for (text, normal) in [
            ("[0:0:0:0:0:0:0:1]:80", "[::1]:80"),
            ("[2001:DB8::0:1]:080", "[2001:db8::1]:80"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            ("[::ffff:a00:1]:80", "10.0.0.1:80"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("host-1.2a:80", "host-1.2a:80"),
            ("7:80", "7:80"),
        ] {
            let address = Address::new(text).unwrap();
            assert_eq!(address.as_str(), normal);
            let bytes = postcard::to_allocvec(text).unwrap();
            assert_eq!(postcard::from_bytes::<Address>(&bytes).is_ok(), text == normal, "{text} from the wire");
        }
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

    /// Some letters are longer in lower case, and peers check the address that they receive.
    #[test]
    fn every_valid_address_is_valid_on_the_wire() {
        for letter in ["h", "\u{130}", "\u{23a}"] {
            for count in 1..=260 {
                let Ok(address) = Address::new(format!("{}:1", letter.repeat(count))) else { continue };
                let bytes = postcard::to_allocvec(&address).unwrap();
                assert_eq!(postcard::from_bytes(&bytes), Ok(address), "{count} times {letter}");
            }
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
