//! The cluster key: whoever holds it proves so on each connection, without showing it (PROTOCOL.md, "The cluster key").

use alloc::{string::String, vec::Vec};
use core::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{
    api::interface::Origin,
    wire::message::{Extension, Hello, Proof},
};

/// The key in use, and the one that is to replace it.
pub(crate) const MAX_KEYS: usize = 2;

/// From 128 bits of chance to more than anybody needs, in bytes.
pub(crate) const KEY_LEN: (usize, usize) = (16, 1024);

const ID_LEN: usize = 8;

// No label is the beginning of another, so nothing that is computed for one purpose serves another.
const ID: &[u8] = b"formation key id";
const NONCE: &[u8] = b"formation nonce";

/// A secret that all nodes of a cluster share: 16 to 1024 bytes, best 32 of pure chance, since whoever has seen one handshake
/// can try out guesses at leisure.
///
/// It is never shown: not by `Debug`, and not in a serialized configuration. The bytes count as they are, so a file's last
/// line feed is a part of the key that is read from it.
///
/// To change the key while the cluster runs, give every node [both](crate::ConfigBuilder::key), one node after the other, and
/// then take the old one away from each in the same manner. Two nodes with a key in common work together.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClusterKey(Vec<u8>);

impl ClusterKey {
    /// A key of these bytes. Its length is judged by [`build`](crate::ConfigBuilder::build).
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

    fn id(&self) -> [u8; ID_LEN] {
        let tag: [u8; 32] = self.mac(ID, &[]).finalize().into_bytes().into();
        core::array::from_fn(|at| tag[at])
    }

    /// What was drawn, made unpredictable to whoever lacks the key: the generator's next numbers follow from its last.
    pub(crate) fn nonce(&self, drawn: [u8; 16]) -> [u8; 16] {
        let tag: [u8; 32] = self.mac(NONCE, &drawn).finalize().into_bytes().into();
        core::array::from_fn(|at| tag[at])
    }

    /// The proof of one end.
    pub(crate) fn prove(&self, side: Side, hellos: &[u8]) -> Proof {
        Proof { mac: self.mac(side.label(), hellos).finalize().into_bytes().into() }
    }

    /// Whether that end has this key, judged in the same time whatever is wrong.
    pub(crate) fn is_proven(&self, side: Side, hellos: &[u8], proof: &Proof) -> bool {
        self.mac(side.label(), hellos).verify_slice(&proof.mac).is_ok()
    }
}

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

/// What a `Hello` says of the keys that its sender holds; nothing without one.
pub(crate) fn announcement(keys: &[ClusterKey]) -> Bytes {
    let mut out = BytesMut::new();
    if !keys.is_empty() {
        out.put_u8(Extension::Keys as u8);
        out.put_u8((keys.len() * ID_LEN) as u8);
        keys.iter().for_each(|key| out.put_slice(&key.id()));
    }
    out.freeze()
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

    /// The labels differ, so a proof that comes back to where it came from proves nothing.
    fn label(self) -> &'static [u8] {
        match self {
            Self::Dialing => b"formation proof: dialing",
            Self::Accepting => b"formation proof: accepting",
        }
    }
}

/// No key is common to both, or only one of them has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch;

/// Which of this node's keys a connection is proven with; `None` where neither end has one. Both ends come to the same: it
/// is the first of the dialing node's that the other has, too.
pub(crate) fn common<'a>(keys: &'a [ClusterKey], own: Side, peer: &Hello) -> Result<Option<&'a ClusterKey>, Mismatch> {
    let announced = match (keys, peer.extension(Extension::Keys)) {
        ([], None) => return Ok(None),
        ([], Some(_)) | (_, None) => return Err(Mismatch),
        (_, Some(announced)) => announced,
    };
    let (theirs, _) = announced.as_chunks::<ID_LEN>();
    let found = match own {
        Side::Dialing => keys.iter().find(|key| theirs.contains(&key.id())),
        Side::Accepting => theirs.iter().find_map(|id| keys.iter().find(|key| key.id() == *id)),
    };
    found.map(Some).ok_or(Mismatch)
}

/// What both ends prove themselves over: the two hellos as they were on the wire, that of the dialing node first. Each has a
/// nonce that is new, so a proof of another connection proves nothing.
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

    /// Computed by another implementation of HMAC-SHA256, from what PROTOCOL.md says.
    #[test]
    fn what_is_computed_with_a_key_are_the_bytes_of_the_format() {
        let said = hellos(Side::Accepting, b"\0\0\0\x02de", b"abc");
        assert_eq!(said, b"\0\0\0\x03abc\0\0\0\x02de"[..]);
        assert_eq!(said, hellos(Side::Dialing, b"\0\0\0\x03abc", b"de"), "both ends mean the same");
        let proof = |side| hex(&key().prove(side, &said).mac);
        assert_eq!(proof(Side::Dialing), "61014afb5daf0d09b917e3e950acac15dae1a3b40d4f1f93561323a501852196");
        assert_eq!(proof(Side::Accepting), "0110afec299601617137c4c6de92decd3097b18e0da14c8a64bdc3bdbac4c1ab");
        assert_eq!(hex(&announcement(&[key()])), "01081350b73864e49eca");
        assert_eq!(announcement(&[]), b""[..]);
        assert_eq!(hex(&key().nonce(core::array::from_fn(|n| n as u8))), "92a741d0ccf5f59256b348f7da68fba1");
    }

    #[test]
    fn a_proof_holds_for_its_key_its_direction_and_its_hellos_only() {
        let proof = key().prove(Side::Dialing, b"both");
        assert!(key().is_proven(Side::Dialing, b"both", &proof));
        assert!(!key().is_proven(Side::Accepting, b"both", &proof));
        assert!(!key().is_proven(Side::Dialing, b"others", &proof));
        assert!(!ClusterKey::from("sixteen bytes or more").is_proven(Side::Dialing, b"both", &proof));
    }

    fn said_by(keys: &[ClusterKey]) -> Hello {
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
            extensions: announcement(keys),
        }
    }

    /// Whatever keys two nodes hold, and in whatever order.
    #[test]
    fn both_ends_choose_the_same_key_whenever_they_have_one_in_common() {
        let [old, new, other] = ["the old key of all", "the new key of all", "a key of others"].map(ClusterKey::from);
        let one = [&old, &new, &other].map(|key| Vec::from([key.clone()]));
        let two =
            [[&old, &new], [&new, &old], [&new, &other], [&other, &old]].map(|keys| keys.map(Clone::clone).to_vec());
        let held: Vec<_> = one.into_iter().chain(two).collect();
        for (dialing, accepting) in held.iter().flat_map(|a| held.iter().map(move |b| (a, b))) {
            let chosen = common(dialing, Side::Dialing, &said_by(accepting));
            assert_eq!(chosen, common(accepting, Side::Accepting, &said_by(dialing)), "{dialing:?} {accepting:?}");
            let first = dialing.iter().find(|key| accepting.contains(key));
            assert_eq!(chosen, first.map(Some).ok_or(Mismatch));
        }
        assert_eq!(common(&[], Side::Dialing, &said_by(&[])), Ok(None));
        assert_eq!(common(&[], Side::Dialing, &said_by(&held[0])), Err(Mismatch));
        assert_eq!(common(&held[0], Side::Dialing, &said_by(&[])), Err(Mismatch));
    }
}
