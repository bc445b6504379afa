//! Voters that change while the cluster runs (PROTOCOL.md, E10).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{collections::BTreeSet, time::Duration};

use formation_core::{
    Address, Command, Electorate, Event, Input, Limits, LossReason, Misuse, Term,
    message::{Message, Role},
};
use formation_tests::{Crash, Cut, Net, NetSettings, NodeIx, Peer, Rig, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// A new voter has to be known to be at its address: by its certificate with every other seed, and otherwise because the master has
/// reached it there.
pub(crate) fn settings(seed: u64) -> NetSettings {
    NetSettings { certified: seed.is_multiple_of(2), ..NetSettings::default() }
}

pub(crate) fn addresses(nodes: &[NodeIx]) -> BTreeSet<Address> {
    nodes.iter().map(|ix| Address::new(Net::address(*ix)).unwrap()).collect()
}

/// The master is asked for these voters.
fn set_voters(net: &mut Net, nodes: &[NodeIx]) -> NodeIx {
    let master = net.master().unwrap();
    net.command(master, Command::SetVoters(addresses(nodes)));
    master
}

fn electorate(net: &Net, ix: NodeIx) -> &Electorate {
    net.host(ix).formation.as_ref().unwrap().electorate()
}

/// Whether all living nodes hold this electorate and nothing more is to change.
fn have_voters(net: &Net, nodes: &[NodeIx]) -> bool {
    let voters = addresses(nodes);
    net.living().into_iter().all(|ix| {
        let held = electorate(net, ix);
        held.voters == voters && held.target.is_none()
    })
}

fn await_voters(net: &mut Net, nodes: &[NodeIx]) {
    let done = net.run_until(PATIENCE, |net| net.converged() && have_voters(net, nodes));
    let held: Vec<String> = net.living().into_iter().map(|ix| electorate(net, ix).to_string()).collect();
    net.expect(done, &format!("the voters {nodes:?} are not reached: {held:?}"));
}

fn change(net: &mut Net, nodes: &[NodeIx]) {
    set_voters(net, nodes);
    await_voters(net, nodes);
}

fn misuse(net: &mut Net, ix: NodeIx, nodes: &[NodeIx]) -> Misuse {
    let now = net.host(ix).clock.local(net.now().as_micros() as u64);
    let formation = net.host_mut(ix).formation.as_mut().unwrap();
    formation.handle_input(now, Input::Command(Command::SetVoters(addresses(nodes)))).unwrap_err()
}

fn masters_lost(net: &Net, since: Duration) -> usize {
    let lost = |event: &Event| matches!(event, Event::MasterLost { .. });
    (0..net.len()).map(|ix| net.count(ix, since, lost)).sum()
}

fn crash_all(net: &mut Net, nodes: &[NodeIx]) {
    nodes.iter().for_each(|ix| net.crash(*ix, Crash::Machine));
}

#[test]
fn e10_one_node_grows_to_three_and_to_five() {
    for_each_seed(20, |seed| {
        let mut net = Net::formed(seed, (1, 4), settings(seed));
        change(&mut net, &[0, 1, 2]);
        change(&mut net, &[0, 1, 2, 3, 4]);
        net.expect(masters_lost(&net, Duration::ZERO) == 0, "a master is lost");
        crash_all(&mut net, &[0, 1]);
        net.converge(PATIENCE);
        change(&mut net, &[2]);
    });
}

#[test]
fn e10_a_dead_voter_is_replaced_while_the_master_stays() {
    for_each_seed(20, |seed| {
        let mut net = Net::formed(seed, (3, 1), settings(seed));
        let master = net.master().unwrap();
        let dead = (master + 1) % 3;
        net.crash(dead, Crash::Machine);
        net.run_for(5 * SECOND);
        let others: Vec<NodeIx> = (0..4).filter(|ix| *ix != dead).collect();
        change(&mut net, &others);
        net.expect(net.master() == Some(master) && masters_lost(&net, Duration::ZERO) == 0, "the master is lost");
        // The new voter counts: without one of the old ones, the others elect the next master.
        net.crash(master, Crash::Process);
        net.converge(PATIENCE);
    });
}

#[test]
fn e10_a_removed_voter_is_an_ordinary_member() {
    for_each_seed(20, |seed| {
        let mut net = Net::formed(seed, (3, 2), settings(seed));
        let master = net.master().unwrap();
        let removed = (master + 1) % 3;
        let rest: Vec<NodeIx> = (0..5).filter(|ix| *ix != removed && *ix != 4).collect();
        change(&mut net, &rest);
        net.expect(!net.status(removed).can_vote, "it still votes");
        for ix in rest {
            net.crash(ix, Crash::Process);
        }
        let leads = net.run_until(PATIENCE, |net| !net.masters().is_empty());
        net.expect(!leads, "there is a master without any voter");
        (0..4).filter(|ix| *ix != removed).for_each(|ix| net.start(ix));
        net.converge(PATIENCE);
        net.expect(net.master() != Some(removed), "it leads");
    });
}

#[test]
fn e10_a_master_that_is_removed_hands_over() {
    for_each_seed(20, |seed| {
        let mut net = Net::formed(seed, (3, 1), settings(seed));
        net.run_for(4 * SECOND);
        let since = net.now();
        let first = net.master().unwrap();
        let rest: Vec<NodeIx> = (0..4).filter(|ix| *ix != first).collect();
        change(&mut net, &rest);
        let lost = |event: &Event| matches!(event, Event::MasterLost { reason: LossReason::Resigned, .. });
        net.expect(net.count(first, since, lost) == 1, "it has not handed over once");
        net.expect(masters_lost(&net, since) <= net.len(), "a master is lost twice");
        net.expect(net.living().len() == 4 && net.master() != Some(first), "it is no member, or leads again");
    });
}

/// It dies after each of the steps.
#[test]
fn e10_the_next_master_finishes_what_a_dead_one_has_begun() {
    for steps in 0..4 {
        for_each_seed(10, |seed| {
            let mut net = Net::formed(seed, (3, 2), settings(seed));
            net.run_for(4 * SECOND);
            let first = net.master().unwrap();
            let stays = (first + 1) % 3;
            let first_number = electorate(&net, first).version.number;
            set_voters(&mut net, &[stays, 3, 4]);
            let target = |net: &mut Net| electorate(net, first).version.number > first_number + steps;
            let begun = net.run_until(PATIENCE, target);
            net.expect(begun, "the master makes no step");
            // The record is on a voter that lives on.
            let known = |net: &mut Net| {
                let others = (0..3).filter(|ix| *ix != first);
                others.into_iter().any(|ix| electorate(net, ix).version.number > first_number)
            };
            let known = net.run_until(PATIENCE, known);
            net.expect(known, "no other voter learns the target");
            net.crash(first, Crash::Machine);
            await_voters(&mut net, &[stays, 3, 4]);
        });
    }
}

/// The master dials it to see whether it is at its address, while it has a link already.
#[test]
fn e10_h11_a_member_is_proven_although_all_places_are_taken() {
    for_each_seed(10, |seed| {
        let mut net = Net::new(seed, NetSettings { certified: false, ..settings(seed) });
        for ix in 0..5 {
            let limits = Limits::new().with_connections(5);
            net.add(Net::builder(ix, 3).limits(limits).key(*b"as secret as it can be in a test").build().unwrap());
        }
        net.start_all();
        net.converge(PATIENCE);
        let first = net.master().unwrap();
        change(&mut net, &[first, 3, 4]);
    });
}

/// The electorate that a node has begun to store, and does not act by yet.
fn being_stored(net: &Net, ix: NodeIx) -> Option<u64> {
    let (_, state) = net.host(ix).persisting.as_ref()?;
    state.electorate.as_ref().map(|electorate| electorate.version.number)
}

/// The voters were told a step that the new voter was not told. Then the master dies, and only after the new voter has reported that it
/// has no master, the step is durable on the others.
#[test]
fn e10_a_voter_without_a_master_is_told_what_is_durable_late() {
    for_each_seed(10, |seed| {
        let mut net = Net::formed(seed, (3, 2), settings(seed));
        net.run_for(4 * SECOND);
        let first = net.master().unwrap();
        let others: Vec<NodeIx> = (0..3).filter(|ix| *ix != first).collect();
        net.cut(first, 3, Cut::Lose);
        net.run_for(4 * SECOND);
        set_voters(&mut net, &[others[0], 3]);
        let record = electorate(&net, first).version.number + 1;
        let hold = |net: &mut Net| others.iter().all(|ix| electorate(net, *ix).version.number == record);
        let recorded = net.run_until(PATIENCE, hold);
        net.expect(recorded, "the voters do not learn the target");
        let quick = net.settings.persist;
        net.settings.persist = (SECOND / 5, SECOND / 5);
        net.heal_all();
        let step = record + 1;
        let begun = net.run_until(PATIENCE, |net| being_stored(net, first) == Some(step));
        net.expect(begun, "the master adds no voter");
        net.settings.persist = (3 * SECOND, 3 * SECOND);
        net.cut(first, 3, Cut::Lose);
        let told = net.run_until(PATIENCE, |net| others.iter().all(|ix| being_stored(net, *ix) == Some(step)));
        net.expect(told, "the voters are not told");
        net.crash(first, Crash::Machine);
        net.settings.persist = quick;
        net.run_for(2 * SECOND);
        let is_late = |ix: &NodeIx| electorate(&net, *ix).version.number < step;
        net.expect(others.iter().chain(&[3]).all(is_late) && net.status(3).master.is_none(), "a voter was told before");
        await_voters(&mut net, &[others[0], 3]);
    });
}

#[test]
fn e10_a_change_on_the_minority_side_is_rolled_back() {
    for_each_seed(20, |seed| {
        let mut net = Net::formed(seed, (3, 2), settings(seed));
        net.run_for(4 * SECOND);
        let first = net.master().unwrap();
        for (here, there) in [first, 3].into_iter().flat_map(|here| (0..5).map(move |there| (here, there))) {
            if ![first, 3].contains(&there) {
                net.cut(here, there, Cut::Lose);
            }
        }
        set_voters(&mut net, &[first, 3]);
        net.run_for(8 * SECOND);
        let held = electorate(&net, first).clone();
        net.expect(held.target == Some(addresses(&[first, 3])) && held.voters.len() == 3, "it has gone too far");
        net.heal_all();
        await_voters(&mut net, &[0, 1, 2]);
        net.expect(net.watch.tally.of("electorate rolled back") > 0, "nothing is rolled back");
    });
}

#[test]
fn e10_a_cluster_restarts_without_any_of_its_first_voters() {
    for_each_seed(20, |seed| {
        let mut net = Net::formed(seed, (3, 3), settings(seed));
        change(&mut net, &[3, 4, 5]);
        crash_all(&mut net, &[0, 1, 2, 3, 4, 5]);
        net.run_for(SECOND);
        [3, 4, 5].into_iter().for_each(|ix| net.start(ix));
        net.converge(PATIENCE);
        net.expect(have_voters(&net, &[3, 4, 5]), "they have other voters");
        // The cluster goes on to change.
        change(&mut net, &[3]);
    });
}

#[test]
fn e10_a_new_node_joins_by_one_seed_that_is_still_a_voter() {
    for_each_seed(20, |seed| {
        let mut net = Net::formed(seed, (3, 2), settings(seed));
        change(&mut net, &[0, 3, 4]);
        crash_all(&mut net, &[1, 2]);
        let new = net.add(Net::config(5, 3));
        net.start(new);
        await_voters(&mut net, &[0, 3, 4]);
    });
}

#[test]
fn e10_a_new_node_joins_by_one_seed_that_is_only_a_member() {
    for_each_seed(20, |seed| {
        let mut net = Net::formed(seed, (3, 3), settings(seed));
        change(&mut net, &[3, 4, 5]);
        crash_all(&mut net, &[1, 2]);
        let new = net.add(Net::config(6, 3));
        net.start(new);
        await_voters(&mut net, &[3, 4, 5]);
    });
}

#[test]
fn e10_a_new_node_joins_by_a_contact_when_all_seeds_are_gone() {
    for_each_seed(20, |seed| {
        let mut net = Net::formed(seed, (3, 3), settings(seed));
        change(&mut net, &[3, 4, 5]);
        crash_all(&mut net, &[0, 1, 2]);
        let new = net.add(Net::config(6, 3));
        net.start(new);
        net.command(new, Command::AddContacts(addresses(&[4]).into_iter().collect()));
        await_voters(&mut net, &[3, 4, 5]);
    });
}

/// A former voter, or a former member.
#[test]
fn e10_a_node_that_was_down_meanwhile_comes_back_by_a_contact() {
    for back in [2, 6] {
        for_each_seed(10, |seed| {
            let mut net = Net::formed(seed, (3, 4), settings(seed));
            net.crash(back, Crash::Machine);
            net.run_for(5 * SECOND);
            change(&mut net, &[3, 4, 5]);
            crash_all(&mut net, if back == 2 { &[0, 1] } else { &[0, 1, 2] });
            net.run_for(5 * SECOND);
            let since = net.now();
            let master = net.master();
            net.start(back);
            net.command(back, Command::AddContacts(addresses(&[5]).into_iter().collect()));
            await_voters(&mut net, &[3, 4, 5]);
            net.expect(masters_lost(&net, since) == 0 && net.master() == master, "it disturbs the others");
        });
    }
}

#[test]
fn e10_only_the_master_changes_the_voters() {
    let mut net = Net::formed(1, (3, 1), settings(1));
    let master = net.master().unwrap();
    let named = Some((net.node(master), net.host(master).config.address().clone()));
    for ix in (0..4).filter(|ix| *ix != master) {
        assert_eq!(misuse(&mut net, ix, &[0, 1, 3]), Misuse::NotMaster { master: named.clone() });
    }
    assert!(matches!(misuse(&mut net, master, &[]), Misuse::NumberOfVoters { count: 0, .. }));
    net.run_for(5 * SECOND);
    net.expect(have_voters(&net, &[0, 1, 2]), "something has changed");
}

#[test]
fn e10_a_member_with_votes_in_memory_does_not_become_a_voter() {
    let mut net = Net::of_voters(1, 3, settings(1));
    let forgets = net.add(Net::config(3, 3));
    net.host_mut(forgets).is_durable = false;
    net.start_all();
    net.converge(PATIENCE);
    let master = net.master().unwrap();
    let address = net.host(forgets).config.address().clone();
    assert_eq!(misuse(&mut net, master, &[0, 1, 3]), Misuse::VotesInMemory { address });
    net.run_for(5 * SECOND);
    net.expect(have_voters(&net, &[0, 1, 2]), "something has changed");
}

fn electorate_of(term: u64, number: u64, voters: &[&str]) -> Message {
    let voters: BTreeSet<Address> = voters.iter().map(|voter| Address::new(*voter).unwrap()).collect();
    let fields = ((Term(term), number), Vec::from_iter(voters), None::<Vec<Address>>);
    Message::Electorate(postcard::from_bytes(&postcard::to_stdvec(&fields).unwrap()).unwrap())
}

/// T2: whatever a node says that is no voter, the voters stay. It has dialed, or is a contact.
#[test]
fn t2_e10_the_electorate_of_a_hostile_member_changes_nothing() {
    for is_contact in [false, true] {
        let mut rig = Rig::new(Net::config(0, 3));
        let first = rig.formation.electorate().clone();
        let mut hostile = Peer::of(rig.formation.config(), "x", "x:1");
        if is_contact {
            rig.command(Command::AddContacts(vec![hostile.address.clone()]));
        }
        let mut voter = Peer::of(rig.formation.config(), "n1", "h1:1");
        let linked = rig.hello_from(&mut voter);
        rig.receive(linked, voter.joining());
        let conn = if is_contact { rig.answer("x:1") } else { rig.hello_from(&mut hostile) };
        if is_contact {
            rig.receive(conn, hostile.hello());
        }
        for (term, voters) in [(0, &["x:1"][..]), (1, &["x:1"]), (9, &["h0:1", "x:1"]), (1, &["h0:1", "h1:1", "x:1"])] {
            rig.receive(conn, electorate_of(term, 7, voters).to_frame());
            rig.receive(conn, hostile.status(term, Role::Master, Default::default()));
        }
        // A contact is believed once no voter is reached for a while.
        rig.advance(if is_contact { SECOND / 2 } else { PATIENCE });
        assert_eq!(*rig.formation.electorate(), first, "contact: {is_contact}");
        assert!(!rig.events().any(|event| matches!(event, Event::ElectorateChanged { .. })));
    }
}

/// The time of a replacement, in round trips where disks take no time, and in syncs where the network takes none.
#[test]
fn e10_a_replacement_takes_few_round_trips_and_syncs() {
    let unit = Duration::from_millis(10);
    let (none, some) = ((Duration::ZERO, Duration::ZERO), (unit, unit));
    let time = |latency, persist| {
        let mut net = Net::formed(1, (3, 1), NetSettings { latency, persist, certified: true, ..NetSettings::calm() });
        net.run_for(4 * SECOND);
        let master = net.master().unwrap();
        net.crash((master + 1) % 3, Crash::Machine);
        net.run_for(5 * SECOND);
        let since = net.now();
        let wanted: Vec<NodeIx> = (0..4).filter(|ix| *ix != (master + 1) % 3).collect();
        set_voters(&mut net, &wanted);
        let reached = |net: &mut Net| {
            let held = electorate(net, master);
            held.target.is_none() && held.voters == addresses(&wanted)
        };
        let done = net.run_until(PATIENCE, reached);
        net.expect(done, "the voters are not reached");
        (net.now() - since).as_secs_f64() / unit.as_secs_f64()
    };
    let (round_trips, syncs) = (time(some, none) / 2.0, time(none, some));
    println!(
        "a replacement takes {round_trips:.2} round trips and {syncs:.2} syncs until the master acts by the result"
    );
    assert!(round_trips <= 4.1 && syncs <= 4.1 + 1.0, "{round_trips} round trips and {syncs} syncs");
}
