//! Faults and repairs as plain data, so that a run can be repeated without some of them.

use std::time::Duration;

use bytes::Bytes;
use formation_core::{Command, Timing};

use crate::{
    Crash, Cut, NodeIx, Rng, Target,
    keys::Intrusion,
    net::Net,
};

/// A fault, or the repair of one. A fault that is not possible, such as the crash of a node that does not run, has no
/// effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node dies. With `forget`, its durable state is lost too.
    Crash {
        /// The node.
        ix: NodeIx,
        /// How it dies.
        how: Crash,
        /// Whether its disk is lost.
        forget: bool,
    },
    /// The master dies.
    CrashMaster(Crash),
    /// A node starts again.
    Start(NodeIx),
    /// A second node with the same id starts at its own address.
    Twin(NodeIx),
    /// A node with another id starts and claims the address of this voter. The address still leads to the voter.
    Liar(NodeIx),
    /// Two nodes are cut off from each other.
    Cut(NodeIx, NodeIx, Cut),
    /// The first node does not reach the second any more. The second still reaches the first.
    CutOneWay(NodeIx, NodeIx, Cut),
    /// A node is cut off from all others.
    Isolate(NodeIx, Cut),
    /// The master is cut off from all others.
    IsolateMaster(Cut),
    /// The nodes below this index are cut off from all other nodes.
    Split(NodeIx, Cut),
    /// All cuts end.
    Heal,
    /// A node pauses.
    Pause(NodeIx, Duration),
    /// The master pauses.
    PauseMaster(Duration),
    /// The connections between two nodes are reset.
    Reset(NodeIx, NodeIx),
    /// The connections between two nodes carry nothing any more, and neither end notices.
    HalfOpen(NodeIx, NodeIx),
    /// The first node stops reading from the second.
    StopReading(NodeIx, NodeIx),
    /// All nodes resume reading.
    ResumeReading,
    /// From now on, a write to any disk takes up to this long.
    Disks(Duration),
    /// All writes of a node fail until it is started again.
    DiskFails(NodeIx),
    /// A node leaves.
    Leave(NodeIx),
    /// The master leaves.
    LeaveMaster,
    /// The master resigns, and stays a member.
    ResignMaster,
    /// Everything that the master sends arrives this much later.
    SlowMaster(Duration),
    /// The address of a node does not resolve.
    NameGone(NodeIx),
    /// The address of the first node leads to the second node, so that the second node can find itself there.
    NameMoved(NodeIx, NodeIx),
    /// A node gets the address of another node as a contact.
    Contact(NodeIx, NodeIx),
    /// A node changes its metadata.
    Metadata(NodeIx, u64),
    /// An intruder without the cluster key attacks a node.
    Intruder(NodeIx, Intrusion),
    /// A node is started again with other times.
    Times(NodeIx, Pace),
    /// One more node gets the keys of the next stage of a rolling change.
    ChangeKey,
}

/// Times for the nodes of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The default of the tests.
    Usual,
    /// A lease of 400 ms.
    Fast,
    /// A lease of 2.5 s.
    Slow,
}

impl Pace {
    fn timing(self) -> Timing {
        let ms = Duration::from_millis;
        let times = |heartbeat, lease, bootstrap| Timing {
            heartbeat_interval: ms(heartbeat),
            lease: ms(lease),
            bootstrap_wait: ms(bootstrap),
            ..Timing::lan()
        };
        match self {
            Self::Usual => Timing::lan(),
            Self::Fast => Timing { election_timeout: ms(300), ..times(100, 400, 600) },
            Self::Slow => times(300, 2_500, 3_000),
        }
    }
}

impl Fault {
    /// A random fault for a network of `nodes`.
    pub fn draw(rng: &mut Rng, nodes: usize, forget: bool) -> Self {
        let ix = rng.below(nodes);
        let other = if nodes > 1 { (ix + 1 + rng.below(nodes - 1)) % nodes } else { ix };
        let cut = if rng.one_in(2) { Cut::Hold } else { Cut::Lose };
        let crash = if rng.one_in(2) { Crash::Process } else { Crash::Machine };
        // Around every timeout of the default configuration, 100 ms to 3 s.
        let time = Duration::from_micros((50_000 << rng.below(7)) + rng.draw() % 100_000);
        match rng.below(25) {
            0..=1 => Self::Crash { ix, how: crash, forget },
            2..=3 if !forget => Self::CrashMaster(crash),
            2..=3 => Self::Crash { ix, how: crash, forget },
            4..=7 => Self::Start(ix),
            8 => Self::Cut(ix, other, cut),
            9..=10 => Self::CutOneWay(ix, other, cut),
            11 => Self::Isolate(ix, cut),
            12 => Self::IsolateMaster(cut),
            13 => Self::Split(ix, cut),
            14..=15 => Self::Heal,
            16 => Self::Pause(ix, time),
            17 => Self::PauseMaster(time),
            18 => Self::Reset(ix, other),
            19 => Self::HalfOpen(ix, other),
            20 => Self::StopReading(ix, other),
            21 => Self::ResumeReading,
            22 if rng.one_in(3) => Self::DiskFails(ix),
            22 => Self::Disks(time / 20),
            23 if rng.one_in(3) => Self::Twin(ix),
            23 => Self::Leave(ix),
            _ => Self::Metadata(ix, rng.draw()),
        }
    }

    /// A random fault that partitions a cluster, so that a part continues without a quorum (E8), or a repair that lets
    /// the parts meet.
    pub fn draw_partition(rng: &mut Rng, nodes: usize) -> Self {
        let ix = rng.below(nodes);
        let other = (ix + 1 + rng.below(nodes.max(2) - 1)) % nodes;
        let cut = if rng.one_in(2) { Cut::Hold } else { Cut::Lose };
        let crash = if rng.one_in(2) { Crash::Process } else { Crash::Machine };
        match rng.below(10) {
            0..=2 => Self::Split(ix, cut),
            3 => Self::Isolate(ix, cut),
            4 => Self::IsolateMaster(cut),
            5 => Self::Cut(ix, other, cut),
            6 => Self::Crash { ix, how: crash, forget: false },
            7 => Self::Start(ix),
            _ => Self::Heal,
        }
    }

    /// A random fault of leaving, of names, of a slow master, or of a pause close to a timeout, for a network of
    /// `nodes` with these voters.
    pub fn draw_more(rng: &mut Rng, nodes: usize, voters: usize) -> Self {
        let ix = rng.below(nodes);
        let (voter, other) = (rng.below(voters), rng.below(voters));
        // Around each timeout of the default configuration: a heartbeat, suspicion, the lease, and down.
        let timeout = [200, 600, 1_000, 3_000][rng.below(4)];
        let around = Duration::from_millis([timeout - 50, timeout, timeout + 50][rng.below(3)]);
        match rng.below(10) {
            9 => Self::ResignMaster,
            0 => Self::LeaveMaster,
            1 => Self::Leave(ix),
            2 => Self::Start(ix),
            3 => Self::SlowMaster(around),
            4 => Self::NameGone(voter),
            5 => Self::NameMoved(voter, other),
            6 => Self::Contact(ix, rng.below(nodes)),
            7 => Self::Pause(ix, around),
            _ => Self::PauseMaster(around),
        }
    }

    /// A random change of the times of a voter.
    pub fn draw_times(rng: &mut Rng, voters: usize) -> Self {
        Self::Times(rng.below(voters), [Pace::Usual, Pace::Fast, Pace::Slow][rng.below(3)])
    }

    /// A random fault for a network with a cluster key.
    pub fn draw_keyed(rng: &mut Rng, nodes: usize) -> Self {
        match rng.below(2) {
            0 => Self::Intruder(rng.below(nodes), Intrusion::ALL[rng.below(Intrusion::ALL.len())]),
            _ => Self::ChangeKey,
        }
    }

    /// Applies the fault to the network.
    pub fn apply(self, net: &mut Net) {
        let runs = |net: &Net, ix: NodeIx| net.host(ix).formation.is_some();
        // A paused node gets no commands from its embedder either.
        let listens = |net: &Net, ix: NodeIx| net.living().contains(&ix) && !net.is_paused(ix);
        match self {
            Self::Crash { ix, how, forget } if runs(net, ix) => {
                net.crash(ix, how);
                if forget {
                    net.forget(ix);
                }
            }
            Self::CrashMaster(how) => {
                if let Some(master) = net.master() {
                    net.crash(master, how);
                }
            }
            Self::Start(ix) if !net.living().contains(&ix) => {
                net.crash_if(ix, |_, _| true, Crash::Process);
                net.start(ix);
            }
            Self::Twin(of) => net.start_twin(of),
            Self::Liar(of) => net.start_liar(of),
            Self::Cut(a, b, how) => net.cut(a, b, how),
            Self::CutOneWay(from, to, how) => net.cut_one_way(from, to, how),
            Self::Isolate(ix, how) => net.isolate(ix, how),
            Self::IsolateMaster(how) => {
                if let Some(master) = net.master() {
                    net.isolate(master, how);
                }
            }
            Self::Split(at, how) => {
                for a in 0..at {
                    for b in at..net.len() {
                        net.cut(a, b, how);
                    }
                }
            }
            Self::Heal => net.heal_all(),
            Self::Pause(ix, time) if runs(net, ix) => net.pause(ix, time),
            Self::PauseMaster(time) => {
                if let Some(master) = net.master() {
                    net.pause(master, time);
                }
            }
            Self::Reset(a, b) => net.reset(a, b),
            Self::HalfOpen(a, b) => net.kill_silently(a, b),
            Self::StopReading(ix, to) => {
                for wire in net.between(ix, to) {
                    net.stop_reading(ix, wire);
                }
            }
            Self::ResumeReading => net.resume_all_reading(),
            Self::Disks(time) => net.settings.persist = (Duration::ZERO, time),
            Self::DiskFails(ix) if runs(net, ix) => net.fail_disk(ix),
            Self::Leave(ix) if listens(net, ix) => net.command(ix, Command::Leave),
            Self::LeaveMaster => {
                if let Some(master) = net.master().filter(|master| listens(net, *master)) {
                    net.command(master, Command::Leave);
                }
            }
            Self::ResignMaster => {
                if let Some(master) = net.master().filter(|master| listens(net, *master)) {
                    net.command(master, Command::Resign);
                }
            }
            Self::SlowMaster(by) => {
                if let Some(master) = net.master() {
                    net.slow_down(master, by);
                }
            }
            Self::NameGone(ix) => net.redirect(&Net::address(ix), None),
            Self::NameMoved(from, to) if from != to => net.redirect(&Net::address(from), Some(Target::Node(to))),
            Self::Contact(ix, of) if listens(net, ix) => {
                let contact = net.host(of).config.address().clone();
                net.command(ix, Command::AddContacts(vec![contact]));
            }
            Self::Metadata(ix, data) if listens(net, ix) => {
                net.command(ix, Command::SetMetadata(Bytes::copy_from_slice(&data.to_be_bytes())));
            }
            Self::Intruder(ix, how) if net.intrude(ix, how) => {}
            Self::Times(ix, pace) => {
                net.crash_if(ix, |_, _| true, Crash::Process);
                net.set_timing(ix, pace.timing());
                net.start(ix);
            }
            Self::ChangeKey if net.change_next_key() => {}
            _ => return,
        }
        net.watch.tally.count(self.name());
    }

    /// The name of the fault in a [`Tally`](crate::Tally).
    fn name(self) -> &'static str {
        match self {
            Self::Crash { forget: true, .. } => "fault: crash and forget",
            Self::Crash { how: Crash::Process, .. } => "fault: crash of a process",
            Self::Crash { how: Crash::Machine, .. } => "fault: crash of a machine",
            Self::CrashMaster(_) => "fault: crash of the master",
            Self::Start(_) => "fault: restart",
            Self::Twin(_) => "fault: twin",
            Self::Liar(_) => "fault: liar",
            Self::Cut(_, _, Cut::Hold) => "fault: cut that holds data back",
            Self::Cut(_, _, Cut::Lose) => "fault: cut that loses data",
            Self::CutOneWay(..) => "fault: cut one way",
            Self::Isolate(..) => "fault: node isolated",
            Self::IsolateMaster(_) => "fault: master isolated",
            Self::Split(..) => "fault: partition",
            Self::Heal => "fault: all cuts healed",
            Self::Pause(..) => "fault: pause",
            Self::PauseMaster(_) => "fault: pause of the master",
            Self::Reset(..) => "fault: reset",
            Self::HalfOpen(..) => "fault: half-open",
            Self::StopReading(..) => "fault: reader stops",
            Self::ResumeReading => "fault: readers resume",
            Self::Disks(_) => "fault: slow disks",
            Self::DiskFails(_) => "fault: disk fails",
            Self::Leave(_) => "fault: leave",
            Self::LeaveMaster => "fault: leave of the master",
            Self::ResignMaster => "fault: resignation of the master",
            Self::SlowMaster(_) => "fault: slow master",
            Self::NameGone(_) => "fault: name does not resolve",
            Self::NameMoved(..) => "fault: name moved",
            Self::Contact(..) => "fault: contact added",
            Self::Metadata(..) => "fault: metadata",
            Self::Intruder(_, Intrusion::Forges) => "fault: intruder forges a proof",
            Self::Intruder(_, Intrusion::Flips) => "fault: intruder flips a bit of a proof",
            Self::Intruder(_, Intrusion::Reflects) => "fault: intruder reflects a proof",
            Self::Intruder(_, Intrusion::Replays) => "fault: intruder replays a connection",
            Self::Intruder(_, Intrusion::Skips) => "fault: intruder skips the proof",
            Self::Intruder(_, Intrusion::Ignores) => "fault: intruder names no key",
            Self::Times(_, Pace::Usual) => "fault: usual times",
            Self::Times(_, Pace::Fast) => "fault: fast times",
            Self::Times(_, Pace::Slow) => "fault: slow times",
            Self::ChangeKey => "fault: change of key",
        }
    }
}
