//! What voters say and hear: one input to a voter, and all that follows from it.

use super::*;

impl Voter {
    /// Another that is linked says this of itself.
    fn knows_one(&self, stance: Stance) -> bool {
        let heard = self
            .election
            .others
            .values()
            .filter(|other| other.linked.is_some())
            .filter_map(|other| other.heard.as_ref());
        heard.into_iter().any(|heard| heard.stance == stance)
    }

    /// How many a solo master has, itself included.
    fn members(&self) -> u32 {
        1 + self.elsewhere.iter().map(|elsewhere| u32::from(*elsewhere == Some(false))).sum::<u32>()
    }
}

impl World {
    pub(super) fn say(&mut self, from: usize, to: usize, frame: Frame) {
        let (link, whole) = self.links[self.wire(from.min(to), from.max(to))];
        if !whole || self.voters[from].links[to] != Some(link) {
            // Said on a link that is gone already.
            return;
        }
        if let Frame::Request(VoteRequest { term, .. }) | Frame::Vote(Vote { term, granted: true, .. }) = &frame {
            let disk = &self.voters[from].durable;
            if disk.term < *term || (disk.term == *term && disk.voted_for.is_none()) {
                self.broken = Some(format!("E4: n{from} says {frame:?}, and what is durable is {disk:?}"));
            }
        }
        let wire = self.wire(from, to);
        let wire = &mut self.wires[wire];
        // Of those that wait for a slow link the newest replaces the older one.
        match frame {
            // It goes before all else that waits, as in each write of a node.
            Frame::Status(_) => {
                if let Some(older) = wire.iter_mut().find(|frame| matches!(frame, Frame::Status(_))) {
                    *older = frame;
                    return;
                }
            }
            Frame::Beat(_) => wire.retain(|frame| !matches!(frame, Frame::Beat(_))),
            Frame::Ack(_) => wire.retain(|frame| !matches!(frame, Frame::Ack(_))),
            _ => {}
        }
        wire.push_back(frame);
    }

    /// A voter for which the time changes nothing learns of it at once: it could not tell when it did, since every input
    /// begins with it.
    pub(super) fn tick_idle(&mut self) {
        for ix in 0..self.voters.len() {
            let voter = &self.voters[ix];
            if voter.dead || voter.election.is_master() {
                continue;
            }
            let mut next = voter.election.clone();
            next.advance(at(self.now));
            let told = core::mem::replace(&mut next.now, voter.election.now);
            if next == voter.election {
                next.now = told;
                Arc::make_mut(&mut self.voters[ix]).election = next;
            }
        }
    }

    /// One input to a voter, and all that follows from it.
    pub(super) fn with(&mut self, ix: usize, input: impl FnOnce(&mut Election)) {
        let now = at(self.now);
        Arc::make_mut(&mut self.voters[ix]).election.advance(now);
        self.settle(ix);
        let voter = Arc::make_mut(&mut self.voters[ix]);
        input(&mut voter.election);
        voter.election.advance(now);
        self.settle(ix);
    }

    /// What follows, and then all that is to be said of it at once: its status goes first.
    fn settle(&mut self, ix: usize) {
        let (mut words, mut heartbeat) = (Vec::new(), None);
        loop {
            words.extend(self.take_effects(ix));
            let (now, voter) = (self.now, Arc::make_mut(&mut self.voters[ix]));
            if voter.election.is_solo() && voter.election.members() != voter.members() {
                voter.election.set_members(voter.members());
            } else if voter.election.is_master() && voter.last_beat != Some(now) {
                voter.last_beat = Some(now);
                heartbeat = voter.election.next_heartbeat();
            } else {
                break;
            }
        }
        let election = &self.voters[ix].election;
        // It may have met another master just now (E8).
        let heartbeat = heartbeat.filter(|beat| election.is_master() && beat.term == election.term());
        let said = status(election);
        let all = || 0..self.voters.len();
        let mut frames = Vec::new();
        if said != self.voters[ix].said {
            frames.extend(all().map(|to| (to, Frame::Status(said.clone()))));
        }
        let open = |(to, frame): &(usize, Frame)| match frame {
            Frame::Request(request) => election.request_for(&name(*to)) == Some(*request),
            _ => true,
        };
        frames.extend(words.into_iter().filter(open));
        frames.extend(heartbeat.into_iter().flat_map(|beat| all().map(move |to| (to, Frame::Beat(beat)))));
        Arc::make_mut(&mut self.voters[ix]).said = said;
        for (to, frame) in frames {
            self.say(ix, to, frame);
        }
        // A random wait: here always one unit, however often it failed.
        let election = &mut Arc::make_mut(&mut self.voters[ix]).election;
        if election.not_before > election.now {
            election.not_before = election.now + UNIT;
        }
        election.rng = Rng::new(0);
    }

    /// To whom what is to be said.
    fn take_effects(&mut self, ix: usize) -> Vec<(usize, Frame)> {
        let mut words = Vec::new();
        while let Some(effect) = Arc::make_mut(&mut self.voters[ix]).election.next_effect() {
            match effect {
                Effect::Persist { state, .. } => Arc::make_mut(&mut self.voters[ix]).writing = Some(state),
                Effect::Ask(to) => {
                    let request = self.voters[ix].election.request_for(&to);
                    words.extend(request.map(|request| (place(&to), Frame::Request(request))));
                }
                Effect::Answer { to, vote } => words.push((index(&to.id), Frame::Vote(vote))),
                Effect::Release { to, release } => words.push((place(&to), Frame::Release(release))),
                Effect::Found { term, master, .. } => {
                    // Its first view is there at once: who has changed sides has said so.
                    Arc::make_mut(&mut self.voters[ix]).election.take_gave_way();
                    if master == self.voters[ix].election.me {
                        self.elected(ix, term);
                    }
                }
                Effect::Lost { reason: LossReason::GaveWay, .. } => {
                    let knows = |stance| self.voters[ix].knows_one(stance);
                    let to_another = knows(Stance::Solo).then_some(To::Solo);
                    self.gave_way = if knows(Stance::Master) { Some(To::Quorum) } else { to_another };
                }
                Effect::Lost { .. } => {}
            }
        }
        words
    }

    fn elected(&mut self, ix: usize, term: Term) {
        let me = self.voters[ix].election.me.clone();
        if self.voters[ix].election.is_solo() {
            let disk = &self.voters[ix].durable;
            if disk.term != term || disk.voted_for.as_ref() != Some(&me) {
                self.broken = Some(format!("E4: {me} goes on alone in {term}, and what is durable is {disk:?}"));
            }
            // G1 is about the masters of quorums.
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
        match frame {
            Frame::Down => {
                let voter = Arc::make_mut(&mut self.voters[to]);
                (voter.links[from], voter.elsewhere[from]) = (None, None);
                self.with(to, |election| election.link_down(&address));
            }
            Frame::Hello(node) => {
                let voter = Arc::make_mut(&mut self.voters[to]);
                (voter.links[from], voter.elsewhere[from]) = (Some(link), None);
                let said = voter.said.clone();
                self.say(to, from, Frame::Status(said));
                self.with(to, |election| election.link_up(&address, &node));
            }
            Frame::Status(status) => {
                if self.solo_after.is_some() {
                    let elsewhere = match &status.role {
                        Role::Follower { master, .. } => *master != self.voters[to].election.me,
                        role => matches!(role, Role::Master | Role::Solo { .. }),
                    };
                    Arc::make_mut(&mut self.voters[to]).elsewhere[from] = Some(elsewhere);
                }
                self.with(to, |election| election.heard_status(&peer, &address, &status));
            }
            Frame::Request(request) => self.with(to, |election| election.vote_request(&peer, request)),
            Frame::Vote(vote) => self.with(to, |election| election.vote(&address, vote)),
            Frame::Release(release) => self.with(to, |election| election.release(&peer, release)),
            Frame::Resign(term) => self.with(to, |election| election.resigned(&peer, &address, term)),
            Frame::Beat(heartbeat) => {
                let mut confirms = false;
                self.with(to, |election| (_, confirms) = election.heartbeat(&peer, &address, heartbeat));
                let term = self.voters[to].election.term();
                let ack = HeartbeatAck { term, number: heartbeat.number, view_id: Default::default(), confirms };
                self.say(to, from, Frame::Ack(ack));
            }
            Frame::Ack(ack) => self.with(to, |election| election.heartbeat_ack(&address, &ack)),
        }
    }
}
