//! Runs of one node that replace each other while both live (PROTOCOL.md, I1).

use alloc::collections::BTreeMap;

use crate::{
    env::Env,
    id::NodeId,
    peers::{Peer, PeerTable},
    time::Timestamp,
    wire::message::Hello,
};

/// For how many times `down_after` a run that has replaced a linked one keeps its place. By then, a dead one is forgotten.
const KEPT_FOR: u32 = 10;

/// Nodes of which a newer run has replaced a run that was linked, and until when the newer one keeps its place. There are at most as many
/// as there are links.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Replacements(BTreeMap<NodeId, Timestamp>);

impl Replacements {
    /// A newer run of the node takes the place of a linked one.
    pub(crate) fn note(&mut self, env: &Env, peers: &PeerTable, id: &NodeId) {
        self.0.retain(|id, until| *until > env.now && peers.with_id(id).is_some());
        self.0.insert(id.clone(), env.now + env.timing().down_after.saturating_mul(KEPT_FOR));
    }

    /// The linked run that keeps its place against this even newer one.
    pub(crate) fn keeps<'a>(&self, env: &Env, peers: &'a PeerTable, newer: &Hello) -> Option<&'a Peer> {
        self.0.get(&newer.id).filter(|until| **until > env.now)?;
        // Without a proof, somebody else may have taken the name of the run that is gone.
        let is_older = |known: &&Peer| {
            known.is_verified() && known.node().incarnation < newer.incarnation && *known.address() == newer.address
        };
        peers.with_id(&newer.id).filter(is_older)
    }
}
