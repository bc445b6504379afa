//! Runs of one node that replace each other while both live (PROTOCOL.md, I1).

use alloc::collections::BTreeMap;

use crate::{
    env::Env,
    id::{Incarnation, NodeId},
    peers::{Peer, PeerTable},
    time::Timestamp,
    wire::message::Hello,
};

/// For how many times `down_after` a run that has replaced a linked one keeps its place. By then, a dead one is forgotten.
const KEPT_FOR: u32 = 10;

/// Nodes of which a newer run has replaced a run that was linked, and until when the newer one keeps its place. There are at most as many
/// as there are links.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Replacements(BTreeMap<NodeId, (Incarnation, Timestamp)>);

impl Replacements {
    /// A newer run of the node takes the place of a linked one.
    pub(crate) fn note(&mut self, env: &Env, peers: &PeerTable, newer: &Hello) {
        self.0.retain(|id, (_, until)| *until > env.now && peers.with_id(id).is_some());
        let until = env.now + env.timing().down_after.saturating_mul(KEPT_FOR);
        self.0.insert(newer.id.clone(), (newer.incarnation, until));
    }

    /// The linked run that keeps its place against this even newer one.
    pub(crate) fn keeps<'a>(&self, env: &Env, peers: &'a PeerTable, newer: &Hello) -> Option<&'a Peer> {
        let (kept, _) = self.0.get(&newer.id).filter(|(_, until)| *until > env.now)?;
        // Somebody who only claims to be the node keeps nobody out.
        let is_kept = |known: &&Peer| known.node().incarnation == *kept && known.is_verified();
        let is_older =
            |known: &&Peer| known.node().incarnation < newer.incarnation && *known.address() == newer.address;
        peers.with_id(&newer.id).filter(is_kept).filter(is_older)
    }
}
