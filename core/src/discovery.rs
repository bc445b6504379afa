//! Which addresses to dial, and which rejections to report (PROTOCOL.md, "Finding each other").
//!
//! - `accusations`: the rejections of this node by voters.
//! - `dialer`: the addresses, and when each is dialed again.
//! - `rejections`: the rejections of peers that were reported.

mod accusations;
mod dialer;
mod rejections;

use alloc::collections::BTreeSet;
use core::time::Duration;

pub(crate) use self::rejections::Rejections;
use self::{
    accusations::Accusations,
    dialer::{Dialer, Reason},
};
use crate::{
    api::config::Config,
    api::error::{CloseReason, DialProblem, RejectReason},
    api::event::{Event, LossReason},
    api::explain::Problem,
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
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Discovery {
    dialer: Dialer,
    /// Something that decides which addresses to dial has changed. Not set after an input.
    is_stale: bool,
    /// The master that was reported as unreachable.
    unreachable: Option<Node>,
    /// The voters that reject this node because another node has its id.
    id_in_use: Accusations,
    /// The voters that reject this node because they know a newer run of it.
    superseded: Accusations,
}

/// What a rejection for some reason may mean for the node that is rejected, beyond that it stays outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// A newer run of the node may be known: it stops, if that is so.
    Superseded,
    /// A living node has its id: one of the two stops, if this lasts.
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
        | RejectReason::BadProof
        | RejectReason::Unproven
        | RejectReason::Unresponsive
        // No link shows that the other node lives.
        | RejectReason::IdInView
        | RejectReason::NotAMember
        | RejectReason::UnknownStream
        | RejectReason::TooManyStreams => Consequence::None,
    }
}

impl Discovery {
    pub(crate) fn new(config: &Config, rng: Rng, now: Timestamp) -> Self {
        Self {
            dialer: Dialer::new(config, rng, now),
            is_stale: true,
            unreachable: None,
            id_in_use: Accusations::default(),
            superseded: Accusations::default(),
        }
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
            self.dialer.add_contact(contact, env.now);
        }
        self.invalidate();
    }

    /// E10: the voters have changed.
    pub(crate) fn set_voters(&mut self, env: &Env) {
        self.dialer.set_voters(&env.config, &env.voters, env.now);
        self.invalidate();
    }

    /// How many contacts there would be, with these added.
    pub(crate) fn contacts_with<'a>(&self, more: impl Iterator<Item = &'a Address>) -> usize {
        self.dialer.contacts_with(more)
    }

    /// D8: exactly these addresses are dialed beside the seeds and the contacts.
    pub(crate) fn set_discovered(&mut self, env: &Env, found: &BTreeSet<&Address>, has_master: bool) {
        let own = env.config.address();
        let new = self.dialer.set_discovered(found.iter().copied().filter(|address| *address != own), env.now);
        if !has_master {
            // A thousand addresses are not dialed at once by a node that needs one of them.
            self.dialer.queue(new, env.now);
        }
        self.invalidate();
    }

    /// How many addresses these are, without the seeds, the contacts and this node's own.
    pub(crate) fn count_discovered(&self, env: &Env, found: &BTreeSet<&Address>) -> usize {
        let own = env.config.address();
        found.iter().filter(|address| **address != own && !self.dialer.is_configured(address)).count()
    }

    /// Whether this dial was ever asked for.
    pub(crate) fn knows(&self, dial: DialId) -> bool {
        self.dialer.knows(dial)
    }

    /// A number for a dial that is not one of a discovery.
    pub(crate) fn next_dial(&mut self) -> DialId {
        self.dialer.next_dial()
    }

    /// Dials the addresses that are wanted and due, and sets the timer for the next one.
    pub(crate) fn dial(&mut self, env: &Env, sink: &mut Sink, peers: &PeerTable, election: &Election) {
        // Beside a solo master there may be a quorum, or another solo master (E8).
        let is_searching = election.is_solo() || election.follows_solo();
        let master = election.master().filter(|_| !is_searching).map(|(_, address)| address);
        let wanted = |address: &Address, is_seed: bool, found: Option<&NodeId>| {
            let is_linked = peers.at(address).is_some() || found.is_some_and(|id| peers.with_id(id).is_some());
            let is_useful = (env.votes() && is_seed) || master.is_none_or(|master| master == address);
            !is_linked && is_useful
        };
        let needs_check = |address: &Address| {
            *address == *env.config.address()
                || peers.is_claimed(address)
                || peers.is_contested(address)
                // E10: it is to become a voter, or a master looks for one.
                || (env.keeps_voters() && election.is_master() || election.electorate().may_become_voter(address))
                    && peers.at(address).is_some_and(|peer| !peer.is_verified())
        };
        if master.is_none() {
            // Only voters are believed about masters.
            let named = peers.iter().filter(|peer| peer.is_voter()).filter_map(Peer::follows);
            named.for_each(|(_, address)| self.dialer.take_turn(address, env.now));
        }
        let timeout = env.timing().handshake_timeout;
        let has_room = self.recheck_claims(env, peers);
        let due = self.dialer.dial_due(env.now, wanted, needs_check);
        for dial in due.given_up {
            sink.clear_timer(&Timer::Dial(dial));
        }
        for (dial, addr) in due.dials {
            sink.set_timer(Timer::Dial(dial), env.now + timeout);
            sink.output(Output::Dial { dial, addr, timeout });
        }
        let room_at = (!has_room).then(|| env.now + self.dialer.wait_for_room());
        match self.dialer.next_retry(wanted).into_iter().chain(room_at).min() {
            Some(at) => sink.set_timer(Timer::Redial, at),
            None => sink.clear_timer(&Timer::Redial),
        }
    }

    /// The claims that are not proven may need a dial. Returns false if there is no room for all of them.
    fn recheck_claims(&mut self, env: &Env, peers: &PeerTable) -> bool {
        let mut has_room = true;
        for (conn, claim) in peers.claims() {
            let holder = peers.contested(&claim.hello).map(Peer::address);
            for address in [Some(&claim.hello.address), holder].into_iter().flatten() {
                has_room &= self.dialer.recheck_address(address, Self::reason(env, peers, conn, address), env.now);
            }
        }
        has_room
    }

    /// Whether the configuration or a command names this address.
    pub(crate) fn is_configured(&self, address: &Address) -> bool {
        self.dialer.is_configured(address)
    }

    /// A dial has succeeded. The address that was dialed, unless the dial had been given up.
    pub(crate) fn opened(&mut self, env: &Env, sink: &mut Sink, dial: DialId, conn: ConnId) -> Option<Address> {
        sink.clear_timer(&Timer::Dial(dial));
        self.invalidate();
        self.dialer.opened(dial, conn, env.now)
    }

    /// A dial has failed, or has taken too long. The address that was dialed, unless that was known.
    pub(crate) fn failed(
        &mut self,
        env: &Env,
        sink: &mut Sink,
        (dial, problem): (DialId, DialProblem),
    ) -> Option<Address> {
        sink.clear_timer(&Timer::Dial(dial));
        let address = self.dialer.failed(dial, problem, env.now)?;
        self.invalidate();
        Some(address)
    }

    /// The dialed address has led to this peer.
    pub(crate) fn established(&mut self, env: &Env, dialed: &Address, peer: &Peer) {
        self.led_to(env, dialed, &peer.node().id, peer.address());
        if !peer.is_voter() {
            // Such a node is not believed about the master.
            self.dialer.next_turn(env.now);
            self.invalidate();
        }
    }

    /// The dialed address has led to a node of this id, which advertises this address.
    pub(crate) fn led_to(&mut self, env: &Env, dialed: &Address, id: &NodeId, advertised: &Address) {
        self.dialer.established(dialed, id, advertised, env.now);
    }

    /// The peer of this connection has claimed this address, or the id of the node there, and has not proven that: this node dials the
    /// address to see which node is there (H11). Returns false if too many addresses are checked already.
    pub(crate) fn check_address(
        &mut self,
        env: &Env,
        peers: &PeerTable,
        conn: ConnId,
        (address, claimant): (&Address, &Node),
    ) -> bool {
        let is_open = |conn| match peers.connection(conn).and_then(|connection| peers.linked_peer(connection)) {
            // Its voucher may be on its way. If it has none, its end of that link may be gone.
            Some(peer) => peer.node() == claimant,
            None => true,
        };
        self.invalidate();
        self.dialer.check_address(address, Self::reason(env, peers, conn, address), env.now, is_open)
    }

    /// Why an address is checked that the peer of this connection claims, or has named by its claim.
    fn reason(env: &Env, peers: &PeerTable, conn: ConnId, address: &Address) -> Reason {
        match address == env.config.address() {
            true => Reason::Own,
            false => Reason::Claim(peers.network_of(conn)),
        }
    }

    /// The nonce of the last `Hello` of this node on a link.
    pub(crate) fn voucher(&self, address: &Address, node: &Node) -> Option<[u8; 16]> {
        self.dialer.voucher(address, node)
    }

    /// A link to the node at this address has come, with this nonce in its `Hello`.
    pub(crate) fn note_nonce(&mut self, address: &Address, node: &Node, nonce: [u8; 16]) {
        self.dialer.note_nonce(address, node, nonce);
    }

    /// The peer at the dialed address has accepted this node, too.
    pub(crate) fn accepted(&mut self, dialed: &Address) {
        self.dialer.accepted(dialed);
    }

    /// A link to the node at this address has stood for `down_after`.
    pub(crate) fn stood(&mut self, address: &Address) {
        self.dialer.stood(address);
    }

    /// The connection to the dialed address has ended: the other end has closed it, or this node for this reason.
    pub(crate) fn closed(&mut self, env: &Env, dialed: &Address, conn: ConnId, reason: Option<CloseReason>) {
        self.dialer.closed(dialed, conn, reason, env.now);
        self.invalidate();
    }

    /// What was found at the address the last time, if that was not the node that is wanted.
    pub(crate) fn problem(&self, address: &Address) -> Option<Problem> {
        self.dialer.problem(address)
    }

    /// When the address is dialed again.
    pub(crate) fn dialed_again_in(&self, env: &Env, address: &Address) -> Option<Duration> {
        self.dialer.dialed_again_at(address).map(|at| at.since(env.now))
    }

    /// Why the master at this address does not admit this node, if it has said so.
    pub(crate) fn not_admitted_because(&self, master: &Address) -> Option<RejectReason> {
        self.dialer.not_admitted_because(master)
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
        let is_own = address == *env.config.address();
        if is_own {
            // This node is reached at its own address: no newer run of it is there.
            self.superseded.clear();
        }
        // A name of the whole service leads to this node, too.
        let is_expected = is_own || self.dialer.is_discovered(&address);
        if self.dialer.is_self(&address, env.now) && !is_expected {
            sink.event(Event::SelfDial { address, own: env.config.address().clone() });
        }
    }

    /// There is a master.
    pub(crate) fn found_master(&mut self, env: &Env) {
        self.dialer.end_turns(env.now);
        self.id_in_use.clear();
        self.unreachable = None;
        self.invalidate();
    }

    /// There is no master any more. If it has only been silent, it may be this node that is slow.
    pub(crate) fn lost_master(&mut self, env: &Env, reason: LossReason) {
        match reason {
            LossReason::Silent => self.dialer.wait_for_turns(env.now),
            LossReason::Ended
            | LossReason::LeaseExpired
            | LossReason::NewerTerm
            | LossReason::Resigned
            | LossReason::GaveWay => {}
        }
        self.invalidate();
    }

    /// The address was not reached. A node that can reach only followers of a master reports so.
    pub(crate) fn not_reached(&mut self, sink: &mut Sink, peers: &PeerTable, election: &Election, address: &Address) {
        if election.master().is_some() {
            return;
        }
        // Only voters are believed about masters.
        let followed = |peer: &Peer| {
            peer.follows()
                .filter(|_| peer.is_voter())
                .filter(|(_, at)| *at == address)
                .map(|(master, _)| master.clone())
        };
        if let Some(master) = peers.iter().find_map(followed)
            && self.unreachable.as_ref() != Some(&master)
        {
            self.unreachable = Some(master.clone());
            sink.event(Event::MasterUnreachable { master, address: address.clone() });
        }
    }

    /// Whether a quorum of voters has rejected this node for its id for so long that the holder must be alive: links forget a dead one
    /// after `down_after`, and the view after another `down_after`. Of two voters that only reject each other, one gives way.
    /// `voter`: the address of the voter that rejects it now.
    pub(crate) fn loses_its_id(&mut self, env: &Env, election: &Election, voter: &Address, holder: &Holder) -> bool {
        let own = env.config.address();
        let gives_way = (env.is_voter(&holder.address), own) > (env.is_voter(own), &holder.address);
        if election.master().is_some() || !env.is_voter(voter) || voter == own {
            return false;
        }
        let patience = Self::patience(env);
        self.id_in_use.add(voter, env.now, patience);
        let count = |except| self.id_in_use.count(env.now, patience, except);
        count(None) >= Self::judges(env) && (count(Some(&holder.address)) > 0 || gives_way)
    }

    /// A voter at this address rejects this node because it knows a newer run of it. Whether a quorum of voters has done so for so
    /// long that it must be so. Meanwhile this node dials its own address: it stops at once if a newer run is there, and does not stop if
    /// it is there itself.
    pub(crate) fn is_superseded(&mut self, env: &Env, voter: &Address) -> bool {
        if !env.is_voter(voter) {
            return false;
        }
        self.check_own_address(env);
        let patience = Self::patience(env);
        self.superseded.add(voter, env.now, patience);
        self.superseded.count(env.now, patience, None) >= Self::judges(env)
    }

    /// Dials this node's own address, to see which run of the node is there.
    pub(crate) fn check_own_address(&mut self, env: &Env) {
        self.dialer.check_address(env.config.address(), Reason::Own, env.now, |_| true);
        self.invalidate();
    }

    /// E10: dials a member that is to become a voter, to see whether it is at its address.
    pub(crate) fn check_voter(&mut self, env: &Env, address: &Address) {
        self.dialer.check_address(address, Reason::Claim(None), env.now, |_| true);
        self.invalidate();
    }

    fn patience(env: &Env) -> Duration {
        2 * env.timing().down_after
    }

    /// How many voters have to agree: a quorum, or all others where these are fewer.
    fn judges(env: &Env) -> usize {
        let others = env.voters.iter().filter(|voter| *voter != env.config.address()).count();
        env.quorum().min(others).max(1)
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
            assert!(self.id_in_use.is_empty(), "with a master, this node does not lose its id");
        }
    }
}

#[cfg(test)]
mod tests {
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
        let config = Config::builder("test", "a", "a:1").seeds(seeds.iter().copied()).single().build().unwrap();
        let (now, start) = (Timestamp::ZERO, Start::new(Incarnation(1), 1));
        let mut election = Election::new(&config, &start, Rng::new(1), now);
        // A single voter leads once its vote is durable.
        if election.persisting().is_some() {
            election.persisted();
        }
        let me = Node { id: config.id().clone(), incarnation: start.incarnation };
        let (mut discovery, peers) = (Discovery::new(&config, Rng::new(1), now), PeerTable::new(Rng::new(1)));
        let (env, mut sink) = (Env::new(config, me, now), Sink::default());
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
            |p| p.discovery.id_in_use.add(&Address::new("b:1").unwrap(), Timestamp::ZERO, Duration::ZERO),
            "with a master, this node does not lose its id",
        ),
    ];

    #[test]
    fn every_invariant_of_discovery_notices_its_violation() {
        expect_violations(&VIOLATIONS, |p| p.discovery.check(&p.peers, &p.election, p.sink.timers()));
        expect_all_listed(include_str!("discovery.rs"), &VIOLATIONS);
    }
}
