//! Late and wrong addresses (PROTOCOL, "Dialing"): contacts that are added later, and names that do not resolve or lead
//! elsewhere for a time.

use std::time::Duration;

use formation_core::{Address, Command, Event};
use formation_tests::{Crash, Net, NetSettings, NodeIx, Settings, Target, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);

fn elected(event: &Event) -> bool {
    matches!(event, Event::MasterElected { .. })
}

fn dialed_itself(event: &Event) -> bool {
    matches!(event, Event::SelfDial { .. })
}

fn contacts(names: &[&str]) -> Command {
    let address = |name: &&str| Address::new(name).expect("a valid address");
    Command::AddContacts(names.iter().map(address).collect())
}

/// Each node proves its address with a certificate, so it is believed at other addresses, too.
fn certified() -> NetSettings {
    NetSettings { certified: true, ..NetSettings::default() }
}

/// Three voters with a master, and one more node that has not started.
fn formed(seed: u64) -> (Net, NodeIx) {
    let mut net = Net::of_voters(seed, 3, certified());
    let new = net.add(Net::config(3, 3));
    (0..3).for_each(|ix| net.start(ix));
    net.converge(SECOND);
    (net, new)
}

fn lack_master(event: &Event) -> bool {
    matches!(event, Event::PeersWithoutMaster { .. })
}

/// The voters that follow the first one have reported once that this node does not get to its address.
fn expect_reported(net: &Net, ix: NodeIx) {
    for voter in [1, 2] {
        let names = |event: &Event| match event {
            Event::PeersWithoutMaster { master, address, peer, peer_address, peers: 1 } => {
                let named = (master, address.as_str(), peer, peer_address.as_str());
                named == (&net.node(0), "h0:1", &net.node(ix), Net::address(ix).as_str())
            }
            _ => false,
        };
        net.expect(net.saw(voter, names), &format!("voter {voter} does not say that the node stays outside"));
        net.expect(net.count(voter, Duration::ZERO, lack_master) == 1, "it is reported more than once");
        let text = net.host(voter).formation.as_ref().map(|formation| formation.explain().to_string());
        let line = format!("linked, without a master: {} at {}", net.node(ix), Net::address(ix));
        net.expect(text.is_some_and(|text| text.contains(&line)), "the explanation does not name the node");
    }
}

/// The wrong targets of a name.
const WRONG_TARGETS: [Option<Target>; 4] = [None, Some(Target::Node(2)), Some(Target::Nowhere), Some(Target::Test)];

/// The time until a hanging dial ends and the next one begins, or until an address that led elsewhere is dialed again.
fn time_limit(net: &Net) -> Duration {
    let times = net.host(0).config.timing();
    times.handshake_timeout.max(times.down_after) + times.dial_backoff_max * 3 / 2 + SECOND / 10
}

#[test]
fn d1_a_node_with_dead_seeds_joins_through_a_later_contact() {
    for_each_seed(20, |seed| {
        let (mut net, new) = formed(seed);
        (0..3).for_each(|ix| net.redirect(&Net::address(ix), None));
        net.name("contact:1", Target::Node(0));
        net.start(new);
        let wait = net.rng.within((Duration::ZERO, 10 * SECOND));
        net.run_for(wait);
        net.expect(!net.saw(new, elected), "the node found a master without an address that works");
        net.command(new, contacts(&["gone:1", "contact:1"]));
        net.converge(SECOND / 10);
    });
}

/// The contact knows the master and its address, but the address does not resolve at first.
#[test]
fn d3_a_follower_leads_to_the_master_once_its_name_resolves() {
    for_each_seed(20, |seed| {
        let (mut net, new) = formed(seed);
        (0..3).for_each(|ix| net.redirect(&Net::address(ix), None));
        net.name("contact:1", Target::Node(1 + seed as usize % 2));
        net.start(new);
        net.run_for(2 * SECOND);
        net.command(new, contacts(&["contact:1"]));
        net.run_for(3 * SECOND);
        let unreachable = |event: &Event| matches!(event, Event::MasterUnreachable { .. });
        net.expect(net.saw(new, unreachable), "MasterUnreachable was not reported");
        net.expect(!net.saw(new, elected), "the node found a master that it cannot reach");
        net.heal_all();
        net.converge(2 * SECOND);
    });
}

/// Whoever is at a contact's address may claim to be a voter. Only the voter's own address shows who it is (H11).
#[test]
fn h11_a_voter_at_another_address_is_not_believed() {
    for_each_seed(10, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        (0..3).for_each(|ix| net.redirect(&Net::address(ix), None));
        let contact_names = ["contact0:1", "contact1:1", "contact2:1"];
        (0..3).for_each(|ix| net.name(contact_names[ix], Target::Node(ix)));
        net.start_all();
        (0..3).for_each(|ix| net.command(ix, contacts(&contact_names)));
        net.run_for(10 * SECOND);
        net.expect((0..3).all(|ix| !net.saw(ix, elected)), "a voter was believed at another address");
        let unproven = |event: &Event| {
            let reason = formation_core::RejectReason::Unproven;
            matches!(event, Event::PeerRejected { reason: of_event, .. } if *of_event == reason)
        };
        net.expect((0..3).all(|ix| net.saw(ix, unproven)), "a voter does not say why it is alone");
        net.heal_all();
        net.converge(2 * SECOND);
    });
}

#[test]
fn d1_voters_with_unresolvable_seeds_form_through_contacts() {
    for_each_seed(20, |seed| {
        let mut net = Net::of_voters(seed, 3, certified());
        (0..3).for_each(|ix| net.redirect(&Net::address(ix), None));
        let contact_names = ["contact0:1", "contact1:1", "contact2:1"];
        (0..3).for_each(|ix| net.name(contact_names[ix], Target::Node(ix)));
        net.start_all();
        net.run_for(5 * SECOND);
        net.expect((0..3).all(|ix| !net.saw(ix, elected)), "a voter formed a cluster alone");
        (0..3).for_each(|ix| net.command(ix, contacts(&contact_names)));
        net.converge(SECOND);
    });
}

#[test]
fn d4_a_node_joins_once_names_lead_to_their_nodes_again() {
    for_each_seed(40, |seed| {
        let wrong_target = WRONG_TARGETS[seed as usize % WRONG_TARGETS.len()];
        let (mut net, new) = formed(seed);
        net.expect(net.master() == Some(0), "the wrong target, node 2, must not be the master");
        (0..3).for_each(|ix| net.redirect(&Net::address(ix), wrong_target));
        net.start(new);
        let wait = net.rng.within((SECOND / 10, 8 * SECOND));
        net.run_for(wait);
        net.expect(!net.saw(new, elected), "the node joined, although no name led to the master");
        net.heal_all();
        let time_limit = time_limit(&net);
        net.converge(time_limit);
    });
}

/// The names of the first two of three voters have wrong targets for a while. Then the names are restored, and the two
/// voters link.
fn links_once_names_are_restored(seed: u64, wrong_target: [Option<Target>; 2]) -> Net {
    let mut net = Net::of_voters(seed, 3, Settings::default());
    wrong_target.into_iter().enumerate().for_each(|(ix, wrong_target)| net.redirect(&Net::address(ix), wrong_target));
    net.start_all();
    let wait = net.rng.within((SECOND / 10, 8 * SECOND));
    net.run_for(wait);
    net.expect(net.between(0, 1).is_empty(), "the two are linked, although no name leads from one to the other");
    net.heal_all();
    let time_limit = time_limit(&net);
    let done = net.run_until(time_limit, |net| net.converged() && net.between(0, 1).len() == 1);
    net.expect(done, "the two are not linked");
    net
}

/// The addresses of two voters may have led to the third voter.
#[test]
fn d4_voters_link_once_names_lead_to_them_again() {
    for_each_seed(40, |seed| {
        links_once_names_are_restored(seed, [WRONG_TARGETS[seed as usize % WRONG_TARGETS.len()]; 2]);
    });
}

/// No other node can give the member the address. It finds the voter because each dial resolves the name again.
#[test]
fn d1_a_member_finds_its_only_voter_once_its_name_resolves() {
    for_each_seed(20, |seed| {
        let mut net = Net::of_voters(seed, 1, Settings::default());
        net.add(Net::config(1, 1));
        net.start_all();
        net.converge(SECOND);
        net.crash(0, if seed % 2 == 0 { Crash::Machine } else { Crash::Process });
        let wrong_target = [None, Some(Target::Nowhere), Some(Target::Test)][seed as usize % 3];
        net.redirect(&Net::address(0), wrong_target);
        let wait = net.rng.within((Duration::ZERO, 8 * SECOND));
        net.run_for(wait);
        net.start(0);
        net.run_for(SECOND);
        net.expect(!net.converged(), "the member found the voter at the wrong target");
        net.heal_all();
        let time_limit = time_limit(&net);
        net.converge(time_limit);
    });
}

/// The address of each of two voters led the other voter to itself.
#[test]
fn d4_i8_voters_link_once_names_stop_leading_to_themselves() {
    for_each_seed(40, |seed| {
        let net = links_once_names_are_restored(seed, [1, 0].map(|to| Some(Target::Node(to))));
        for ix in 0..2 {
            net.expect(
                net.count(ix, Duration::ZERO, dialed_itself) == 1,
                &format!("node {ix} did not report SelfDial once"),
            );
        }
    });
}

#[test]
fn i8_a_contact_that_led_to_the_node_itself_can_work_later() {
    for_each_seed(10, |seed| {
        let (mut net, new) = formed(seed);
        (0..3).for_each(|ix| net.redirect(&Net::address(ix), None));
        net.name("contact:1", Target::Node(new));
        net.start(new);
        net.command(new, contacts(&["contact:1"]));
        let wait = net.rng.within((SECOND, 8 * SECOND));
        net.run_for(wait);
        net.expect(net.count(new, Duration::ZERO, dialed_itself) == 1, "SelfDial was not reported once");
        net.name("contact:1", Target::Node(0));
        let time_limit = time_limit(&net);
        net.converge(time_limit);
    });
}

/// The lowest id can dial the others, and nobody can dial it. Its certificate proves who it is, so it is master (H11).
#[test]
fn d3_voters_report_who_does_not_get_to_a_certified_master() {
    for_each_seed(10, |seed| {
        let mut net = Net::of_voters(seed, 3, certified());
        let new = net.add(Net::config(3, 3));
        net.name("h0:1", Target::Nowhere);
        net.start_all();
        net.run_for(30 * SECOND);
        net.expect(net.master() == Some(0) && !net.saw(new, elected), "the address does not keep the node outside");
        expect_reported(&net, new);
    });
}

/// The master keeps its links.
#[test]
fn d3_voters_report_that_the_address_of_the_master_has_failed() {
    for_each_seed(20, |seed| {
        let (mut net, new) = formed(seed);
        net.settings.certified = seed % 2 == 0;
        net.redirect("h0:1", WRONG_TARGETS[seed as usize % WRONG_TARGETS.len()]);
        net.start(new);
        net.run_for(30 * SECOND);
        net.expect(net.master() == Some(0) && !net.saw(new, elected), "the address does not keep the node outside");
        expect_reported(&net, new);
        net.heal_all();
        net.converge(5 * SECOND);
        net.run_for(120 * SECOND);
        net.expect(net.count(1, Duration::ZERO, lack_master) == 1, "it is reported although all have a master");
    });
}

#[test]
fn d3_nodes_that_join_a_healthy_cluster_are_not_reported() {
    for_each_seed(20, |seed| {
        let mut net = Net::formed(seed, (3, 0), Settings::default());
        for ix in 3..8 {
            net.add(Net::config(ix, 3));
            let delay = net.rng.within((Duration::ZERO, 10 * SECOND));
            net.start_in(ix, delay);
        }
        net.run_for(15 * SECOND);
        net.crash(0, Crash::Machine);
        net.run_for(15 * SECOND);
        let reported = (1..8).any(|ix| net.saw(ix, lack_master));
        net.expect(!reported && net.agree(&[1, 2, 3, 4, 5, 6, 7]), "a node that joins counts as one that does not");
    });
}
