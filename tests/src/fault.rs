//! Faults and repairs as plain data, so that a run can be repeated without some of them.

use std::time::Duration;

use bytes::Bytes;
use formation_core::{Command, Phase, Timing};
use formation_testing::sim::engine::Fault as Of;

use crate::{Crash, Cut, NodeIx, Rng, Target, electorates::is_only_a_member, keys::Intrusion, net::Net};

/// A fault, or the repair of one. A fault that is not possible, such as the crash of a node that does not run, has no
/// effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A fault of nodes, disks or connections.
    Of(Of),
    /// A second node with the same id starts at its own address.
    Twin(NodeIx),
    /// A node with another id starts and claims the address of this voter. The address still leads to the voter.
    Liar(NodeIx),
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
    /// The master is asked for other voters (E10). Bit 0 stands for node 0, and so on.
    Voters(u16),
    /// The machine of a node that is no voter, and is to become none, is replaced: another one with an empty disk has its address.
    Replaced(NodeIx),
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
        let times = |heartbeat, lease, bootstrap| {
            Timing::lan()
                .with_heartbeat_interval(ms(heartbeat))
                .with_lease(ms(lease))
                .with_bootstrap_wait(ms(bootstrap))
        };
        match self {
            Self::Usual => Timing::lan(),
            Self::Fast => times(100, 400, 600).with_election_timeout(ms(300)),
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
        Self::Of(match rng.below(25) {
            0..=1 => Of::Crash { ix, how: crash, forget },
            2..=3 if !forget => Of::CrashMaster(crash),
            2..=3 => Of::Crash { ix, how: crash, forget },
            4..=7 => Of::Start(ix),
            8 => Of::Cut(ix, other, cut),
            9..=10 => Of::CutOneWay(ix, other, cut),
            11 => Of::Isolate(ix, cut),
            12 => Of::IsolateMaster(cut),
            13 => Of::Split(ix, cut),
            14..=15 => Of::Heal,
            16 => Of::Pause(ix, time),
            17 => Of::PauseMaster(time),
            18 => Of::Reset(ix, other),
            19 => Of::HalfOpen(ix, other),
            20 => Of::StopReading(ix, other),
            21 => Of::ResumeReading,
            22 if rng.one_in(3) => Of::DiskFails(ix),
            22 => Of::Disks(time / 20),
            23 if rng.one_in(3) => return Self::Twin(ix),
            23 => Of::Leave(ix),
            _ => return Self::Metadata(ix, rng.draw()),
        })
    }

    /// A random fault that partitions a cluster, so that a part continues without a quorum (E8), or a repair that lets
    /// the parts meet.
    pub fn draw_partition(rng: &mut Rng, nodes: usize) -> Self {
        let ix = rng.below(nodes);
        let other = (ix + 1 + rng.below(nodes.max(2) - 1)) % nodes;
        let cut = if rng.one_in(2) { Cut::Hold } else { Cut::Lose };
        let crash = if rng.one_in(2) { Crash::Process } else { Crash::Machine };
        Self::Of(match rng.below(10) {
            0..=2 => Of::Split(ix, cut),
            3 => Of::Isolate(ix, cut),
            4 => Of::IsolateMaster(cut),
            5 => Of::Cut(ix, other, cut),
            6 => Of::Crash { ix, how: crash, forget: false },
            7 => Of::Start(ix),
            _ => Of::Heal,
        })
    }

    /// A random fault of leaving, of names, of a slow master, or of a pause close to a timeout, for a network of
    /// `nodes` with these voters.
    pub fn draw_more(rng: &mut Rng, nodes: usize, voters: usize) -> Self {
        let ix = rng.below(nodes);
        let (voter, other) = (rng.below(voters), rng.below(voters));
        // Around each timeout of the default configuration: a heartbeat, suspicion, the lease, and down.
        let timeout = [200, 600, 1_000, 3_000][rng.below(4)];
        let around = Duration::from_millis([timeout - 50, timeout, timeout + 50][rng.below(3)]);
        Self::Of(match rng.below(10) {
            9 => Of::ResignMaster,
            0 => Of::LeaveMaster,
            1 => Of::Leave(ix),
            2 => Of::Start(ix),
            3 => Of::SlowMaster(around),
            4 => return Self::NameGone(voter),
            5 => return Self::NameMoved(voter, other),
            6 => return Self::Contact(ix, rng.below(nodes)),
            7 => Of::Pause(ix, around),
            _ => Of::PauseMaster(around),
        })
    }

    /// A random change of the times of a voter.
    pub fn draw_times(rng: &mut Rng, voters: usize) -> Self {
        Self::Times(rng.below(voters), [Pace::Usual, Pace::Fast, Pace::Slow][rng.below(3)])
    }

    /// A random change of the voters of a network of `nodes`, or what may happen meanwhile.
    pub fn draw_voters(rng: &mut Rng, nodes: usize) -> Self {
        let crash = if rng.one_in(2) { Crash::Process } else { Crash::Machine };
        match rng.below(12) {
            0..=5 => {
                let most = 1 + rng.below(nodes.min(5));
                Self::Voters((0..most).fold(0, |voters, _| voters | 1 << rng.below(nodes)))
            }
            6..=7 => Self::Replaced(rng.below(nodes)),
            8 => Self::Of(Of::CrashMaster(crash)),
            9 => Self::Of(Of::ResignMaster),
            10 => Self::Of(Of::IsolateMaster(if rng.one_in(2) { Cut::Hold } else { Cut::Lose })),
            _ => Self::Of(Of::Start(rng.below(nodes))),
        }
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
        match self {
            Self::Of(fault) if fault.apply(net) => {}
            Self::Twin(of) => net.start_twin(of),
            Self::Liar(of) => net.start_liar(of),
            Self::NameGone(ix) => net.redirect(&Net::address(ix), None),
            Self::NameMoved(from, to) if from != to => net.redirect(&Net::address(from), Some(Target::Node(to))),
            Self::Contact(ix, of) if net.listens(ix) => {
                let contact = net.host(of).config.address().clone();
                net.command(ix, Command::AddContacts(vec![contact]));
            }
            Self::Metadata(ix, data) if net.listens(ix) => {
                net.command(ix, Command::SetMetadata(Bytes::copy_from_slice(&data.to_be_bytes())));
            }
            Self::Intruder(ix, how) if net.intrude(ix, how) => {}
            Self::Times(ix, pace) => {
                net.crash_if(ix, |_, _| true, Crash::Process);
                net.set_timing(ix, pace.timing());
                net.start(ix);
            }
            Self::ChangeKey if net.change_next_key() => {}
            Self::Voters(nodes) => match net.master() {
                Some(master) if net.listens(master) && net.status(master).phase == Phase::Master => {
                    let wanted = (0..net.len()).filter(|ix| nodes >> ix & 1 == 1);
                    let wanted = wanted.map(|ix| net.host(ix).config.address().clone()).collect();
                    net.command(master, Command::SetVoters(wanted));
                }
                _ => return,
            },
            Self::Replaced(ix) if is_only_a_member(net, ix) => {
                net.crash_if(ix, |_, _| true, Crash::Machine);
                net.forget(ix);
                net.start(ix);
            }
            _ => return,
        }
        net.watch.tally.count(self.name());
    }

    /// The name of the fault in a [`Tally`](crate::Tally).
    fn name(self) -> &'static str {
        match self {
            Self::Of(fault) => fault.name(),
            Self::Twin(_) => "fault: twin",
            Self::Liar(_) => "fault: liar",
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
            Self::Voters(_) => "fault: change of voters",
            Self::Replaced(_) => "fault: machine replaced",
        }
    }
}
