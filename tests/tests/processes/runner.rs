//! Runs rounds, and measures how long the nodes take to recover.

use std::{collections::BTreeSet, time::Duration};

use formation_core::Term;

use crate::{
    cluster::{Cluster, now, time_until_led, time_until_whole, timing},
    round::{Fault, FaultKind, NetworkCondition, Round},
};

/// The result of a round.
#[derive(Default)]
pub(crate) struct Outcome {
    /// The time from the faults until another node was master, if this happened before the faults ended.
    pub(crate) failover: Option<Duration>,
    /// The time from the end of the faults until the cluster was whole again.
    pub(crate) whole: Duration,
    /// The cluster was not whole before the faults. This happens when the processes get too little processor time.
    pub(crate) starved: bool,
}

/// Starts all nodes at once. The lowest id becomes master (G6).
pub(crate) fn form(cluster: &mut Cluster) -> Result<Duration, String> {
    for number in 0..cluster.machines.len() {
        cluster.start(number);
    }
    let ((), time) =
        cluster.wait_until(time_until_whole(cluster.voters), "all nodes have formed one cluster", |cluster| {
            cluster.is_whole().then_some(())
        })?;
    match cluster.history.master_of(Term(1)) {
        Some(master) if cluster.machines[0].node() == Some(master) => Ok(time),
        other => Err(format!("G6: the first master is {other:?}")),
    }
}

/// Runs a round. The cluster is whole before it and after it.
pub(crate) fn run_round(cluster: &mut Cluster, round: &Round) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    if round.grace_over {
        cluster.run_for(timing().bootstrap_wait)?;
        outcome.starved = !cluster.is_whole();
    }
    let all: Vec<usize> = (0..cluster.machines.len()).collect();
    let (master, _) =
        cluster.wait_until(time_until_whole(cluster.voters), "all nodes are still one cluster", |cluster| {
            cluster.leader(&all).filter(|_| cluster.is_whole())
        })?;
    if let Some(condition) = round.condition {
        apply_condition(cluster, condition);
    }
    let (all_victims, at) = (draw_victims(round, master), now());
    let (mut untouched, mut full) = (all.iter().copied().collect::<BTreeSet<usize>>(), Vec::new());
    for (fault, victims) in round.faults.iter().zip(&all_victims) {
        inject(cluster, fault.kind, victims);
        match fault.kind {
            // Both of them still reach all others. If one is the master, it stays, and the other has none.
            FaultKind::CutTwo => {
                let without = victims.iter().rfind(|victim| **victim != master);
                untouched.remove(without.expect("two machines are cut off from each other"));
            }
            FaultKind::Partition if voters(cluster, victims) >= quorum(cluster) => {
                untouched.retain(|number| victims.contains(number));
            }
            // They may have to wait with a vote, but they follow, and one of them can have voted before.
            FaultKind::Fill => full.extend(victims),
            _ => untouched.retain(|number| !victims.contains(number)),
        }
    }
    let untouched: Vec<usize> = untouched.into_iter().collect();
    let able: Vec<usize> = untouched.iter().copied().filter(|number| !full.contains(number)).collect();
    if round.awaits_master && round.condition.is_none() && voters(cluster, &able) >= quorum(cluster) {
        let what = format!("machines {untouched:?} follow a master among them");
        let (leader, _) =
            cluster.wait_until(time_until_led(cluster.voters), &what, |cluster| cluster.leader(&untouched))?;
        let another = cluster.machines[leader].node().filter(|_| leader != master);
        let since = another.and_then(|node| cluster.history.leads_since(node));
        outcome.failover = since.map(|since| Duration::from_micros(since.saturating_sub(at)));
    }
    cluster.run_for(round.lasts)?;
    for (fault, victims) in round.faults.iter().zip(&all_victims) {
        if fault.kind == FaultKind::Leave {
            for victim in victims {
                cluster.wait_for_leave(*victim, time_until_led(cluster.voters))?;
            }
        }
    }
    heal(cluster, round);
    ((), outcome.whole) =
        cluster.wait_until(time_until_whole(cluster.voters), "all nodes are one cluster again", |cluster| {
            cluster.is_whole().then_some(())
        })?;
    cluster.history.one_master_at_a_time()?;
    Ok(outcome)
}

/// Makes all nodes leave.
pub(crate) fn disband(cluster: &mut Cluster) -> Result<(), String> {
    for machine in &mut cluster.machines {
        machine.terminate();
    }
    for number in 0..cluster.machines.len() {
        cluster.wait_for_leave(number, time_until_led(cluster.voters))?;
    }
    cluster.history.one_master_at_a_time()
}

fn quorum(cluster: &Cluster) -> usize {
    cluster.voters / 2 + 1
}

/// The number of voters among these machines.
fn voters(cluster: &Cluster, machines: &[usize]) -> usize {
    machines.iter().filter(|number| **number < cluster.voters).count()
}

/// The victims of each fault. No machine is the victim of two faults.
fn draw_victims(round: &Round, master: usize) -> Vec<Vec<usize>> {
    let aimed = round.faults.iter().any(|fault| fault.at_master);
    let first = aimed.then_some(master);
    let mut order = first.into_iter().chain(round.order.iter().copied().filter(|number| Some(*number) != first));
    round.faults.iter().map(|Fault { count, .. }| order.by_ref().take(*count).collect()).collect()
}

fn inject(cluster: &mut Cluster, kind: FaultKind, victims: &[usize]) {
    let is = |number: usize| victims.contains(&number);
    match kind {
        FaultKind::Kill => victims.iter().for_each(|victim| cluster.machines[*victim].kill()),
        FaultKind::Vanish => {
            cluster.router.change(|from, to, path| path.cut |= is(from) || is(to));
            victims.iter().for_each(|victim| cluster.machines[*victim].kill());
        }
        FaultKind::Stop => victims.iter().for_each(|victim| cluster.machines[*victim].stop()),
        FaultKind::Leave => victims.iter().for_each(|victim| cluster.machines[*victim].terminate()),
        FaultKind::Partition => cluster.router.change(|from, to, path| path.cut |= is(from) != is(to)),
        FaultKind::BlockOutgoing => cluster.router.change(|from, to, path| path.cut |= is(from) && !is(to)),
        FaultKind::BlockIncoming => cluster.router.change(|from, to, path| path.cut |= !is(from) && is(to)),
        FaultKind::CutTwo => {
            let ends = [victims[0], victims[victims.len() - 1]];
            cluster.router.change(|from, to, path| path.cut |= [[from, to], [to, from]].contains(&ends));
        }
        FaultKind::Reset => victims.iter().for_each(|victim| cluster.machines[*victim].reset()),
        FaultKind::Fill => victims.iter().for_each(|victim| cluster.machines[*victim].fill_disk()),
    }
}

fn apply_condition(cluster: &Cluster, condition: NetworkCondition) {
    match condition {
        NetworkCondition::Delayed { delay, jitter } => {
            cluster.router.change(|_, _, path| (path.delay, path.jitter) = (delay, jitter));
        }
        NetworkCondition::Lossy { percent } => {
            cluster.machines.iter().for_each(|machine| machine.drop_incoming(percent));
        }
        NetworkCondition::RateLimited { kbit } => cluster.machines.iter().for_each(|machine| machine.limit_rate(kbit)),
    }
}

/// Ends all faults.
fn heal(cluster: &mut Cluster, round: &Round) {
    cluster.router.change(|_, _, path| *path = Default::default());
    let touches_wires = round.faults.iter().any(|fault| fault.kind == FaultKind::Reset);
    for number in 0..cluster.machines.len() {
        let machine = &mut cluster.machines[number];
        if touches_wires || round.condition.is_some() {
            machine.reset_wire();
        }
        machine.free_disk();
        machine.resume();
        if !machine.has_process() {
            cluster.start(number);
        }
    }
}
