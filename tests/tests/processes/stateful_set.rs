//! What the guide says about a StatefulSet, shown on one: the order of the starts, a rolling update, the drain and the loss of a machine,
//! more pods and fewer, and an outage of everything.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cluster::{now, time_until_led, time_until_whole},
    pods::{StatefulSet, voters},
    sandbox::print_line,
};

/// How many pods join beside the voters.
const JOINERS: usize = 2;

/// Runs all of it.
///
/// # Errors
/// What does not hold.
pub(crate) fn run(programs: &[PathBuf], dir: &Path) -> Result<(), String> {
    let mut set = StatefulSet::new(programs, dir);
    let voters = voters();
    print_line("a StatefulSet:");
    form(&mut set, voters)?;
    for (step, play) in [
        ("rolling update", rolling_update as fn(&mut StatefulSet, usize) -> Result<(), String>),
        ("drain of the master's machine", drain),
        ("loss of the master's machine", lose_a_machine),
        ("scaled up and down", scale),
        ("outage of all machines", lose_all),
        ("deleted", delete_all),
    ] {
        let since = now();
        play(&mut set, voters).map_err(|problem| format!("{step}: {problem}"))?;
        set.history.one_master_at_a_time().map_err(|problem| format!("{step}: {problem}"))?;
        print_line(&format!("  {step}: {:.1} s", Duration::from_micros(now() - since).as_secs_f64()));
    }
    print_line(&format!("the StatefulSet held, with {} masters", set.history.terms()));
    Ok(())
}

/// Waits until all pods are ready and have one master.
fn whole(set: &mut StatefulSet, voters: usize) -> Result<usize, String> {
    set.wait_until(time_until_whole(voters), "all pods are ready and follow one master", |set| {
        set.master().filter(|_| set.all_ready())
    })
}

/// The first pod alone is not ready. With `OrderedReady`, there would be no second one.
fn form(set: &mut StatefulSet, voters: usize) -> Result<(), String> {
    set.start(0);
    set.wait_until(time_until_whole(voters), "the first pod reports that it has no master", |set| {
        set.has_reported_no_master(0).then_some(())
    })?;
    let (status, why) = set.readiness(0).ok_or("the first pod does not answer")?;
    assert!(set.is_alive(0), "a pod without a master is not alive");
    assert_eq!((status, why.as_str()), (503, "this node is no member of a cluster yet\n"));
    (1..voters).for_each(|ordinal| set.start(ordinal));
    whole(set, voters).map(drop)
}

/// From the last pod to the first one, each when the one before it is ready. The others stay ready, and have a master but for the time
/// of a hand-over.
fn rolling_update(set: &mut StatefulSet, voters: usize) -> Result<(), String> {
    let since = now();
    for ordinal in (0..voters).rev() {
        set.delete(ordinal)?;
        assert!(set.all_ready(), "a pod is not ready while pod {ordinal} is replaced");
        set.start(ordinal);
        set.wait_until(time_until_whole(voters), &format!("the new pod {ordinal} is ready"), |set| {
            assert!((0..voters).all(|other| other == ordinal || set.is_ready(other)), "another pod is not ready");
            set.is_ready(ordinal).then_some(())
        })?;
    }
    whole(set, voters)?;
    bounded_gap(set, since, voters)
}

/// A drain evicts a pod as the budget permits, and the pod is started elsewhere, later.
fn drain(set: &mut StatefulSet, voters: usize) -> Result<(), String> {
    let (since, master) = (now(), whole(set, voters)?);
    set.delete(master)?;
    let next = whole(set, voters)?;
    assert_ne!(next, master);
    set.start(master);
    whole(set, voters)?;
    bounded_gap(set, since, voters)
}

/// The machine of the master loses power. Its pod is started elsewhere, when the others have long had a master.
fn lose_a_machine(set: &mut StatefulSet, voters: usize) -> Result<(), String> {
    let (since, master) = (now(), whole(set, voters)?);
    set.lose(master);
    whole(set, voters)?;
    set.start(master);
    whole(set, voters)?;
    bounded_gap(set, since, voters)
}

/// Pods beyond the voters only join. They come and go without an election.
fn scale(set: &mut StatefulSet, voters: usize) -> Result<(), String> {
    let (before, terms) = (whole(set, voters)?, set.history.terms());
    (voters..voters + JOINERS).for_each(|ordinal| set.start(ordinal));
    assert_eq!(whole(set, voters)?, before);
    for ordinal in (voters..voters + JOINERS).rev() {
        set.delete(ordinal)?;
        assert_eq!(whole(set, voters)?, before);
    }
    assert_eq!(set.history.terms(), terms, "pods that only join have caused an election");
    Ok(())
}

/// All machines lose power. The pods come back all at once, each at the IP that another one had, and the names still lead to the old ones.
fn lose_all(set: &mut StatefulSet, voters: usize) -> Result<(), String> {
    let mut addresses: Vec<_> = (0..voters).map(|ordinal| set.lose(ordinal)).collect();
    addresses.rotate_left(1);
    for (ordinal, address) in addresses.into_iter().enumerate() {
        set.start_at(ordinal, address);
    }
    whole(set, voters).map(drop)
}

/// The last voters leave without a master.
fn delete_all(set: &mut StatefulSet, voters: usize) -> Result<(), String> {
    (0..voters).rev().try_for_each(|ordinal| set.delete(ordinal))
}

/// G5: a lease that nobody gives up has to end, and then an election has to succeed.
fn bounded_gap(set: &StatefulSet, since: u64, voters: usize) -> Result<(), String> {
    let (gap, limit) = (set.longest_gap(since), time_until_led(voters));
    print_line(&format!("  at most {:.0} ms without a master", gap.as_secs_f64() * 1_000.0));
    if gap <= limit { Ok(()) } else { Err(format!("G5: {gap:?} without a master, more than {limit:?}")) }
}
