//! Which addresses to dial, and which rejections to report (PROTOCOL.md, "Finding each other").
//!
//! - `dialer`: the addresses, and when each is dialed again.
//! - `rejections`: the rejections of peers that were reported.

mod dialer;
mod rejections;

use self::dialer::Dialer;
pub(crate) use self::rejections::Rejections;
use crate::{
    api::config::Config,
    api::error::RejectReason,
    api::event::Event,
    api::output::Output,
    election::Election,
    env::{Env, Sink},
    id::{Address, ConnId, DialId, Node, NodeId},
    peers::{Peer, PeerTable},
    rng::Rng,
    time::Timestamp,
    timers::{Timer, Timers},
    wire::message::Holder,
};

/// Which addresses to dial, and what was reported about those that are not reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Discovery {
    dialer: Dialer,
    /// Something that decides which addresses to dial has changed. Not set after an input.
    is_stale: bool,
    /// The master that was reported as unreachable.
    unreachable: Option<Node>,
    /// Since when a living node with this one's id has kept it from joining, and when it last did.
    id_rejected: Option<(Timestamp, Timestamp)>,
}

/// What a rejection for some reason may mean for the node that is rejected, beyond that it stays outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// A newer run of the node is known: it stops.
    Superseded,
    /// Another node has its id: one of the two stops, if this lasts.
    MayLoseItsId,
    None,
}

pub(crate) fn consequence(reason: RejectReason) -> Consequence {
    match reason {
        RejectReason::Superseded => Consequence::Superseded,
        RejectReason::IdInUse => Consequence::MayLoseItsId,
        RejectReason::WrongCluster
        | RejectReason::NoCommonProtocol
        | RejectReason::ElectorateMismatch
        | RejectReason::AddressInUse
        | RejectReason::ClusterFull
        | RejectReason::MetadataTooLong
        | RejectReason::KeyMismatch
        | RejectReason::BadProof => Consequence::None,
    }
}

impl Discovery {
    pub(crate) fn new(config: &Config, rng: Rng, now: Timestamp) -> Self {
        Self { dialer: Dialer::new(config, rng, now), is_stale: true, unreachable: None, id_rejected: None }
    }

    /// Something that decides which addresses to dial has changed.
    pub(crate) fn invalidate(&mut self) {
        self.is_stale = true;
    }

    /// Whether `invalidate` was called since the last call.
    pub(crate) fn take_stale(&mut self) -> bool {
        core::mem::take(&mut self.is_stale)
    }

    pub(crate) fn add_contacts<'a>(&mut self, env: &Env, contacts: impl Iterator<Item = &'a Address>) {
        for contact in contacts.filter(|contact| *contact != env.config.address()) {
            self.dialer.add(contact, false, env.now);
        }
        self.invalidate();
    }

    /// How many addresses there would be beside the seeds, with these added.
    pub(crate) fn contacts_with<'a>(&self, more: impl Iterator<Item = &'a Address>) -> usize {
        self.dialer.contacts_with(more)
    }

    /// Whether this dial was ever asked for.
    pub(crate) fn knows(&self, dial: DialId) -> bool {
        self.dialer.knows(dial)
    }

    /// Dials the addresses that are wanted and due, and sets the timer for the next one.
    pub(crate) fn dial(&mut self, env: &Env, sink: &mut Sink, peers: &PeerTable, election: &Election) {
        // Beside a solo master there may be a quorum, or another solo master (E8).
        let is_searching = election.is_solo() || election.follows_solo();
        let master = election.master().filter(|_| !is_searching).map(|(_, address)| address);
        let wanted = |address: &Address, is_seed: bool, found: Option<&NodeId>| {
            let is_linked = peers.at(address).is_some() || found.is_some_and(|id| peers.with_id(id).is_some());
            let is_useful = (env.config.is_voter() && is_seed) || master.is_none_or(|master| master == address);
            !is_linked && is_useful
        };
        let timeout = env.timing().handshake_timeout;
        for (dial, addr) in self.dialer.dial_due(env.now, wanted) {
            sink.set_timer(Timer::Dial(dial), env.now + timeout);
            sink.output(Output::Dial { dial, addr, timeout });
        }
        match self.dialer.next_retry(wanted) {
            Some(at) => sink.set_timer(Timer::Redial, at),
            None => sink.clear_timer(&Timer::Redial),
        }
    }

    /// A dial has succeeded. The address that was dialed, unless the dial had been given up.
    pub(crate) fn opened(&mut self, sink: &mut Sink, dial: DialId, conn: ConnId) -> Option<Address> {
        sink.clear_timer(&Timer::Dial(dial));
        self.dialer.opened(dial, conn)
    }

    /// A dial has failed, or has taken too long. The address that was dialed, unless that was known.
    pub(crate) fn failed(&mut self, env: &Env, sink: &mut Sink, dial: DialId) -> Option<Address> {
        sink.clear_timer(&Timer::Dial(dial));
        let address = self.dialer.failed(dial, env.now)?;
        self.invalidate();
        Some(address)
    }

    /// The dialed address has led to this peer.
    pub(crate) fn established(&mut self, env: &Env, dialed: &Address, peer: &Peer) {
        self.dialer.established(dialed, &peer.node().id, peer.address(), env.now);
    }

    /// The peer at the dialed address has accepted this node, too.
    pub(crate) fn accepted(&mut self, dialed: &Address) {
        self.dialer.accepted(dialed);
    }

    /// The connection to the dialed address has ended.
    pub(crate) fn closed(&mut self, env: &Env, dialed: &Address, conn: ConnId) {
        self.dialer.closed(dialed, conn, env.now);
        self.invalidate();
    }

    /// TLS failed with the node at the dialed address.
    pub(crate) fn tls_failed(&mut self, dialed: &Address) {
        self.dialer.tls_failed(dialed);
    }

    /// This node rejects the node at the dialed address.
    pub(crate) fn rejects(&mut self, dialed: &Address, reason: RejectReason) {
        self.dialer.led_to_rejection(dialed, reason);
    }

    /// The node at the dialed address has rejected this node. Returns true if this was not reported before.
    pub(crate) fn rejected_by(&mut self, dialed: &Address, reason: RejectReason) -> bool {
        self.dialer.led_to_rejection(dialed, reason);
        self.dialer.rejected(dialed, reason)
    }

    /// The master at this address does not admit this node. Returns true if this was not reported before.
    pub(crate) fn not_admitted(&mut self, master: &Address, reason: RejectReason) -> bool {
        self.dialer.rejected(master, reason)
    }

    /// The master at this address has made this node a member.
    pub(crate) fn admitted(&mut self, master: &Address) {
        self.dialer.admitted(master);
    }

    /// The dialed address has led to this node itself.
    pub(crate) fn led_to_itself(&mut self, env: &Env, sink: &mut Sink, address: Address) {
        if self.dialer.is_self(&address, env.now) {
            sink.event(Event::SelfDial { address, own: env.config.address().clone() });
        }
    }

    /// There is a master.
    pub(crate) fn found_master(&mut self) {
        self.id_rejected = None;
        self.unreachable = None;
        self.invalidate();
    }

    /// The address was not reached. A node that can reach only followers of a master reports so.
    pub(crate) fn not_reached(&mut self, sink: &mut Sink, peers: &PeerTable, election: &Election, address: &Address) {
        if election.master().is_some() {
            return;
        }
        let followed = |peer: &Peer| peer.follows().filter(|(_, at)| *at == address).map(|(master, _)| master.clone());
        if let Some(master) = peers.iter().find_map(followed)
            && self.unreachable.as_ref() != Some(&master)
        {
            self.unreachable = Some(master.clone());
            sink.event(Event::MasterUnreachable { master, address: address.clone() });
        }
    }

    /// Whether this node has been rejected for its id for so long that the holder must be alive: links forget a dead one after
    /// `down_after`, and the view after another `down_after`. Of two nodes that only reject each other, one gives way.
    pub(crate) fn loses_its_id(
        &mut self,
        env: &Env,
        election: &Election,
        (reason, rejected_by, holder): (RejectReason, Option<&Address>, &Holder),
    ) -> bool {
        let own = env.config.address();
        let gives_way = (env.is_seed(&holder.address), own) > (env.is_seed(own), &holder.address);
        match consequence(reason) {
            Consequence::MayLoseItsId if election.master().is_none() => {}
            Consequence::MayLoseItsId | Consequence::Superseded | Consequence::None => return false,
        }
        if rejected_by == Some(&holder.address) && !gives_way {
            return false;
        }
        let patience = 2 * env.timing().down_after;
        // One rejection long ago and one now do not mean that it was rejected all the time between.
        let since = match self.id_rejected {
            Some((first, last)) if env.now.since(last) < patience => first,
            _ => env.now,
        };
        self.id_rejected = Some((since, env.now));
        env.now.since(since) >= patience
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check(&self, peers: &PeerTable, election: &Election, timers: &Timers) {
        assert!(!self.is_stale, "the addresses to dial are settled");
        self.dialer.check(|conn| peers.connection(conn)?.dialed());
        assert!(timers.dials().eq(self.dialer.dials()), "exactly the dials in progress have a deadline");
        if election.master().is_some() {
            assert_eq!(self.unreachable, None, "with a master, none is reported as unreachable");
            assert_eq!(self.id_rejected, None, "with a master, this node does not lose its id");
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::{
        api::input::Start,
        id::Incarnation,
        violations::{Violation, expect_all_listed, expect_violations},
    };

    /// The discovery of the node a, and what is checked with it.
    struct Parts {
        discovery: Discovery,
        peers: PeerTable,
        election: Election,
        sink: Sink,
    }

    fn parts(seeds: &[&str]) -> Parts {
        let config = Config::builder("test", "a", "a:1").seeds(seeds.iter().copied()).build().unwrap();
        let (now, start) = (Timestamp::ZERO, Start::new(Incarnation(1), 1));
        let mut election = Election::new(&config, &start, Rng::new(1), now);
        // A single voter leads once its vote is durable.
        if election.persisting().is_some() {
            election.persisted();
        }
        let me = Node { id: config.id().clone(), incarnation: start.incarnation };
        let (mut discovery, peers) = (Discovery::new(&config, Rng::new(1), now), PeerTable::new(Rng::new(1)));
        let (env, mut sink) = (Env { config: Arc::new(config), me, now }, Sink::default());
        assert!(discovery.take_stale());
        discovery.dial(&env, &mut sink, &peers, &election);
        Parts { discovery, peers, election, sink }
    }

    /// It dials the seed b.
    fn dialing() -> Parts {
        parts(&["a:1", "b:1"])
    }

    fn with_a_master() -> Parts {
        parts(&["a:1"])
    }

    const VIOLATIONS: [Violation<Parts>; 5] = [
        (dialing, |p| p.discovery.invalidate(), "the addresses to dial are settled"),
        (dialing, |p| p.sink.clear_timer(&Timer::Dial(DialId(1))), "exactly the dials in progress have a deadline"),
        (
            dialing,
            |p| p.sink.set_timer(Timer::Dial(DialId(2)), Timestamp::ZERO),
            "exactly the dials in progress have a deadline",
        ),
        (
            with_a_master,
            |p| p.discovery.unreachable = p.election.master().map(|(master, _)| master.clone()),
            "with a master, none is reported as unreachable",
        ),
        (
            with_a_master,
            |p| p.discovery.id_rejected = Some((Timestamp::ZERO, Timestamp::ZERO)),
            "with a master, this node does not lose its id",
        ),
    ];

    #[test]
    fn every_invariant_of_discovery_notices_its_violation() {
        expect_violations(&VIOLATIONS, |p| p.discovery.check(&p.peers, &p.election, p.sink.timers()));
        expect_all_listed(include_str!("discovery.rs"), &VIOLATIONS);
    }
}
