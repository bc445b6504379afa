//! What goes out: at most one `Send` in flight on a connection, made of what the peer lacks at that moment.

use bytes::Bytes;

use crate::{
    formation::Formation,
    id::{ConnId, NodeId},
    interface::Output,
    link::Phase,
    message::Message,
    timer::Timer,
};

impl Formation {
    /// The link may have something to send.
    pub(crate) fn wake(&mut self, conn: ConnId) {
        self.awake.insert(conn);
    }

    /// The link on which the peer is spoken to may have something to send.
    pub(crate) fn wake_peer(&mut self, id: &NodeId) {
        if let Some(conn) = self.sending_link(id) {
            self.wake(conn);
        }
    }

    /// Starts the idle clocks of an established link.
    pub(crate) fn watch_link(&mut self, conn: ConnId) {
        let timing = self.config.timing();
        let (ping_at, silent_at) = (self.now + timing.heartbeat_interval, self.now + timing.down_after);
        if let Some(link) = self.links.get_mut(&conn) {
            (link.ping_at, link.silent_at) = (ping_at, silent_at);
            self.timers.set(Timer::Ping(conn), ping_at);
            self.timers.set(Timer::Silence(conn), silent_at);
        }
    }

    /// Sends what the link owes, if nothing is in flight on it.
    pub(crate) fn send(&mut self, conn: ConnId) {
        let Some(link) = self.links.get(&conn).filter(|link| !link.in_flight) else { return };
        let peer = link.peer().cloned();
        let bytes = match peer {
            None => self.compose_handshake(conn),
            Some(peer) => self.compose(conn, &peer),
        };
        let Some(link) = self.links.get_mut(&conn).filter(|_| !bytes.is_empty()) else { return };
        link.in_flight = true;
        link.ping_at = self.now + self.config.timing().heartbeat_interval;
        link.ping_owed = false;
        self.counters.bytes_sent += bytes.len() as u64;
        self.outputs.push_back(Output::Send { conn, bytes });
    }

    fn compose_handshake(&mut self, conn: ConnId) -> Bytes {
        let Some(link) = self.links.get_mut(&conn) else { return Bytes::new() };
        match &mut link.phase {
            Phase::Opening { hello_owed: hello_owed @ true } => {
                *hello_owed = false;
                let nonce = link.nonce;
                Message::Hello(self.own_hello(nonce)).to_frame()
            }
            Phase::Proving(proving) => core::mem::take(&mut proving.answer),
            Phase::Refusing { rejected, first, said: said @ false } => {
                *said = true;
                let mut out = bytes::BytesMut::from(core::mem::take(first));
                Message::Rejected(rejected.clone()).encode(&mut out);
                out.freeze()
            }
            _ => Bytes::new(),
        }
    }

    fn compose(&mut self, conn: ConnId, id: &NodeId) -> Bytes {
        let speaks_here = self.sending_link(id) == Some(conn);
        let mut out = core::mem::take(&mut self.scratch);
        let Some(link) = self.links.get_mut(&conn) else { return Bytes::new() };
        let Phase::Established { first, version, status_said, .. } = &mut link.phase else { return Bytes::new() };
        let version = *version;
        let ping = link.ping_owed;
        out.extend_from_slice(&core::mem::take(first));
        // Each link gets one status when it is established; the later ones go where the peer is spoken to.
        let say_status = *status_said == 0 || (speaks_here && *status_said != self.status.number);
        if say_status {
            *status_said = self.status.number;
        }
        if say_status {
            out.extend_from_slice(self.status_frame.in_version(version));
        }
        if speaks_here && let Some(bytes) = self.compose_owed(id, version, &mut out) {
            self.scratch = out;
            return bytes;
        }
        if out.is_empty() && ping {
            Message::Ping.encode_for(version, &mut out);
        }
        let bytes = out.split().freeze();
        self.scratch = out;
        bytes
    }

    /// Appends what is owed to the peer, or hands out the shared heartbeat where that is all.
    fn compose_owed(&mut self, id: &NodeId, version: u16, out: &mut bytes::BytesMut) -> Option<Bytes> {
        let peer = self.peers.get_mut(id)?;
        let request = self.election.request_for(&peer.address).filter(|_| peer.owed.request);
        let owed = &mut peer.owed;
        owed.request = false;
        let beat = self.heartbeat.as_ref().filter(|_| core::mem::take(&mut owed.heartbeat));
        let beat = beat.map(|(number, frame)| (*number, frame.in_version(version)));
        let messages = [
            owed.release.take().map(Message::Release),
            request.map(Message::VoteRequest),
            owed.vote.take().map(Message::Vote),
            owed.resign.take().map(Message::Resign),
            core::mem::take(&mut owed.leave).then_some(Message::LeaveAck),
            owed.ack.take().map(Message::HeartbeatAck),
            owed.join.take().map(Message::JoinResponse),
        ];
        for message in messages.into_iter().flatten() {
            message.encode_for(version, out);
        }
        let beat_len = beat.map_or(0, |(_, frame)| frame.len());
        let takes_views = !self.election.is_solo() || peer.takes_views_of(&self.me);
        if let Some(roster) = &mut self.membership.roster {
            let room = |out: &bytes::BytesMut| self.config.limits().send.saturating_sub(out.len() + beat_len);
            while takes_views && let Some(update) = roster.next_update(&self.membership.view, id, (version, room(out)))
            {
                out.extend_from_slice(&update);
            }
            if let Some((number, _)) = beat {
                roster.heartbeat_sent(id, number);
            }
        }
        let (_, frame) = beat?;
        if out.is_empty() {
            return Some(frame.clone());
        }
        out.extend_from_slice(frame);
        None
    }
}
