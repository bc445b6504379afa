//! A seed list that is changed node by node, although it should not be (PROTOCOL, E9).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use formation_core::{
    Address, Config, Event, Incarnation, NoMasterReason, Node, NodeId, RejectReason,
    message::{Holder, Message, Rejected},
};
use formation_tests::{Crash, Cut, Net, NodeIx, Peer, Rig, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);

/// Restarts a node with the list of the nodes `0..n`, and expects at most one master meanwhile.
fn restart_with(net: &mut Net, ix: NodeIx, n: usize) {
    net.crash(ix, Crash::Process);
    net.set_seeds(ix, n);
    net.start(ix);
    never_two_masters(net, 20 * SECOND);
}

fn never_two_masters(net: &mut Net, time: Duration) {
    let two = net.run_until(time, |net| net.masters().len() > 1);
    net.expect(!two, "there are two masters");
}

fn held_by(net: &Net, ix: NodeIx) -> Option<Node> {
    match net.host(ix).formation.as_ref().unwrap().explain().no_master?.reason {
        NoMasterReason::Held { master, .. } => Some(master),
        _ => None,
    }
}

/// Three voters with a master, and two more that have a list of five.
fn growing(seed: u64) -> Net {
    let mut net = Net::formed(seed, (3, 0), Settings::default());
    if seed % 2 == 1 {
        // Another one than the lowest id is the master.
        net.crash(0, Crash::Process);
        net.run_for(5 * SECOND);
        net.start(0);
        net.converge(5 * SECOND);
    }
    for ix in [3, 4] {
        let ix = net.add(Net::config(ix, 5));
        net.start(ix);
    }
    net.run_for(5 * SECOND);
    net
}

#[test]
fn e9_seeds_grown_node_by_node_never_give_two_masters() {
    for_each_seed(20, |seed| {
        let mut net = growing(seed);
        let master = net.master().unwrap();
        restart_with(&mut net, 2, 5);
        let expected = (net.master() == Some(master)).then(|| net.node(master));
        net.expect(expected.is_some(), "the sound master is lost");
        for ix in 2..5 {
            net.expect(held_by(&net, ix) == expected, &format!("node {ix} is not held by the master"));
            let says_so =
                |event: &Event| matches!(event, Event::NoMaster { why, .. } if why.to_string().starts_with("held: "));
            net.expect(net.saw(ix, says_so), &format!("node {ix} does not say that it is held"));
        }
        restart_with(&mut net, 1, 5);
        restart_with(&mut net, 0, 5);
        net.converge(20 * SECOND);
    });
}

#[test]
fn e9_seeds_shrunk_node_by_node_never_give_two_masters() {
    for_each_seed(20, |seed| {
        let mut net = Net::formed(seed, (5, 0), Settings::default());
        net.crash(4, Crash::Process);
        net.run_for(5 * SECOND);
        // Three of the five still have the old list.
        for ix in [2, 1] {
            restart_with(&mut net, ix, 3);
        }
        net.crash(3, Crash::Process);
        restart_with(&mut net, 0, 3);
        net.converge(20 * SECOND);
    });
}

/// A voter with a wrong list and without a master keeps nobody from anything.
#[test]
fn e9_a_voter_with_a_wrong_list_holds_nobody_else() {
    for_each_seed(20, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        net.set_seeds(2, 4);
        net.start_all();
        net.run_for(10 * SECOND);
        net.expect(net.master() == Some(0), "the voters with the right list have no master");
        net.expect(held_by(&net, 2).is_some(), "the voter with the wrong list is not held");
    });
}

/// A voter is held for a bounded time after the others were last reached.
#[test]
fn e9_a_voter_is_free_again_once_the_others_are_gone() {
    for_each_seed(20, |seed| {
        let mut net = growing(seed);
        restart_with(&mut net, 2, 5);
        for (other, held) in [0, 1].into_iter().flat_map(|other| [2, 3, 4].map(|held| (other, held))) {
            net.cut(other, held, Cut::Lose);
        }
        net.crash(0, Crash::Machine);
        net.crash(1, Crash::Machine);
        let done = net.run_until(20 * SECOND, |net| net.agree(&[2, 3, 4]));
        net.expect(done, "the voters are held for ever");
    });
}

/// A peer at the address of a dead seed may lack the cluster key. It holds nobody, and learns no master.
#[test]
fn t1_e9_with_a_key_only_a_certificate_is_believed() {
    let keyed = |id: &str| {
        let config = Config::builder("test", id, format!("{id}:1").as_str()).seeds(["a:1", "b:1", "c:1"]);
        config.key([7; 32]).build().unwrap()
    };
    let mut rig = Rig::new(keyed("a"));
    rig.advance(4 * SECOND);
    let holder = || Holder {
        node: Node { id: NodeId::new("b").unwrap(), incarnation: Incarnation(1) },
        address: Address::new("b:1").unwrap(),
    };
    let rejected = Rejected { reason: RejectReason::ElectorateMismatch, holder: Some(holder()) };
    answer_all(&mut rig, "c:1", &Message::Rejected(rejected));
    let why = rig.formation.explain().no_master.unwrap();
    assert_eq!(why.reason, NoMasterReason::TooFewVoters);

    let alone = Config::single("test", "m", "m:1").key([7; 32]).build().unwrap();
    let mut rig = Rig::new(alone);
    assert!(rig.formation.leadership(rig.now).is_some());
    let mut outsider = Peer::of(&keyed("b"), "b", "b:1");
    let conn = rig.accept_from(formation_core::Remote::default());
    let hello = outsider.hello();
    rig.receive(conn, hello);
    let told = rig.messages(conn).into_iter().find_map(|message| match message {
        Message::Rejected(Rejected { reason: RejectReason::ElectorateMismatch, holder }) => Some(holder),
        _ => None,
    });
    assert_eq!(told, Some(None), "it is rejected, and learns no master");
}

/// Every dial of the address is answered with this message. Those that were given up close.
fn answer_all(rig: &mut Rig, address: &str, message: &Message) {
    let dials = rig.dialing().iter().filter(|dialed| dialed.as_str() == address).count();
    assert!(dials > 0, "{address} is not dialed");
    for _ in 0..dials {
        let conn = rig.answer(address);
        rig.receive(conn, message.to_frame());
    }
}

/// Everybody can write a rejection. Only what is reached at the address of a seed is believed.
#[test]
fn e9_a_hostile_member_holds_no_voter() {
    let mut rig = Rig::new(Net::config(0, 3));
    rig.advance(4 * SECOND);
    let master = Peer::of(rig.formation.config(), "n1", "h1:1");
    let node = Node { id: NodeId::new("n1").unwrap(), incarnation: Incarnation(1) };
    let holder = Some(Holder { node, address: master.address });
    let rejection = Message::Rejected(Rejected { reason: RejectReason::ElectorateMismatch, holder });
    // It claims the address of a seed.
    let conn = rig.accept_from(formation_core::Remote::default());
    rig.receive(conn, rejection.to_frame());
    // Its own address is dialed because of a second claim.
    let mut hostile = Peer::of(rig.formation.config(), "x", "x:1");
    rig.joined_by(&mut hostile);
    rig.hello_from(&mut hostile);
    rig.advance(SECOND);
    answer_all(&mut rig, "x:1", &rejection);
    let why = rig.formation.explain().no_master.unwrap();
    assert_eq!(why.reason, NoMasterReason::TooFewVoters);
    answer_all(&mut rig, "h1:1", &rejection);
    let why = rig.formation.explain().no_master.unwrap();
    assert!(matches!(why.reason, NoMasterReason::Held { .. }), "a seed that is reached is believed: {why}");
}
