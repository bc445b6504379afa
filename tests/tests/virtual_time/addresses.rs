//! Late knowledge (PROTOCOL, "Finding each other"): addresses that come later, lead nowhere for a time, or lead elsewhere.

use std::time::Duration;

use formation_core::{Address, Command, Event};
use formation_tests::{Crash, Net, NodeIx, Settings, Target, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);

fn elected(event: &Event) -> bool {
    matches!(event, Event::MasterElected { .. })
}

fn met_itself(event: &Event) -> bool {
    matches!(event, Event::SelfDial { .. })
}

fn contacts(names: &[&str]) -> Command {
    let address = |name: &&str| Address::new(name).expect("a valid address");
    Command::AddContacts(names.iter().map(address).collect())
}

/// Three voters with a master, and a node beside them that has not started.
fn formed(seed: u64) -> (Net, NodeIx) {
    let mut net = Net::of_voters(seed, 3, Settings::default());
    let new = net.add(Net::config(3, 3));
    (0..3).for_each(|ix| net.start(ix));
    net.converge(SECOND);
    (net, new)
}

/// What a name may have led to for a time.
const ASTRAY: [Option<Target>; 4] = [None, Some(Target::Node(2)), Some(Target::Nowhere), Some(Target::Test)];

/// A dial that hangs ends, and the next begins; or an address that led to another node is looked at again.
fn patience(net: &Net) -> Duration {
    let times = net.host(0).config.timing();
    times.handshake_timeout.max(times.down_after) + times.dial_backoff_max * 3 / 2 + SECOND / 10
}

#[test]
fn d1_a_node_with_dead_seeds_joins_through_a_later_contact() {
    for_each_seed(20, |seed| {
        let (mut net, new) = formed(seed);
        (0..3).for_each(|ix| net.redirect(&Net::address(ix), None));
        net.name("door:1", Target::Node(0));
        net.start(new);
        let wait = net.rng.within((Duration::ZERO, 10 * SECOND));
        net.run_for(wait);
        net.expect(!net.saw(new, elected), "it knows no way in");
        net.command(new, contacts(&["gone:1", "door:1"]));
        net.converge(SECOND / 10);
    });
}

/// The contact knows the master, but not the way to it.
#[test]
fn d3_a_follower_leads_to_the_master_once_its_name_resolves() {
    for_each_seed(20, |seed| {
        let (mut net, new) = formed(seed);
        (0..3).for_each(|ix| net.redirect(&Net::address(ix), None));
        net.name("door:1", Target::Node(1 + seed as usize % 2));
        net.start(new);
        net.run_for(2 * SECOND);
        net.command(new, contacts(&["door:1"]));
        net.run_for(3 * SECOND);
        let unreachable = |event: &Event| matches!(event, Event::MasterUnreachable { .. });
        net.expect(net.saw(new, unreachable) && !net.saw(new, elected), "it says what it cannot reach");
        net.heal_all();
        net.converge(2 * SECOND);
    });
}

#[test]
fn d1_voters_with_unresolvable_seeds_form_through_contacts() {
    for_each_seed(20, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        (0..3).for_each(|ix| net.redirect(&Net::address(ix), None));
        let doors = ["door0:1", "door1:1", "door2:1"];
        (0..3).for_each(|ix| net.name(doors[ix], Target::Node(ix)));
        net.start_all();
        net.run_for(5 * SECOND);
        net.expect((0..3).all(|ix| !net.saw(ix, elected)), "nobody forms alone");
        (0..3).for_each(|ix| net.command(ix, contacts(&doors)));
        net.converge(SECOND);
    });
}

#[test]
fn d4_a_node_joins_once_names_lead_to_their_nodes_again() {
    for_each_seed(40, |seed| {
        let astray = ASTRAY[seed as usize % ASTRAY.len()];
        let (mut net, new) = formed(seed);
        net.expect(net.master() == Some(0), "node 2, to which names lead, is not the master");
        (0..3).for_each(|ix| net.redirect(&Net::address(ix), astray));
        net.start(new);
        let wait = net.rng.within((SECOND / 10, 8 * SECOND));
        net.run_for(wait);
        net.expect(!net.saw(new, elected), "no name leads to the master");
        net.heal_all();
        let patience = patience(&net);
        net.converge(patience);
    });
}

/// Of three voters the first two are found elsewhere for a while; then their names lead home, and the two link.
fn links_once_names_lead_home(seed: u64, astray: [Option<Target>; 2]) -> Net {
    let mut net = Net::of_voters(seed, 3, Settings::default());
    astray.into_iter().enumerate().for_each(|(ix, astray)| net.redirect(&Net::address(ix), astray));
    net.start_all();
    let wait = net.rng.within((SECOND / 10, 8 * SECOND));
    net.run_for(wait);
    net.expect(net.between(0, 1).is_empty(), "no name leads from one to the other");
    net.heal_all();
    let patience = patience(&net);
    let done = net.run_until(patience, |net| net.converged() && net.between(0, 1).len() == 1);
    net.expect(done, "the two are not linked");
    net
}

/// Each of two voters once found the third at the other's address.
#[test]
fn d4_voters_link_once_names_lead_to_them_again() {
    for_each_seed(40, |seed| {
        links_once_names_lead_home(seed, [ASTRAY[seed as usize % ASTRAY.len()]; 2]);
    });
}

/// Nobody else can tell the member where it is: the name is resolved anew at each dial.
#[test]
fn d1_a_member_finds_its_only_voter_once_its_name_resolves() {
    for_each_seed(20, |seed| {
        let mut net = Net::of_voters(seed, 1, Settings::default());
        net.add(Net::config(1, 1));
        net.start_all();
        net.converge(SECOND);
        net.crash(0, if seed % 2 == 0 { Crash::Machine } else { Crash::Process });
        let astray = [None, Some(Target::Nowhere), Some(Target::Test)][seed as usize % 3];
        net.redirect(&Net::address(0), astray);
        let wait = net.rng.within((Duration::ZERO, 8 * SECOND));
        net.run_for(wait);
        net.start(0);
        net.run_for(SECOND);
        net.expect(!net.converged(), "nobody can have told it");
        net.heal_all();
        let patience = patience(&net);
        net.converge(patience);
    });
}

/// Each of two voters found itself at the other's address.
#[test]
fn d4_i8_voters_link_once_names_stop_leading_to_themselves() {
    for_each_seed(40, |seed| {
        let net = links_once_names_lead_home(seed, [1, 0].map(|to| Some(Target::Node(to))));
        for ix in 0..2 {
            net.expect(net.count(ix, Duration::ZERO, met_itself) == 1, &format!("node {ix} says it once"));
        }
    });
}

#[test]
fn i8_a_contact_that_led_to_the_node_itself_can_work_later() {
    for_each_seed(10, |seed| {
        let (mut net, new) = formed(seed);
        (0..3).for_each(|ix| net.redirect(&Net::address(ix), None));
        net.name("door:1", Target::Node(new));
        net.start(new);
        net.command(new, contacts(&["door:1"]));
        let wait = net.rng.within((SECOND, 8 * SECOND));
        net.run_for(wait);
        net.expect(net.count(new, Duration::ZERO, met_itself) == 1, "it leads to the node itself, which says so once");
        net.name("door:1", Target::Node(0));
        let patience = patience(&net);
        net.converge(patience);
    });
}
