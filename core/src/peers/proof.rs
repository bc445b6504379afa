//! The cluster key (PROTOCOL.md, H7 and H8). On each connection, a node proves that it has the key, without sending it.

use alloc::{string::String, vec::Vec};
use core::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    api::input::Origin,
    wire::message::{Extension, Hello, Proof},
    wire::stream::LinkTag,
};

/// The most keys of a node: the key in use, and the key that is to replace it.
pub(crate) const MAX_KEYS: usize = 2;

/// The shortest and the longest key, in bytes. The shortest has 128 bits.
pub(crate) const KEY_LEN: (usize, usize) = (16, 1024);

/// The length of a key's id in bytes.
pub(crate) const ID_LEN: usize = 8;

// No label is a prefix of another one, so a code for one purpose is useless for another purpose.
const ID: &[u8] = b"formation key id";
const NONCE: &[u8] = b"formation nonce";
const LINK_TAG: &[u8] = b"formation link tag";

/// A secret that all nodes of a cluster share: 16 to 1024 bytes. 32 random bytes are best. An attacker who has recorded one
/// handshake can test guesses of the key, as many as they like.
///
/// The key is never displayed: not by `Debug`, and not in a serialized configuration. Its memory is overwritten when it is
/// dropped. Every byte counts. If the key is read
/// from a file, a line feed at the end of the file is a part of the key.
///
/// [`ConfigBuilder::key`](crate::ConfigBuilder::key) says how to change the key while the cluster runs.
///
/// ```
/// use formation_core::{ClusterKey, Config};
///
/// let key = ClusterKey::new(*b"32 random bytes from a safe file");
/// assert!(!format!("{key:?}").contains("random"));
/// let config = Config::single("orders", "node-a", "127.0.0.1:7000").key(key.clone()).build()?;
/// assert_eq!(config.keys(), [key]);
/// # Ok::<(), formation_core::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClusterKey(Vec<u8>);

impl ClusterKey {
    /// A key with these bytes. [`build`](crate::ConfigBuilder::build) checks its length.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn mac(&self, label: &[u8], over: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(label);
        mac.update(over);
        mac
    }

    /// The id of the key, which is sent in `Hello`.
    pub(crate) fn id(&self) -> [u8; ID_LEN] {
        let tag: [u8; 32] = self.mac(ID, &[]).finalize().into_bytes().into();
        core::array::from_fn(|at| tag[at])
    }

    /// A nonce from these random bytes. Nobody without the key can predict the next one, although the generator is
    /// predictable.
    pub(crate) fn nonce(&self, random: [u8; 16]) -> [u8; 16] {
        let tag: [u8; 32] = self.mac(NONCE, &random).finalize().into_bytes().into();
        core::array::from_fn(|at| tag[at])
    }

    /// The proof of the end `side`, over both `Hello`s.
    pub(crate) fn prove(&self, side: Side, hellos: &[u8]) -> Proof {
        Proof { mac: self.mac(side.label(), hellos).finalize().into_bytes().into() }
    }

    /// Whether the end `side` has this key. The time does not depend on the proof.
    pub(crate) fn is_proven(&self, side: Side, hellos: &[u8], proof: &Proof) -> bool {
        self.mac(side.label(), hellos).verify_slice(&proof.mac).is_ok()
    }
}

impl Zeroize for ClusterKey {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl Drop for ClusterKey {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for ClusterKey {}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(hidden)")
    }
}

impl From<Vec<u8>> for ClusterKey {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<String> for ClusterKey {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&[u8]> for ClusterKey {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for ClusterKey {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl<const N: usize> From<[u8; N]> for ClusterKey {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes.into())
    }
}

impl<const N: usize> From<&[u8; N]> for ClusterKey {
    fn from(bytes: &[u8; N]) -> Self {
        Self(bytes[..].into())
    }
}

/// The extension of a `Hello` that has the ids of the sender's keys. It is empty without a key.
pub(crate) fn announcement(keys: &[ClusterKey]) -> BytesMut {
    let mut out = BytesMut::new();
    if !keys.is_empty() {
        out.put_u8(Extension::Keys as u8);
        out.put_u8((keys.len() * ID_LEN) as u8);
        keys.iter().for_each(|key| out.put_slice(&key.id()));
    }
    out
}

/// What shows that the node which opens a stream has a link to this node (S4). `link_nonce`: the nonce of the accepting node's `Hello` on
/// that link, which nobody else knows. `nonce`: that of the `Hello` that opens the stream. The tag is of no use for another stream, and
/// whoever sees it does not learn the nonce of the link, which could prove an identity (H11).
pub(crate) fn link_tag(link_nonce: &[u8; 16], nonce: &[u8; 16]) -> LinkTag {
    let mut mac = Hmac::<Sha256>::new_from_slice(link_nonce).expect("HMAC takes a key of any length");
    mac.update(LINK_TAG);
    mac.update(nonce);
    let tag: [u8; 32] = mac.finalize().into_bytes().into();
    core::array::from_fn(|at| tag[at])
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialing,
    Accepting,
}

impl Side {
    pub(crate) fn of(origin: Origin) -> Self {
        match origin {
            Origin::Dialed(_) => Self::Dialing,
            Origin::Accepted => Self::Accepting,
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Dialing => Self::Accepting,
            Self::Accepting => Self::Dialing,
        }
    }

    /// The labels differ, so a node's own proof is rejected when it comes back.
    fn label(self) -> &'static [u8] {
        match self {
            Self::Dialing => b"formation proof: dialing",
            Self::Accepting => b"formation proof: accepting",
        }
    }
}

/// The nodes have no key in common, or only one of them has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch;

/// The key of this connection, as its place in `keys`: the first key of the dialing node that the accepting node has too. Both ends
/// find the same one.
/// `None` if neither end has a key.
pub(crate) fn common(keys: &[ClusterKey], own: Side, peer: &Hello) -> Result<Option<usize>, Mismatch> {
    let announced = match (keys, peer.extension(Extension::Keys)) {
        ([], None) => return Ok(None),
        ([], Some(_)) | (_, None) => return Err(Mismatch),
        (_, Some(announced)) => announced,
    };
    let (theirs, _) = announced.as_chunks::<ID_LEN>();
    let found = match own {
        Side::Dialing => keys.iter().position(|key| theirs.contains(&key.id())),
        Side::Accepting => theirs.iter().find_map(|id| keys.iter().position(|key| key.id() == *id)),
    };
    found.map(Some).ok_or(Mismatch)
}

/// What a proof covers (H8): the two `Hello` frames as they were on the wire, the one of the dialing node first. Both have
/// a new nonce, so the proof of another connection is rejected.
pub(crate) fn hellos(side: Side, own: &[u8], peer_body: &[u8]) -> Bytes {
    let length = (peer_body.len() as u32).to_be_bytes();
    match side {
        Side::Dialing => [own, &length, peer_body].concat(),
        Side::Accepting => [&length, peer_body, own].concat(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect()
    }

    fn key() -> ClusterKey {
        ClusterKey::from("sixteen bytes at least")
    }

    /// The codes come from another implementation of HMAC-SHA256, according to PROTOCOL.md.
    #[test]
    fn h8_codes_have_the_bytes_of_the_format() {
        let covered = hellos(Side::Accepting, b"\0\0\0\x02de", b"abc");
        assert_eq!(covered, b"\0\0\0\x03abc\0\0\0\x02de"[..]);
        assert_eq!(covered, hellos(Side::Dialing, b"\0\0\0\x03abc", b"de"), "both ends cover the same");
        let proof = |side| hex(&key().prove(side, &covered).mac);
        assert_eq!(proof(Side::Dialing), "61014afb5daf0d09b917e3e950acac15dae1a3b40d4f1f93561323a501852196");
        assert_eq!(proof(Side::Accepting), "0110afec299601617137c4c6de92decd3097b18e0da14c8a64bdc3bdbac4c1ab");
        assert_eq!(hex(&announcement(&[key()])), "01081350b73864e49eca");
        assert_eq!(announcement(&[]), b""[..]);
        assert_eq!(hex(&key().nonce(core::array::from_fn(|n| n as u8))), "92a741d0ccf5f59256b348f7da68fba1");
    }

    #[test]
    fn a_dropped_key_is_overwritten() {
        fn is_overwritten<T: ZeroizeOnDrop>() {}
        is_overwritten::<ClusterKey>();
        let mut key = key();
        key.zeroize();
        assert_eq!(key.len(), 0);
    }

    #[test]
    fn h8_a_proof_is_for_one_key_one_direction_and_two_hellos() {
        let proof = key().prove(Side::Dialing, b"both");
        assert!(key().is_proven(Side::Dialing, b"both", &proof));
        assert!(!key().is_proven(Side::Accepting, b"both", &proof));
        assert!(!key().is_proven(Side::Dialing, b"others", &proof));
        assert!(!ClusterKey::from("sixteen bytes or more").is_proven(Side::Dialing, b"both", &proof));
    }

    fn hello_with(keys: &[ClusterKey]) -> Hello {
        use crate::{
            id::{Address, ClusterName, ElectorateDigest, Incarnation, NodeId},
            message,
        };
        Hello {
            magic: message::MAGIC,
            protocol: message::PROTOCOL,
            cluster: ClusterName::new("test").expect("a valid name"),
            electorate: ElectorateDigest([0; 16]),
            id: NodeId::new("a").expect("a valid id"),
            incarnation: Incarnation(1),
            address: Address::new("a:1").expect("a valid address"),
            nonce: [0; 16],
            extensions: announcement(keys).freeze(),
        }
    }

    /// This holds for any keys in any order.
    #[test]
    fn both_ends_choose_the_same_key_in_common() {
        let [old, new, other] = ["the old key of all", "the new key of all", "a key of others"].map(ClusterKey::from);
        let one = [&old, &new, &other].map(|key| Vec::from([key.clone()]));
        let two =
            [[&old, &new], [&new, &old], [&new, &other], [&other, &old]].map(|keys| keys.map(Clone::clone).to_vec());
        let all: Vec<_> = one.into_iter().chain(two).collect();
        for (dialing, accepting) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
            let key = |keys: &[ClusterKey], side, peer: &[ClusterKey]| {
                common(keys, side, &hello_with(peer)).map(|at| at.map(|at| keys[at].clone()))
            };
            let chosen = key(dialing, Side::Dialing, accepting);
            assert_eq!(chosen, key(accepting, Side::Accepting, dialing), "{dialing:?} {accepting:?}");
            let first = dialing.iter().find(|key| accepting.contains(key));
            assert_eq!(chosen, first.cloned().map(Some).ok_or(Mismatch));
        }
        assert_eq!(common(&[], Side::Dialing, &hello_with(&[])), Ok(None));
        assert_eq!(common(&[], Side::Dialing, &hello_with(&all[0])), Err(Mismatch));
        assert_eq!(common(&all[0], Side::Dialing, &hello_with(&[])), Err(Mismatch));
    }
}
