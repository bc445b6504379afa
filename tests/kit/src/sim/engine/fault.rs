//! Faults and repairs as plain data, so that a run can be repeated without some of them.

use std::time::Duration;

use formation_core::Command;

use super::{Crash, Cut, Net, NodeIx, Watch};

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
}

impl Fault {
    /// Applies the fault to the network. Returns whether the fault was possible.
    pub fn apply<W: Watch>(self, net: &mut Net<W>) -> bool {
        let runs = |net: &Net<W>, ix: NodeIx| net.host(ix).formation.is_some();
        match self {
            Self::Crash { ix, how, forget } if runs(net, ix) => {
                net.crash(ix, how);
                if forget {
                    net.forget(ix);
                }
            }
            Self::Start(ix) if !net.living().contains(&ix) => {
                if runs(net, ix) {
                    net.crash(ix, Crash::Process);
                }
                net.start(ix);
            }
            Self::Cut(a, b, how) => net.cut(a, b, how),
            Self::CutOneWay(from, to, how) => net.cut_one_way(from, to, how),
            Self::Isolate(ix, how) => net.isolate(ix, how),
            Self::Split(at, how) => {
                for a in 0..at {
                    for b in at..net.len() {
                        net.cut(a, b, how);
                    }
                }
            }
            Self::Heal => net.heal_all(),
            Self::Pause(ix, time) if runs(net, ix) => net.pause(ix, time),
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
            Self::Leave(ix) if net.listens(ix) => net.command(ix, Command::Leave),
            Self::CrashMaster(_)
            | Self::IsolateMaster(_)
            | Self::PauseMaster(_)
            | Self::LeaveMaster
            | Self::ResignMaster
            | Self::SlowMaster(_) => {
                let Some(master) = net.master() else { return false };
                return self.strike_master(net, master);
            }
            Self::Crash { .. } | Self::Start(_) | Self::Pause(..) | Self::DiskFails(_) | Self::Leave(_) => {
                return false;
            }
        }
        true
    }

    /// Returns whether the fault was possible.
    fn strike_master<W: Watch>(self, net: &mut Net<W>, master: NodeIx) -> bool {
        match self {
            Self::CrashMaster(how) => net.crash(master, how),
            Self::IsolateMaster(how) => net.isolate(master, how),
            Self::PauseMaster(time) => net.pause(master, time),
            Self::LeaveMaster if net.listens(master) => net.command(master, Command::Leave),
            Self::ResignMaster if net.listens(master) => net.command(master, Command::Resign),
            Self::SlowMaster(by) => net.slow_down(master, by),
            // A paused master gets no commands.
            Self::LeaveMaster | Self::ResignMaster => return false,
            Self::Crash { .. }
            | Self::Start(_)
            | Self::Cut(..)
            | Self::CutOneWay(..)
            | Self::Isolate(..)
            | Self::Split(..)
            | Self::Heal
            | Self::Pause(..)
            | Self::Reset(..)
            | Self::HalfOpen(..)
            | Self::StopReading(..)
            | Self::ResumeReading
            | Self::Disks(_)
            | Self::DiskFails(_)
            | Self::Leave(_) => debug_assert!(false, "{self:?} is no fault of the master"),
        }
        true
    }

    /// A name for the kind of the fault.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash { forget: true, .. } => "fault: crash and forget",
            Self::Crash { how: Crash::Process, .. } => "fault: crash of a process",
            Self::Crash { how: Crash::Machine, .. } => "fault: crash of a machine",
            Self::CrashMaster(_) => "fault: crash of the master",
            Self::Start(_) => "fault: restart",
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Settings, *};

    #[test]
    fn a_fault_of_the_master_needs_a_master() {
        let mut net = Net::new(1, Settings::calm(), ());
        let (long, kill) = (Duration::from_secs(1), Fault::CrashMaster(Crash::Process));
        let faults = [kill, Fault::IsolateMaster(Cut::Hold), Fault::PauseMaster(long), Fault::ResignMaster];
        for fault in faults.into_iter().chain([Fault::LeaveMaster, Fault::SlowMaster(long)]) {
            assert!(!fault.apply(&mut net), "{fault:?}");
        }
    }
}
