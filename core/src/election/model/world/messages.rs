//! What voters send and receive: one input to a voter, and everything that follows from it.

use super::*;

impl Voter {
    /// Whether another linked voter reports this role.
    fn knows_one(&self, role: RoleKind) -> bool {
        self.election.others.values().any(|other| other.linked_role() == Some(role))
    }

    /// How many members a solo master has, itself included.
    fn members(&self) -> u32 {
        1 + self.elsewhere.iter().map(|elsewhere| u32::from(*elsewhere == Some(false))).sum::<u32>()
    }
}

impl World {
    pub(super) fn send(&mut self, from: usize, to: usize, frame: Frame) {
        let (link, whole) = self.links[self.wire(from.min(to), from.max(to))];
        if !whole || self.voters[from].links[to] != Some(link) {
            // The link does not exist any more.
            return;
        }
        if let Frame::Request(VoteRequest { term, .. }) | Frame::Vote(Vote { term, granted: true, .. }) = &frame {
            let disk = &self.voters[from].durable;
            if disk.term < *term || (disk.term == *term && disk.voted_for.is_none()) {
                self.broken = Some(format!("E4: n{from} sends {frame:?}, but {disk:?} is durable"));
            }
        }
        let wire = self.wire(from, to);
        let wire = &mut self.wires[wire];
        // On a slow link, the newest frame of a kind replaces the older one that waits (C6).
        match frame {
            // A status goes before everything else that waits, as in each write of a node.
            Frame::Status(_) => {
                if let Some(older) = wire.iter_mut().find(|frame| matches!(frame, Frame::Status(_))) {
                    *older = frame;
                    return;
                }
            }
            Frame::Heartbeat(_) => wire.retain(|frame| !matches!(frame, Frame::Heartbeat(_))),
            Frame::Ack(_) => wire.retain(|frame| !matches!(frame, Frame::Ack(_))),
            Frame::Electorate(_) => wire.retain(|frame| !matches!(frame, Frame::Electorate(_))),
            _ => {}
        }
        wire.push_back(frame);
    }

    /// A voter for which the time changes nothing learns it at once. This makes no difference to the voter, because every
    /// input starts with the time. It makes the space smaller.
    pub(super) fn tick_idle(&mut self) {
        for ix in 0..self.voters.len() {
            let voter = &self.voters[ix];
            if voter.dead || voter.election.is_master() {
                continue;
            }
            let mut next = voter.election.clone();
            next.advance(at(self.now));
            let new = core::mem::replace(&mut next.now, voter.election.now);
            if next == voter.election {
                next.now = new;
                self.voters[ix].election = next;
            }
        }
    }

    /// One input to a voter, and everything that follows from it.
    pub(super) fn with(&mut self, ix: usize, input: impl FnOnce(&mut Election)) {
        let now = at(self.now);
        self.voters[ix].election.advance(now);
        self.settle(ix);
        let voter = &mut *self.voters[ix];
        input(&mut voter.election);
        voter.election.advance(now);
        self.settle(ix);
    }

    /// Carries out what follows from an input. It then sends everything at once: the status goes first.
    fn settle(&mut self, ix: usize) {
        let (mut frames, mut heartbeat) = (Vec::new(), None);
        loop {
            frames.extend(self.take_effects(ix));
            if self.change_voters(ix) {
                continue;
            }
            let (now, voter) = (self.now, &mut *self.voters[ix]);
            if voter.election.is_solo() && voter.election.members() != voter.members() {
                voter.election.set_members(voter.members());
            } else if voter.election.is_master() && voter.last_heartbeat != Some(now) {
                voter.last_heartbeat = Some(now);
                heartbeat = voter.election.next_heartbeat();
            } else {
                break;
            }
        }
        let election = &self.voters[ix].election;
        election.check_invariants();
        // It may have met another master just now (E8).
        let heartbeat = heartbeat.filter(|heartbeat| election.is_master() && heartbeat.term == election.term());
        let new_status = status(election);
        let places = self.voters.len();
        let all = || 0..places;
        let mut all_frames = Vec::new();
        let offers = self.offers(ix);
        let election = &self.voters[ix].election;
        if new_status != self.voters[ix].sent_status {
            all_frames.extend(all().map(|to| (to, Frame::Status(new_status.clone()))));
        }
        let open = |(to, frame): &(usize, Frame)| match frame {
            Frame::Request(request) => election.request_for(&name(*to)) == Some(*request),
            _ => true,
        };
        all_frames.extend(offers);
        all_frames.extend(frames.into_iter().filter(open));
        all_frames.extend(heartbeat.into_iter().flat_map(|it| all().map(move |to| (to, Frame::Heartbeat(it)))));
        self.voters[ix].sent_status = new_status;
        for (to, frame) in all_frames {
            self.send(ix, to, frame);
        }
        // The random wait after a failed candidacy always takes one unit here.
        let election = &mut self.voters[ix].election;
        if election.not_before > election.now {
            election.not_before = election.now + UNIT;
        }
        election.rng = Rng::new(0);
    }

    /// Carries out the effects. Returns the frames that are to be sent, with their receivers.
    fn take_effects(&mut self, ix: usize) -> Vec<(usize, Frame)> {
        let mut frames = Vec::new();
        while let Some(effect) = self.voters[ix].election.next_effect() {
            match effect {
                Effect::Persist { state, .. } => self.voters[ix].writing = Some(state),
                Effect::Ask(to) => {
                    let request = self.voters[ix].election.request_for(&to);
                    frames.extend(request.map(|request| (place(&to), Frame::Request(request))));
                }
                Effect::Answer { to, vote } => frames.push((index(&to.id), Frame::Vote(vote))),
                Effect::Release { to, release } => frames.push((place(&to), Frame::Release(release))),
                Effect::Found { term, master, .. } => {
                    // The first view of the master arrives at once.
                    self.voters[ix].election.take_gave_way();
                    if master == self.voters[ix].election.me {
                        self.elected(ix, term);
                    }
                }
                Effect::Lost { reason: LossReason::GaveWay, .. } => {
                    let knows = |role| self.voters[ix].knows_one(role);
                    let to_another = knows(RoleKind::Solo).then_some(To::Solo);
                    self.gave_way = if knows(RoleKind::Master) { Some(To::Quorum) } else { to_another };
                }
                Effect::ElectorateChanged => frames.extend(self.electorate_changed(ix)),
                Effect::WentBack { .. } => {
                    assert!(!self.voters[ix].election.is_voter, "a voter never goes back");
                }
                Effect::LeaseTooLong { .. } => panic!("all voters have the same times"),
                Effect::Lost { reason: LossReason::Resigned, .. } => {
                    let resigned = self.voters[ix].election.resignation().into_iter();
                    let all = resigned
                        .flat_map(|Resign { term }| (0..self.voters.len()).map(move |to| (to, Frame::Resign(term))));
                    frames.extend(all);
                }
                Effect::Lost { .. } => {}
            }
        }
        frames
    }

    fn elected(&mut self, ix: usize, term: Term) {
        let me = self.voters[ix].election.me.clone();
        if self.voters[ix].election.is_solo() {
            let disk = &self.voters[ix].durable;
            if disk.term != term || disk.voted_for.as_ref() != Some(&me) {
                self.broken = Some(format!("E4: {me} is a solo master in {term}, but {disk:?} is durable"));
            }
            // G1 does not cover solo masters.
            return;
        }
        let known = self.masters.entry(term).or_insert_with(|| me.clone());
        if *known != me && self.votes_last {
            self.broken = Some(format!("G1: {known} and {me} are both masters of {term}"));
        }
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize, frame: Frame) {
        let address = name(from);
        let (link, _) = self.links[self.wire(from.min(to), from.max(to))];
        let peer = self.voters[from].election.me.clone();
        if !self.is_believed(from, to, &frame) {
            return;
        }
        match frame {
            Frame::Down => {
                let voter = &mut *self.voters[to];
                (voter.links[from], voter.elsewhere[from], voter.statuses[from]) = (None, None, None);
                self.with(to, |election| election.link_down(&address));
            }
            Frame::Hello(node) => {
                let voter = &mut *self.voters[to];
                (voter.links[from], voter.elsewhere[from], voter.statuses[from]) = (Some(link), None, None);
                let status = voter.sent_status.clone();
                self.send(to, from, Frame::Status(status));
                self.with(to, |election| election.link_up(&address, &node, None));
            }
            Frame::Status(status) => {
                if self.solo_after.is_some() {
                    let elsewhere = match &status.role {
                        Role::Follower { master, .. } => *master != self.voters[to].election.me,
                        role => matches!(role, Role::Master | Role::Solo { .. }),
                    };
                    self.voters[to].elsewhere[from] = Some(elsewhere);
                }
                self.note_status(from, to, &status);
                self.with(to, |election| election.status_received(&peer, &address, &status));
            }
            Frame::Electorate(electorate) => {
                self.with(to, |election| election.electorate_received(&address, electorate, false));
            }
            Frame::Request(request) => {
                let is_older = request.electorate < self.voters[to].election.newest_version();
                self.seen.refused |= is_older;
                self.with(to, |election| election.vote_request(&peer, request));
            }
            Frame::Vote(vote) => self.with(to, |election| election.vote(&address, vote)),
            Frame::Release(release) => self.with(to, |election| election.release(&peer, release)),
            Frame::Resign(term) => self.with(to, |election| election.resigned(&peer, &address, term)),
            Frame::Heartbeat(heartbeat) => {
                let now = at(self.now);
                self.voters[to].election.advance(now);
                self.settle(to);
                let ack = self.acknowledge(to, &peer, &address, heartbeat);
                self.voters[to].election.advance(now);
                self.settle(to);
                self.send(to, from, Frame::Ack(ack));
            }
            Frame::Ack(ack) => self.with(to, |election| election.heartbeat_ack(&address, &ack)),
        }
    }
}
