//! What a hostile peer knows: the configuration of the cluster, and what it receives on its own connections.

use std::collections::{BTreeMap, VecDeque};

use formation_core::{
    Address, ClusterName, Config, ElectorateDigest, Incarnation, Member, Node, NodeId, Term, ViewId,
    message::{Heartbeat, Hello, MembersUpdate, Message, Role, VoteRequest},
};

/// How many values of one kind it remembers.
const KEPT: usize = 16;

/// The id, the run and the address that a node claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) node: Node,
    pub(crate) address: Address,
}

/// Names, terms, numbers and nonces that any member can learn. Bytes on connections of others are not among them.
#[derive(Debug)]
pub(crate) struct Knowledge {
    pub(crate) cluster: ClusterName,
    pub(crate) electorate: ElectorateDigest,
    pub(crate) seeds: Vec<Address>,
    /// The other nodes. The incarnation is zero until it has been received.
    pub(crate) nodes: BTreeMap<NodeId, Identity>,
    /// The largest term that is still far from the end of all terms.
    pub(crate) term: Term,
    pub(crate) view_id: ViewId,
    pub(crate) view: Vec<Member>,
    pub(crate) heartbeats: VecDeque<Heartbeat>,
    pub(crate) requests: VecDeque<VoteRequest>,
    /// The nonces of the other nodes' `Hello`s, with the ids of these nodes.
    pub(crate) nonces: VecDeque<(NodeId, [u8; 16])>,
}

fn keep<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == KEPT {
        list.pop_front();
    }
    list.push_back(item);
}

impl Knowledge {
    /// What stands in the configuration: the name of the cluster, the seeds, and the names of the other nodes.
    pub(crate) fn new<'a>(config: &Config, nodes: impl Iterator<Item = &'a Config>) -> Self {
        let identity = |config: &Config| Identity {
            node: Node { id: config.id().clone(), incarnation: Incarnation(0) },
            address: config.address().clone(),
        };
        Self {
            cluster: config.cluster().clone(),
            electorate: config.electorate(),
            seeds: config.seeds().iter().cloned().collect(),
            nodes: nodes.map(|config| (config.id().clone(), identity(config))).collect(),
            term: Term(0),
            view_id: ViewId::default(),
            view: Vec::new(),
            heartbeats: VecDeque::new(),
            requests: VecDeque::new(),
            nonces: VecDeque::new(),
        }
    }

    /// The node at this address, as far as it is known.
    pub(crate) fn at(&self, address: &Address) -> Option<&Identity> {
        self.nodes.values().find(|known| known.address == *address)
    }

    fn meet(&mut self, node: &Node, address: &Address) {
        if let Some(known) = self.nodes.get_mut(&node.id).filter(|known| known.address == *address) {
            known.node.incarnation = known.node.incarnation.max(node.incarnation);
        }
    }

    fn learn_term(&mut self, term: Term) {
        // What it has made up itself comes back, and a node may then know the largest term. It starts again below.
        if term.0 < u64::MAX >> 1 {
            self.term = self.term.max(term);
        }
    }

    /// Learns from a message that it has received.
    pub(crate) fn learn(&mut self, message: &Message) {
        match message {
            Message::Hello(Hello { id, incarnation, address, nonce, .. }) => {
                keep(&mut self.nonces, (id.clone(), *nonce));
                self.meet(&Node { id: id.clone(), incarnation: *incarnation }, address);
            }
            Message::Rejected(rejected) => {
                if let Some(holder) = &rejected.holder {
                    self.meet(&holder.node, &holder.address);
                }
            }
            Message::Status(status) => {
                self.learn_term(status.term);
                if let Role::Follower { master, address } = &status.role {
                    self.meet(master, address);
                }
            }
            Message::Heartbeat(heartbeat) => {
                self.learn_term(heartbeat.term);
                keep(&mut self.heartbeats, *heartbeat);
            }
            Message::VoteRequest(request) => {
                self.learn_term(request.term);
                keep(&mut self.requests, *request);
            }
            Message::Vote(vote) => self.learn_term(vote.term),
            Message::HeartbeatAck(ack) => self.learn_term(ack.term),
            Message::MembersUpdate(MembersUpdate::Page { view_id, members, .. }) => {
                self.view_id = *view_id;
                self.view.clone_from(members);
                members.iter().for_each(|member| self.meet(&member.node, &member.address));
            }
            Message::MembersUpdate(MembersUpdate::Delta { view_id, .. }) => self.view_id = *view_id,
            _ => {}
        }
    }
}
