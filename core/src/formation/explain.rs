//! What this node is doing, and why it is not doing more.

use super::Formation;
use crate::{
    api::explain::{Explanation, NoMaster, NoMasterReason, VoterReport},
    id::Address,
    peers::Peer,
    stranded::without_master,
};

impl Formation {
    /// What this node is doing, and why it is not doing more. It changes nothing, and takes time that grows with the number of members.
    /// [Why there is no master](crate::guide::no_master) shows how to read it.
    pub fn explain(&self) -> Explanation {
        let status = self.status();
        let waits_for = self.electorate_step().waits_for().cloned();
        Explanation {
            node: self.env.me.clone(),
            address: self.env.config.address().clone(),
            phase: status.phase,
            term: status.term,
            master: status.master,
            no_master: self.why_no_master(),
            voters: self.env.voters.iter().map(|seed| self.voter_report(seed)).collect(),
            quorum: self.env.quorum(),
            electorate: self.electorate().version,
            target: self.election.target().cloned(),
            waits_for,
            autopilot: self.autopilot_report(),
            promise: self.election.promise(),
            storage: self.election.storage(),
            without_master: self.election.master().map(|_| without_master(&self.peers)).unwrap_or_default(),
            view_id: self.membership.view().id(),
            members: self.membership.explain(self.env.now),
        }
    }

    /// Why this node has no master. `None` if it has one, or has stopped.
    pub(super) fn why_no_master(&self) -> Option<NoMaster> {
        if self.election.master().is_some() || self.lifecycle.is_stopped() {
            return None;
        }
        let seeds = &self.env.voters;
        let is_reached = |seed: &&Address| *seed == self.env.config.address() || self.peers.at(seed).is_some();
        let reachable = seeds.iter().filter(is_reached).count();
        let unreachable = seeds.iter().filter(|seed| !is_reached(seed));
        Some(NoMaster {
            reason: self.no_master_reason(reachable),
            not_a_voter: (!self.env.votes()).then(|| self.env.config.address().clone()),
            reachable,
            voters: seeds.len(),
            quorum: self.env.quorum(),
            unreachable: unreachable.map(|seed| (seed.clone(), self.discovery.problem(seed))).collect(),
        })
    }

    fn no_master_reason(&self, reachable: usize) -> NoMasterReason {
        if !self.lifecycle.is_running() {
            return NoMasterReason::Leaving;
        }
        if let Some(why) = self.election.why_no_votes() {
            return why;
        }
        if let Some(master) = self.peers.iter().find(|peer| peer.leads() && !peer.is_solo()) {
            let reason = self.discovery.not_admitted_because(master.address());
            return NoMasterReason::NotAdmitted { master: master.node().clone(), reason };
        }
        let mut followed = self.peers.iter().filter(|peer| peer.is_voter()).filter_map(Peer::follows);
        if let Some((master, address)) = followed.find(|(_, address)| self.peers.at(address).is_none()) {
            return NoMasterReason::MasterUnreachable { master: master.clone(), address: address.clone() };
        }
        if let Some((by, master)) = self.election.held_by() {
            return NoMasterReason::Held { by, master };
        }
        match reachable < self.env.quorum() {
            true => NoMasterReason::TooFewVoters,
            false => self.election.why_no_candidate(),
        }
    }

    fn voter_report(&self, seed: &Address) -> VoterReport {
        let is_own = seed == self.env.config.address();
        let peer = self.peers.at(seed);
        let status = peer.and_then(Peer::status);
        let own = is_own.then(|| (self.env.me.clone(), self.election.role(), self.election.abstains()));
        let (node, role, abstains) = match own {
            Some((node, role, abstains)) => (Some(node), Some(role), abstains),
            None => (
                peer.map(|peer| peer.node().clone()),
                status.map(|status| status.role.clone()),
                status.is_some_and(|status| status.abstains),
            ),
        };
        let is_missing = !is_own && peer.is_none();
        VoterReport {
            address: seed.clone(),
            node,
            role,
            abstains,
            problem: self.discovery.problem(seed).filter(|_| is_missing),
            dialed_again_in: self.discovery.dialed_again_in(&self.env, seed).filter(|_| is_missing),
        }
    }
}
