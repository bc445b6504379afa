//! Checks of the voters that change while the cluster runs (E10), at every step of every simulated run.

use std::collections::{BTreeMap, BTreeSet};

use formation_core::{Address, Config, Electorate, ElectorateVersion, Formation, HardState, Phase, Term};

use formation_testing::sim::engine::{NodeIx, World};

use crate::tally::Tally;

/// How many electorates, and how many requests for votes, are remembered.
const KEPT: usize = 4_096;

/// A request for a vote: its term and number, and the nodes that ask and are asked.
type Request = (Term, u64, (NodeIx, NodeIx));

/// What the nodes of one cluster have shown of its electorates.
#[derive(Default)]
pub(crate) struct Electorates {
    /// Every electorate by which a node has acted.
    known: BTreeMap<ElectorateVersion, Electorate>,
    /// Every list of voters that a service has asked for.
    wanted: BTreeSet<BTreeSet<Address>>,
    /// The term in which a target was first recorded.
    begun: BTreeMap<BTreeSet<Address>, Term>,
    /// The electorate of each request for a vote, and that of the voter when it was sent. By its term, its number, its candidate and
    /// the voter.
    requests: BTreeMap<Request, (ElectorateVersion, ElectorateVersion)>,
}

/// The electorate of a node that has this state.
pub(crate) fn version(state: &HardState) -> ElectorateVersion {
    state.electorate.as_ref().map(|electorate| electorate.version).unwrap_or_default()
}

/// The nodes at this address, whether they run or not.
fn nodes_at<'a>(world: &'a World, address: &Address) -> impl Iterator<Item = NodeIx> + use<'a> {
    let address = address.clone();
    (0..world.len()).filter(move |ix| *world.host(*ix).config.address() == address)
}

impl Electorates {
    /// A service asks for these voters.
    pub(crate) fn wants(&mut self, voters: &BTreeSet<Address>) {
        self.wanted.insert(voters.clone());
    }

    /// A candidate asks this voter for the first time. `electorates`: that of the request, and the one that is durable on the voter.
    pub(crate) fn asks(
        &mut self,
        (candidate, voter): (NodeIx, NodeIx),
        (term, number): (Term, u64),
        electorates: (ElectorateVersion, ElectorateVersion),
    ) {
        self.requests.entry((term, number, (candidate, voter))).or_insert(electorates);
        if self.requests.len() > KEPT {
            self.requests.pop_first();
        }
    }

    /// A voter answers a request for its vote. The vote may wait for its connection while the voter takes a newer electorate. So what
    /// counts is the electorate that it held when it was asked. `own`: the one that is durable on it now, which a lost disk sets back.
    pub(crate) fn answers(
        &self,
        (candidate, voter): (NodeIx, NodeIx),
        (term, number): (Term, u64),
        (granted, own): (bool, ElectorateVersion),
        tally: &mut Tally,
    ) -> Result<(), String> {
        let Some((asked, held)) = self.requests.get(&(term, number, (candidate, voter))) else { return Ok(()) };
        if granted && *asked < own.min(*held) {
            return Err(format!("E10: a vote is granted to the electorate {asked}, although the voter holds {own}"));
        }
        if !granted && *asked < own {
            tally.count("vote refused for an older electorate");
        }
        Ok(())
    }

    /// A node acts by another electorate than before.
    pub(crate) fn acts(
        &mut self,
        world: &World,
        (config, formation): (&Config, &Formation),
        old: ElectorateVersion,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let (node, new) = (formation.node(), formation.electorate());
        tally.count("electorate changed");
        if new.version <= old {
            return Err(format!("E10: {node} went from the electorate {old} to {}", new.version));
        }
        if new.version.term > old.term && new.version.number <= old.number {
            tally.count("electorate rolled back");
        }
        // The first electorate is the seed list. Nobody takes it.
        let before = match self.known.get(&old) {
            Some(electorate) => electorate.voters.clone(),
            None => config.seeds().clone(),
        };
        let known = self.known.entry(new.version).or_insert_with(|| new.clone());
        if known != new {
            return Err(format!("E10: one version stands for two electorates: {known}, and at {node}: {new}"));
        }
        if self.known.len() > KEPT {
            self.known.pop_first();
        }
        let goal = new.target.as_ref().unwrap_or(&new.voters);
        if goal != config.seeds() && !self.wanted.contains(goal) {
            return Err(format!("E10: {node} holds an electorate that nobody has asked for: {new}"));
        }
        if let Some(target) = &new.target {
            self.begun.entry(target.clone()).or_insert(new.version.term);
        }
        let writes = formation.status().phase == Phase::Master && new.version.term == formation.status().term;
        if writes {
            self.writes(world, formation, (old, &before), tally)?;
        }
        Ok(())
    }

    /// A master acts by an electorate that it has written.
    fn writes(
        &mut self,
        world: &World,
        formation: &Formation,
        (old, before): (ElectorateVersion, &BTreeSet<Address>),
        tally: &mut Tally,
    ) -> Result<(), String> {
        let (node, new) = (formation.node(), formation.electorate());
        let steps = before.symmetric_difference(&new.voters).count();
        if steps > 1 {
            return Err(format!("E10: {node} makes {steps} steps at once: from {old} to {new}"));
        }
        if steps > 0 && old.term != new.version.term {
            return Err(format!("E10: {node} changes the electorate of another term: from {old} to {new}"));
        }
        let holds = |address: &&Address| nodes_at(world, address).any(|ix| version(&world.host(ix).disk) >= old);
        let holders = before.iter().filter(holds).count();
        if steps > 0 && holders <= before.len() / 2 {
            return Err(format!("E10: {node} replaces the electorate {old}, which only {holders} of its voters hold"));
        }
        tally.count(match (steps, before.len() < new.voters.len()) {
            (0, _) => "electorate written anew",
            (_, true) => "voter added",
            (_, false) => "voter removed",
        });
        if new.target.is_none() && steps > 0 {
            let begun = self.begun.remove(&new.voters);
            tally.count("target reached");
            if begun.is_some_and(|term| term < new.version.term) {
                tally.count("target reached by another master");
            }
        }
        Ok(())
    }
}

/// Whether this node is no voter and is to become none, whatever is lost: neither by what a disk holds, nor by what a node knows.
pub(crate) fn is_only_a_member(world: &World, ix: NodeIx) -> bool {
    let config = &world.host(ix).config;
    let address = config.address();
    // With an empty disk, the only seed begins a cluster of its own.
    if config.seeds().iter().eq([address]) {
        return false;
    }
    let counts = |electorate: &Electorate| {
        let target = electorate.target.as_ref();
        electorate.voters.contains(address) || target.is_some_and(|target| target.contains(address))
    };
    let may_count = |ix: NodeIx| {
        let host = world.host(ix);
        let stored = |state: &HardState| match &state.electorate {
            Some(electorate) => counts(electorate),
            None => host.config.seeds().contains(address),
        };
        let in_flight = host.persisting.as_ref().is_some_and(|(_, state)| stored(state));
        stored(&host.disk) || in_flight || host.formation.as_ref().is_some_and(|it| counts(it.electorate()))
    };
    !(0..world.len()).any(may_count)
}
