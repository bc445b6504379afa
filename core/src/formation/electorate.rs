//! Rule E10 in a whole node: what changes with the electorate, and what a change of it needs.

use alloc::{borrow::ToOwned, collections::BTreeSet, string::String, sync::Arc};

use super::Formation;
use crate::{
    api::config::MAX_VOTERS,
    api::electorate::{Electorate, ElectorateVersion},
    api::error::{CloseReason, Misuse, RejectReason},
    api::event::Event,
    api::explain::{AutopilotReport, Waiting},
    autopilot::{Sight, Spare, Voter},
    election::{ElectorateStep, Roster},
    env::never,
    id::{Address, ConnId, Node},
    membership::Membership,
    peers::{Peer, PeerKey, PeerTable},
};

/// Whom a master may add to the voters, and whom it counts as alive.
struct Members<'a> {
    membership: &'a Membership,
    peers: &'a PeerTable,
}

impl Members<'_> {
    fn zone_at(&self, address: &Address) -> Option<String> {
        self.peers.at(address).and_then(|peer| zone_of(self.membership, peer.node()))
    }

    /// The active members that are no voters and store their votes: those that are proven to be at their addresses, or those that are not.
    fn durable(&self, is_proven: bool) -> impl Iterator<Item = &Peer> {
        let may_vote = move |peer: &&Peer| !peer.is_voter() && peer.is_durable() && peer.is_verified() == is_proven;
        self.peers.iter().filter(may_vote).filter(|peer| self.membership.is_sound_member(peer.node()))
    }

    /// The members that could become voters.
    fn spares(&self) -> impl Iterator<Item = &Peer> {
        self.durable(true)
    }

    /// A voter with a proven link may be no member of the view, which may be full. It is not away.
    fn is_linked(&self, address: &Address) -> bool {
        self.peers.at(address).is_some_and(Peer::is_verified)
    }

    fn active_at(&self, address: &Address) -> Option<&Peer> {
        let peer = self.peers.at(address).filter(|peer| peer.is_verified())?;
        self.membership.is_sound_member(peer.node()).then_some(peer)
    }
}

/// The value of the node's tag `zone`, as far as it is in the view.
fn zone_of(membership: &Membership, node: &Node) -> Option<String> {
    let member = membership.view().get(&node.id).filter(|member| member.node == *node)?;
    member.tags().ok()?.get("zone").map(ToOwned::to_owned)
}

impl Roster for Members<'_> {
    fn is_active(&self, address: &Address) -> bool {
        self.active_at(address).is_some()
    }

    fn is_durable(&self, address: &Address) -> bool {
        self.active_at(address).is_some_and(Peer::is_durable)
    }
}

impl Formation {
    /// The voters of the cluster, as far as this node knows. [`Event::ElectorateChanged`] reports a change.
    pub fn electorate(&self) -> &Electorate {
        self.election.electorate()
    }

    /// Whether the service may ask for these voters now.
    pub(super) fn check_voters(&self, voters: &BTreeSet<Address>) -> Result<(), Misuse> {
        if voters.is_empty() || voters.len() > MAX_VOTERS {
            return Err(Misuse::NumberOfVoters { count: voters.len(), limit: MAX_VOTERS });
        }
        if self.env.config.solo_after().is_some() {
            return Err(Misuse::SoloMasters);
        }
        if !self.election.is_master() {
            let master = self.election.master().map(|(node, address)| (node.clone(), address.clone()));
            return Err(Misuse::NotMaster { master });
        }
        match self.votes_in_memory(self.env.voters.iter().chain(voters)) {
            Some(address) => Err(Misuse::VotesInMemory { address }),
            None => Ok(()),
        }
    }

    /// One of these nodes that does not store its votes, as far as this node knows. A voter that forgets its votes forgets the electorate,
    /// too.
    fn votes_in_memory<'a>(&self, mut voters: impl Iterator<Item = &'a Address>) -> Option<Address> {
        let own = self.env.config.address();
        let in_memory = |address: &&Address| match *address == own {
            true => !self.election.voting().is_durable,
            false => self.peers.at(address).is_some_and(|peer| !peer.is_durable()),
        };
        voters.find(in_memory).cloned()
    }

    /// A master takes the next step to the voters that were asked for. Returns whether anything follows.
    pub(super) fn change_voters(&mut self) -> bool {
        let step = self.electorate_step();
        self.patience.update(&self.env, &mut self.sink, step.waits_for().is_some());
        self.prove(step.waits_for());
        match step {
            ElectorateStep::None | ElectorateStep::Wait(_) => false,
            ElectorateStep::Write(electorate) => self.election.write_electorate(electorate),
            ElectorateStep::HandOver => {
                self.election.hand_over();
                true
            }
        }
    }

    /// A voter has to be proven to be at its address (H11). This node dials a member that is to become one and is not proven.
    fn prove(&mut self, waits_for: Option<&Waiting>) {
        let Some(Waiting::Members(members)) = waits_for else { return };
        let is_unproven = |address: &&Address| self.peers.at(address).is_some_and(|peer| !peer.is_verified());
        for address in members.iter().filter(is_unproven) {
            if self.patience.may_check(address) {
                self.discovery.check_voter(&self.env, address);
            }
        }
    }

    /// The change has waited for a while.
    pub(super) fn report_wait(&mut self) {
        if let (ElectorateStep::Wait(waits_for), Some(target)) = (self.electorate_step(), self.election.target()) {
            self.patience.report(&self.env, &mut self.sink, (target.clone(), waits_for));
        }
    }

    /// The electorate in which this master keeps a number of voters. `None` if it keeps none.
    pub(super) fn kept_voters(&self) -> Option<ElectorateVersion> {
        let is_on = self.env.keeps_voters() && self.election.is_master() && self.lifecycle.is_running();
        is_on.then(|| self.electorate().version)
    }

    /// A master looks whether there are as many voters as it keeps.
    pub(super) fn keep_voters(&mut self) {
        let Some(settings) = self.env.config.autopilot().copied() else { return never!("only the autopilot looks") };
        let members = Members { membership: &self.membership, peers: &self.peers };
        let own = self.env.config.address();
        let voters = self.env.voters.iter().map(|address| Voter {
            address: address.clone(),
            zone: if address == own { zone_of(&self.membership, &self.env.me) } else { members.zone_at(address) },
            is_linked: address == own || members.is_linked(address),
        });
        let sight = Sight {
            version: self.electorate().version,
            voters: voters.collect(),
            target: self.election.target().cloned(),
            waits_for: self.electorate_step().waits_for().cloned(),
            in_memory: self.votes_in_memory(self.env.voters.iter()),
        };
        let spare = |peer: &Peer| Spare {
            address: peer.address().clone(),
            node: peer.node().clone(),
            zone: zone_of(&self.membership, peer.node()),
        };
        let spares = || members.spares().map(spare).collect();
        if sight.voters.len() < settings.voters || sight.voters.iter().any(|voter| !voter.is_linked) {
            let unproven = members.durable(false).map(|peer| peer.address().clone());
            for address in self.autopilot.next_checks(unproven.collect()) {
                self.discovery.check_voter(&self.env, &address);
            }
        }
        if let Some(voters) = self.autopilot.look(&self.env, &mut self.sink, &settings, &sight, spares) {
            self.election.want_voters(voters);
        }
    }

    pub(super) fn autopilot_report(&self) -> Option<AutopilotReport> {
        let settings = self.env.config.autopilot().filter(|_| self.kept_voters().is_some())?;
        let members = Members { membership: &self.membership, peers: &self.peers };
        Some(AutopilotReport {
            voters: settings.voters,
            replace_after: settings.replace_after,
            away: self.autopilot.away(self.env.now),
            spares: members.spares().count(),
        })
    }

    pub(super) fn electorate_step(&self) -> ElectorateStep {
        let Self { membership, peers, .. } = self;
        self.election.next_electorate_step(&Members { membership, peers })
    }

    /// The election acts by another electorate now.
    pub(super) fn electorate_changed(&mut self) {
        let electorate = self.election.electorate().clone();
        self.env.voters = Arc::new(electorate.voters.clone());
        self.discovery.set_voters(&self.env);
        // It connects again, and has to prove that it is the voter (H11).
        for key in self.peers.set_voters(&self.env) {
            self.drop_peer(key, CloseReason::Rejected(RejectReason::Unproven));
        }
        for key in self.peers.keys() {
            let Some(peer) = self.peers.peer(key) else { continue };
            if peer.is_voter() {
                self.election.voter_is_linked(peer.address(), peer.node(), (peer.voting(), peer.status()));
                if self.peers.is_confirmed(key) {
                    self.judge_master(key);
                }
            }
        }
        if self.lifecycle.is_running() {
            self.sink.event(Event::ElectorateChanged { electorate });
        }
        self.refresh_status();
        self.offer_electorate();
        if self.election.is_master() {
            self.beat();
        } else if let Some((master, heartbeat)) = self.election.newest_heartbeat()
            && let Some(key) = self.peers.with_node(master).map(Peer::key)
        {
            self.heartbeat_received(key, heartbeat);
        }
    }

    /// A master sends its electorate to all that hold an older one. Another node sends it to those that have no master to do so.
    fn offer_electorate(&mut self) {
        let is_master = self.election.is_master();
        for key in self.peers.keys() {
            let Some(peer) = self.peers.peer(key) else { continue };
            let has_master = peer.leads() || peer.follows().is_some();
            if let Some(held) = peer.status().filter(|_| is_master || !has_master).map(|status| status.electorate) {
                self.owe_electorate(key, held);
            }
        }
    }

    /// A linked node holds this electorate. If it is older than this node's own, it is sent that one.
    pub(super) fn owe_electorate(&mut self, key: PeerKey, held: ElectorateVersion) {
        let own = self.election.electorate().version;
        if held < own {
            self.peers.post_electorate(&self.env, key, (own, held));
        }
    }

    /// The last link to the peer may not have delivered the electorate.
    pub(super) fn owe_electorate_again(&mut self, key: PeerKey) {
        self.peers.forget_electorate_sent(key);
        if let Some(held) = self.peers.peer(key).and_then(Peer::status).map(|status| status.electorate) {
            self.owe_electorate(key, held);
        }
    }

    pub(super) fn electorate_received(&mut self, conn: ConnId, key: PeerKey, electorate: Electorate) {
        let Some(peer) = self.peers.peer(key) else { return never!("a link names a peer") };
        let dialed = self.peers.dialed(conn);
        let is_configured = dialed == Some(peer.address()) && self.discovery.is_configured(peer.address());
        self.election.electorate_received(peer.address(), electorate, is_configured && peer.is_verified());
    }
}
