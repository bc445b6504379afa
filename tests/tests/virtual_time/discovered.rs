//! Addresses that a discovery finds, and does not find any more (PROTOCOL, D8). One node on the test rig.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use formation_core::{Address, Command, Config, Event, Input, Limits, Misuse, Output};
use formation_tests::{Net, Peer, Rig, Settings, Target};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn addresses(names: &[&str]) -> Vec<Address> {
    names.iter().map(|name| Address::new(name).unwrap()).collect()
}

fn found(names: &[&str]) -> Input {
    Input::Command(Command::SetDiscovered(addresses(names)))
}

/// A voter whose seeds do not answer.
fn voter() -> Rig {
    Rig::new(Net::builder(0, 3).limits(Limits::new().with_discovered(2)).contacts(["c:1"]).build().unwrap())
}

fn is_dialing(rig: &Rig, name: &str) -> bool {
    rig.dialing().iter().any(|address| address.as_str() == name)
}

/// Whether each of these addresses is dialed in the next minute. Nothing answers.
fn are_dialed_later<const N: usize>(rig: &mut Rig, names: [&str; N]) -> [bool; N] {
    let before = rig.outputs.len();
    rig.advance(MINUTE);
    let is_dialed = |name: &str| {
        let is_meant = |output: &Output| matches!(output, Output::Dial { addr, .. } if addr.as_str() == name);
        rig.outputs[before..].iter().any(is_meant)
    };
    names.map(is_dialed)
}

#[test]
fn d8_a_discovered_address_is_dialed_until_it_is_gone() {
    let mut rig = voter();
    rig.give(found(&["d:1"]));
    assert!(is_dialing(&rig, "d:1"), "at once");
    assert_eq!(are_dialed_later(&mut rig, ["d:1"]), [true], "again and again");
    rig.give(found(&["e:1"]));
    assert_eq!(are_dialed_later(&mut rig, ["d:1", "e:1"]), [false, true]);
    rig.give(found(&["d:1"]));
    assert_eq!(are_dialed_later(&mut rig, ["d:1", "e:1"]), [true, false], "it has come back");
}

#[test]
fn d8_seeds_and_contacts_do_not_go_with_the_discovery() {
    let mut rig = voter();
    rig.give(Input::Command(Command::AddContacts(addresses(&["later:1"]))));
    let named = ["h1:1", "c:1", "later:1"];
    rig.give(found(&named));
    rig.give(found(&[]));
    assert_eq!(are_dialed_later(&mut rig, named), [true; 3]);
}

#[test]
fn d8_a_contact_by_name_stays_when_its_discovery_ends() {
    let mut rig = voter();
    rig.give(found(&["d:1"]));
    rig.give(Input::Command(Command::AddContacts(addresses(&["d:1"]))));
    rig.give(found(&[]));
    assert_eq!(are_dialed_later(&mut rig, ["d:1"]), [true]);
}

#[test]
fn d8_a_link_stays_when_its_address_is_gone() {
    let mut rig = voter();
    rig.give(found(&["d:1"]));
    let conn = rig.answer("d:1");
    let mut peer = Peer::of(rig.formation.config(), "x", "d:1");
    rig.receive(conn, [peer.hello(), peer.joining()].concat());
    rig.give(found(&[]));
    assert_eq!(rig.closed(conn), None);
    rig.give(Input::Closed { conn });
    assert_eq!(are_dialed_later(&mut rig, ["d:1"]), [false]);
}

#[test]
fn discovered_addresses_over_the_limit_are_misuse() {
    let mut rig = voter();
    rig.give(found(&["d:1"]));
    let before = rig.formation.clone();
    let result = rig.formation.handle_input(rig.now, found(&["e:1", "f:1", "g:1"]));
    assert_eq!(result, Err(Misuse::TooManyDiscovered { count: 3, limit: 2 }));
    assert_eq!(rig.formation, before);
    // Seeds, contacts, repetitions and the node's own address do not count.
    rig.give(found(&["e:1", "f:1", "f:1", "h0:1", "h1:1", "c:1"]));
    assert!(is_dialing(&rig, "e:1") != is_dialing(&rig, "f:1"), "the dial to d:1 is under way, and takes a place");
    let conn = rig.answer("d:1");
    rig.give(Input::Closed { conn });
    assert!(is_dialing(&rig, "e:1") && is_dialing(&rig, "f:1"));
    rig.give(Input::Command(Command::AddContacts(addresses(&["later:1"]))));
    assert!(is_dialing(&rig, "later:1"), "they take no place of a contact");
}

/// A node that is no voter needs one link. The seed has the first turn.
#[test]
fn d8_a_joining_node_dials_discovered_addresses_in_turn() {
    let names: Vec<String> = (0..100).map(|number| format!("d{number}:1")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut rig = Rig::new(Config::builder("test", "j", "j:1").seeds(["h0:1"]).build().unwrap());
    rig.give(found(&names));
    let counts = [0, 1, 1, 1].map(|turns| {
        rig.advance(Duration::from_millis(100) * turns);
        rig.outputs
            .iter()
            .filter(|output| matches!(output, Output::Dial { addr, .. } if addr.as_str().starts_with('d')))
            .count()
    });
    assert_eq!(counts, [0, 1, 3, 7]);
}

/// The name of a whole service leads to the node itself, too.
#[test]
fn d8_a_discovered_address_of_the_node_itself_is_no_report() {
    let mut net = Net::of_voters(0, 3, Settings::default());
    net.name("alias:1", Target::Node(0));
    net.start(0);
    net.command(0, Command::SetDiscovered(addresses(&["alias:1"])));
    net.run_for(20 * SECOND);
    net.expect(!net.saw(0, |event| matches!(event, Event::SelfDial { .. })), "it was reported");
    (1..3).for_each(|ix| net.start(ix));
    net.converge(SECOND);
}
