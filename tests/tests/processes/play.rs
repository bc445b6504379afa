//! Plays rounds, and measures how long the nodes take to get over them.

use std::{collections::BTreeSet, time::Duration};

use formation_core::Term;

use crate::{
    cluster::{Cluster, now, timing, until_led, until_whole},
    round::{Blow, Round, Strike, Weather},
};

/// What a round did.
#[derive(Default)]
pub(crate) struct Outcome {
    /// From the blow until somebody else was the master, if that came to pass before the faults ended.
    pub(crate) failover: Option<Duration>,
    /// From the end of the faults until all was as it should be.
    pub(crate) whole: Duration,
    /// The cluster was not whole though nothing had happened to it: processes that get no time for a lease lose their master.
    pub(crate) starved: bool,
    /// A vote could not be kept.
    pub(crate) disk_failed: bool,
}

/// Starts all nodes at once. The lowest becomes the master (G6).
pub(crate) fn form(cluster: &mut Cluster) -> Result<Duration, String> {
    for number in 0..cluster.machines.len() {
        cluster.start(number);
    }
    let ((), time) = cluster.until(until_whole(cluster.voters), "all nodes have formed one cluster", |cluster| {
        cluster.is_whole().then_some(())
    })?;
    match cluster.history.master_of(Term(1)) {
        Some(master) if cluster.machines[0].node() == Some(master) => Ok(time),
        other => Err(format!("G6: the first master is {other:?}")),
    }
}

/// Plays a round. The cluster is whole before, and behind it.
pub(crate) fn play(cluster: &mut Cluster, round: &Round) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    if round.rested {
        cluster.pass(timing().bootstrap_wait)?;
        outcome.starved = !cluster.is_whole();
    }
    let everybody: Vec<usize> = (0..cluster.machines.len()).collect();
    let (master, _) = cluster.until(until_whole(cluster.voters), "all nodes are one cluster still", |cluster| {
        cluster.leader(&everybody).filter(|_| cluster.is_whole())
    })?;
    if let Some(weather) = round.weather {
        change_weather(cluster, weather);
    }
    let (struck, at) = (targets(round, master), now());
    let mut sound: BTreeSet<usize> = everybody.iter().copied().collect();
    for (strike, victims) in round.strikes.iter().zip(&struck) {
        hit(cluster, strike.blow, victims);
        match strike.blow {
            // The two of them have the others in common, and the last has no master when the first is.
            Blow::Split => drop(sound.remove(&victims[victims.len() - 1])),
            Blow::Part if voters(cluster, victims) >= quorum(cluster) => {
                sound.retain(|number| victims.contains(number));
            }
            _ => sound.retain(|number| !victims.contains(number)),
        }
    }
    let sound: Vec<usize> = sound.into_iter().collect();
    if round.awaits && round.weather.is_none() && voters(cluster, &sound) >= quorum(cluster) {
        let what = format!("machines {sound:?} follow a master among them");
        let (leader, _) = cluster.until(until_led(cluster.voters), &what, |cluster| cluster.leader(&sound))?;
        let another = cluster.machines[leader].node().filter(|_| leader != master);
        let since = another.and_then(|node| cluster.history.leads_since(node));
        outcome.failover = since.map(|since| Duration::from_micros(since.saturating_sub(at)));
    }
    cluster.pass(round.lasts)?;
    for (strike, victims) in round.strikes.iter().zip(&struck) {
        if strike.blow == Blow::Leave {
            for victim in victims {
                cluster.gone(*victim, until_led(cluster.voters))?;
            }
        }
    }
    heal(cluster, round);
    ((), outcome.whole) = cluster.until(until_whole(cluster.voters), "all nodes are one cluster again", |cluster| {
        outcome.disk_failed |= restart_who_votes_no_more(cluster);
        cluster.is_whole().then_some(())
    })?;
    cluster.history.one_master_at_a_time()?;
    Ok(outcome)
}

/// All nodes leave.
pub(crate) fn disband(cluster: &mut Cluster) -> Result<(), String> {
    for machine in &mut cluster.machines {
        machine.terminate();
    }
    for number in 0..cluster.machines.len() {
        cluster.gone(number, until_led(cluster.voters))?;
    }
    cluster.history.one_master_at_a_time()
}

fn quorum(cluster: &Cluster) -> usize {
    cluster.voters / 2 + 1
}

/// How many of these are voters.
fn voters(cluster: &Cluster, machines: &[usize]) -> usize {
    machines.iter().filter(|number| **number < cluster.voters).count()
}

/// Who is struck by each strike: nobody by two.
fn targets(round: &Round, master: usize) -> Vec<Vec<usize>> {
    let aimed = round.strikes.iter().any(|strike| strike.aimed);
    let first = aimed.then_some(master);
    let mut order = first.into_iter().chain(round.order.iter().copied().filter(|number| Some(*number) != first));
    round.strikes.iter().map(|Strike { count, .. }| order.by_ref().take(*count).collect()).collect()
}

fn hit(cluster: &mut Cluster, blow: Blow, victims: &[usize]) {
    let is = |number: usize| victims.contains(&number);
    match blow {
        Blow::Kill => victims.iter().for_each(|victim| cluster.machines[*victim].kill()),
        Blow::Vanish => {
            cluster.router.change(|from, to, path| path.cut |= is(from) || is(to));
            victims.iter().for_each(|victim| cluster.machines[*victim].kill());
        }
        Blow::Stop => victims.iter().for_each(|victim| cluster.machines[*victim].stop()),
        Blow::Leave => victims.iter().for_each(|victim| cluster.machines[*victim].terminate()),
        Blow::Part => cluster.router.change(|from, to, path| path.cut |= is(from) != is(to)),
        Blow::Mute => cluster.router.change(|from, to, path| path.cut |= is(from) && !is(to)),
        Blow::Deafen => cluster.router.change(|from, to, path| path.cut |= !is(from) && is(to)),
        Blow::Split => {
            let ends = [victims[0], victims[victims.len() - 1]];
            cluster.router.change(|from, to, path| path.cut |= [[from, to], [to, from]].contains(&ends));
        }
        Blow::Reset => victims.iter().for_each(|victim| cluster.machines[*victim].reset()),
        Blow::Fill => victims.iter().for_each(|victim| cluster.machines[*victim].fill_disk()),
    }
}

fn change_weather(cluster: &Cluster, weather: Weather) {
    match weather {
        Weather::Late { delay, jitter } => {
            cluster.router.change(|_, _, path| (path.delay, path.jitter) = (delay, jitter));
        }
        Weather::Lossy { percent } => cluster.machines.iter().for_each(|machine| machine.lose(percent)),
        Weather::Narrow { kbit } => cluster.machines.iter().for_each(|machine| machine.limit(kbit)),
    }
}

/// Ends all faults.
fn heal(cluster: &mut Cluster, round: &Round) {
    cluster.router.change(|_, _, path| *path = Default::default());
    let touches_wires = round.strikes.iter().any(|strike| strike.blow == Blow::Reset);
    for number in 0..cluster.machines.len() {
        let machine = &mut cluster.machines[number];
        if touches_wires || round.weather.is_some() {
            machine.mend_wire();
        }
        machine.free_disk();
        machine.go_on();
        if !machine.has_process() {
            cluster.start(number);
        }
    }
}

/// Whose votes could not be kept is started again, as its event asks for. Whether there was any.
fn restart_who_votes_no_more(cluster: &mut Cluster) -> bool {
    let failed = |cluster: &Cluster, number: usize| {
        cluster.machines[number].node().is_some_and(|node| cluster.history.has_failed_to_persist(node))
    };
    let failed: Vec<usize> = (0..cluster.machines.len()).filter(|number| failed(cluster, *number)).collect();
    for number in &failed {
        cluster.machines[*number].kill();
        cluster.start(*number);
    }
    !failed.is_empty()
}
