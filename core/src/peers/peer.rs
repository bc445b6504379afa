//! Another node, for as long as it has a link. Everything that this node knows about it is kept here, and not per connection.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{PeerKey, outbox::Outbox};
use crate::{
    api::electorate::ElectorateVersion,
    env::Env,
    id::{Address, ConnId, Node},
    time::Timestamp,
    wire::message::{Role, StatusReport},
    wire::voting::Voting,
};

/// Another node, for as long as it has a link. Only the peer table changes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Peer {
    key: PeerKey,
    node: Node,
    address: Address,
    pub(super) is_voter: bool,
    /// Its links are proven (H11). If not, there is only one.
    pub(super) is_verified: bool,
    /// When this node has begun to look whether it is at its address, because another node claims its id.
    pub(super) doubted_at: Option<Timestamp>,
    has_higher_id: bool,
    /// How it votes, as its first `Hello` reports it.
    pub(super) voting: Option<Voting>,
    /// E10: the electorate that this node has sent it last.
    pub(super) electorate_sent: Option<ElectorateSent>,
    /// Its established connections, in the order in which they were established; never empty.
    pub(super) links: Vec<ConnId>,
    status: Option<StatusReport>,
    metadata_too_long: bool,
    pub(super) outbox: Outbox,
}

/// How many times within `down_after` an electorate is sent again to a peer that names a different one each time.
const MOST_REPEATS: u8 = 8;

/// E10: an electorate that was sent to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct ElectorateSent {
    version: ElectorateVersion,
    /// The one that the peer held.
    held: ElectorateVersion,
    /// When it was first sent.
    at: Timestamp,
    /// How many times it was sent again, because the peer held another one.
    repeats: u8,
}

impl Peer {
    pub(super) fn new(key: PeerKey, node: Node, address: Address, is_voter: bool, has_higher_id: bool) -> Self {
        Self {
            key,
            node,
            address,
            is_voter,
            is_verified: false,
            doubted_at: None,
            has_higher_id,
            voting: None,
            electorate_sent: None,
            links: Vec::new(),
            status: None,
            metadata_too_long: false,
            outbox: Outbox::default(),
        }
    }

    /// E10: whether this electorate is sent now to this peer, which holds an older one. It counts as sent then.
    pub(super) fn electorate_is_due(
        &mut self,
        env: &Env,
        (version, held): (ElectorateVersion, ElectorateVersion),
    ) -> bool {
        let is_recent = |sent: &ElectorateSent| env.now.since(sent.at) < env.timing().down_after;
        match self.electorate_sent.as_mut().filter(|sent| sent.version == version && is_recent(sent)) {
            // Its storage may be slow.
            Some(sent) if sent.held == held || sent.repeats == MOST_REPEATS => false,
            Some(sent) => {
                (sent.held, sent.repeats) = (held, sent.repeats + 1);
                true
            }
            None => {
                self.electorate_sent = Some(ElectorateSent { version, held, at: env.now, repeats: 0 });
                true
            }
        }
    }

    pub(crate) fn key(&self) -> PeerKey {
        self.key
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Its address is that of a voter.
    pub(crate) fn is_voter(&self) -> bool {
        self.is_voter
    }

    /// It has proven that it is at its address (H11).
    pub(crate) fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// It was not reached at its address, although there was time for a dial and a handshake. Another node that claims its id and is
    /// reached at an address of its own takes its place.
    pub(crate) fn has_given_way(&self, env: &Env) -> bool {
        let patience = 2 * env.timing().handshake_timeout;
        !self.is_verified && self.doubted_at.is_some_and(|at| env.now.since(at) >= patience)
    }

    /// Forgets what it has reported: it was reported on a link that is not proven, and this node knows one now that is.
    pub(super) fn forget_status(&mut self) {
        self.status = None;
        self.metadata_too_long = false;
    }

    /// Its id is higher than this node's.
    pub(crate) fn has_higher_id(&self) -> bool {
        self.has_higher_id
    }

    /// How it votes, as its first `Hello` reports it.
    pub(crate) fn voting(&self) -> Option<&Voting> {
        self.voting.as_ref()
    }

    /// It stores its votes.
    pub(crate) fn is_durable(&self) -> bool {
        self.voting.as_ref().is_some_and(|voting| voting.is_durable)
    }

    /// The newest status that it has sent.
    pub(crate) fn status(&self) -> Option<&StatusReport> {
        self.status.as_ref()
    }

    /// Its metadata is over the limit: it was not kept, and the status has none.
    pub(crate) fn metadata_too_long(&self) -> bool {
        self.metadata_too_long
    }

    /// Takes a status, unless a newer one has come before: two links to one peer may deliver its statuses out of order.
    /// Returns true if it was taken.
    pub(super) fn receive_status(&mut self, mut status: StatusReport, metadata_limit: usize) -> bool {
        if self.status.as_ref().is_some_and(|known| known.number >= status.number) {
            return false;
        }
        self.metadata_too_long = status.metadata.len() > metadata_limit;
        if self.metadata_too_long {
            status.metadata = Bytes::new();
        }
        self.status = Some(status);
        true
    }

    fn role(&self) -> Option<&Role> {
        self.status.as_ref().map(|status| &status.role)
    }

    /// It is a voter, and reports that it is a master, of a quorum or without one.
    pub(crate) fn leads(&self) -> bool {
        match self.role().filter(|_| self.is_voter) {
            Some(Role::Master | Role::Solo { .. }) => true,
            None | Some(Role::Joining | Role::Candidate | Role::Follower { .. } | Role::Leaving) => false,
        }
    }

    /// It is a voter, and reports that it is a master without a quorum (E8).
    pub(crate) fn is_solo(&self) -> bool {
        match self.role().filter(|_| self.is_voter) {
            Some(Role::Solo { .. }) => true,
            None | Some(Role::Joining | Role::Candidate | Role::Follower { .. } | Role::Master | Role::Leaving) => {
                false
            }
        }
    }

    /// It reports that it is leaving.
    pub(crate) fn is_leaving(&self) -> bool {
        match self.role() {
            Some(Role::Leaving) => true,
            None | Some(Role::Joining | Role::Candidate | Role::Follower { .. } | Role::Master | Role::Solo { .. }) => {
                false
            }
        }
    }

    /// It reports that it is leaving, and nobody else can be this node. A peer that nothing has proven may be a copy of a member.
    pub(crate) fn leaves_verifiably(&self) -> bool {
        self.is_leaving() && self.is_verified()
    }

    /// The master that it reports to follow, and that master's address.
    pub(crate) fn follows(&self) -> Option<(&Node, &Address)> {
        match self.role() {
            Some(Role::Follower { master, address }) => Some((master, address)),
            None | Some(Role::Joining | Role::Candidate | Role::Master | Role::Leaving | Role::Solo { .. }) => None,
        }
    }

    /// It belongs to another side than a solo master that is linked to it: both would count it (E8).
    pub(crate) fn is_elsewhere(&self, solo: &Node) -> bool {
        match self.role() {
            Some(Role::Follower { master, .. }) => master != solo,
            Some(Role::Master | Role::Solo { .. }) => true,
            None | Some(Role::Joining | Role::Candidate | Role::Leaving) => false,
        }
    }

    /// It takes the views of this solo master, as far as is known. The views of another master may be of a newer term
    /// than any that the solo master knows of.
    pub(crate) fn takes_views_of(&self, solo: &Node) -> bool {
        self.status.is_some() && !self.is_elsewhere(solo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::config::Config, id::Incarnation, id::Term, time::Timestamp};

    #[test]
    fn g7_e10_a_peer_that_names_many_electorates_is_sent_few() {
        let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).build().unwrap();
        let node = Node { id: "b".parse().unwrap(), incarnation: Incarnation(1) };
        let mut env = Env::new(config, node.clone(), Timestamp::ZERO);
        let mut peer = Peer::new(PeerKey::default(), node, "b:1".parse().unwrap(), true, true);
        let version = |number| ElectorateVersion { term: Term(1), number };
        let mut sent = |env: &Env, own, held: core::ops::Range<u64>| {
            held.filter(|held| peer.electorate_is_due(env, (version(own), version(*held)))).count()
        };
        assert_eq!(sent(&env, 1_000, 0..500), 9);
        assert_eq!(sent(&env, 1_001, 0..1), 1, "this node has another one");
        env.now = Timestamp::ZERO + env.timing().down_after;
        assert_eq!(sent(&env, 1_001, 0..500), 9);
    }
}
