//! A node that has no master says why, by itself (`Event::NoMaster`), and when it is asked (`Formation::explain`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod reasons;

use std::{collections::BTreeSet, time::Duration};

use formation_core::{
    Bootstrap, Config, DialProblem, Event, Explanation, Input, MemberState, NoMaster, NoMasterReason, Problem,
};
use formation_tests::{Crash, Cut, Net, NetSettings, NodeIx, Rig, Settings, Target};

const SECOND: Duration = Duration::from_secs(1);

/// What the node has reported, with the times in seconds.
fn reports(net: &Net, ix: NodeIx) -> Vec<(u64, &NoMaster)> {
    let report = |(at, event): &'_ (u64, Event)| match event {
        Event::NoMaster { .. } => Some(*at / 1_000_000),
        _ => None,
    };
    let whys = net.host(ix).events.iter().filter_map(|(_, event)| match event {
        Event::NoMaster { why, .. } => Some(why),
        _ => None,
    });
    net.host(ix).events.iter().filter_map(report).zip(whys).collect()
}

fn explain(net: &Net, ix: NodeIx) -> Explanation {
    net.host(ix).formation.as_ref().unwrap().explain()
}

#[test]
fn a_voter_without_a_quorum_reports_each_reason_once_a_minute() {
    let mut net = Net::of_voters(0, 3, Settings::calm());
    net.start(0);
    net.run_for(50 * SECOND);
    let lines: Vec<_> = reports(&net, 0).iter().map(|(at, why)| (*at, why.to_string())).collect();
    let missing = "1 of 3 voters reachable, need 2; h1:1: it refuses the connection; h2:1: it refuses the connection";
    assert_eq!(lines, [(4, missing.to_owned())]);
    net.run_for(20 * SECOND);
    assert_eq!(reports(&net, 0).len(), 2, "a minute later it is repeated");
    net.start(1);
    net.run_for(4 * SECOND);
    assert!(net.master().is_some());
    net.run_for(120 * SECOND);
    let reasons: Vec<_> = reports(&net, 0).into_iter().skip(2).map(|(_, why)| &why.reason).collect();
    // The other voter has just started.
    assert!(matches!(reasons[..], [NoMasterReason::VotersAbstain { .. }]), "{reasons:?}: there is a master now");
}

#[test]
fn a_healthy_cluster_reports_no_missing_master() {
    let mut net = Net::formed(1, (3, 2), Settings::default());
    net.run_for(10 * SECOND);
    net.crash(0, Crash::Machine);
    net.run_for(30 * SECOND);
    assert!((1..5).all(|ix| reports(&net, ix).is_empty()), "an election is no reason to worry");
}

#[test]
fn a_changed_reason_is_reported_soon() {
    let mut net = Net::of_voters(0, 3, Settings::calm());
    net.start(0);
    net.run_for(10 * SECOND);
    net.cut(0, 1, Cut::Lose);
    net.cut(0, 2, Cut::Lose);
    net.run_for(20 * SECOND);
    let last = reports(&net, 0).last().unwrap().1.clone();
    assert_eq!(last.unreachable[0].1, Some(Problem::NotReached(DialProblem::TimedOut)), "{last}");
}

#[test]
fn each_reason_has_a_sentence() {
    let joins = |ix| Net::builder(ix, 3).bootstrap(Bootstrap::JoinOnly).build().unwrap();
    let mut net = Net::new(0, Settings::calm());
    for ix in 0..3 {
        net.add(joins(ix));
    }
    net.start_all();
    net.run_for(10 * SECOND);
    assert_eq!(explain(&net, 0).no_master.unwrap().reason, NoMasterReason::MayOnlyJoin);

    let mut net = Net::of_voters(0, 3, Settings::calm());
    net.start(0);
    net.start(1);
    net.run_for(SECOND);
    let why = explain(&net, 0).no_master.unwrap();
    assert!(matches!(why.reason, NoMasterReason::InGrace { .. }), "{why}");
    assert!(why.to_string().contains("has just started, and has to wait for h2:1"), "{why}");

    let mut rig = Rig::new(Net::builder(0, 3).build().unwrap());
    rig.advance(4 * SECOND);
    let why = rig.formation.explain().no_master.unwrap();
    assert_eq!((why.reason, why.reachable, why.quorum), (NoMasterReason::TooFewVoters, 1, 2));
    rig.give(Input::Tick);
}

/// The line names the storage as long as it does not answer, whatever else comes to be missing.
#[test]
fn a_voter_whose_storage_does_not_answer_says_so() {
    let never = (600 * SECOND, 600 * SECOND);
    let mut net = Net::of_voters(0, 2, NetSettings { persist: never, ..NetSettings::calm() });
    net.start_all();
    net.run_for(10 * SECOND);
    let explanation = explain(&net, 0);
    let text = explanation.to_string();
    assert!(text.contains("no master: the storage of this node does not store a vote at the moment"), "{text}");
    assert!(text.contains("storage: a write is delayed; this node does not vote until it is done"), "{text}");
    assert!(reports(&net, 0).iter().all(|(_, why)| Some(*why) == explanation.no_master.as_ref()), "{text}");
    assert!(!reports(&net, 0).is_empty());
}

/// An operator has to look at the voters that cannot vote.
#[test]
fn a_change_in_who_abstains_is_reported_soon() {
    let mut net = Net::of_voters(0, 4, Settings::calm());
    for ix in 0..3 {
        net.start(ix);
    }
    net.fail_disk(1);
    net.fail_disk(2);
    net.run_for(10 * SECOND);
    net.crash(1, Crash::Process);
    net.start(1);
    net.run_for(20 * SECOND);
    let last = |count: usize| {
        let lines = reports(&net, 0).into_iter().map(|(_, why)| why.to_string());
        lines.rev().take(count).collect::<Vec<_>>()
    };
    let missing = "; h3:1: it refuses the connection";
    let expected = [format!("too few voters can vote now: not h2:1{missing}"), {
        format!("too few voters can vote now: not h1:1, h2:1{missing}")
    }];
    assert_eq!(last(2), expected);
}

#[test]
fn a_node_that_is_no_voter_names_the_master_that_it_does_not_reach() {
    let mut net = Net::formed(3, (3, 1), Settings::default());
    net.run_for(10 * SECOND);
    let master = net.master().unwrap();
    net.cut(3, master, Cut::Lose);
    net.run_for(20 * SECOND);
    let (_, why) = reports(&net, 3)[0];
    assert!(matches!(why.reason, NoMasterReason::MasterUnreachable { .. }), "{why}");
}

#[test]
fn a_master_explains_its_members() {
    let mut net = Net::formed(1, (3, 1), Settings::default());
    net.run_for(SECOND);
    let master = net.master().unwrap();
    let explanation = explain(&net, master);
    assert_eq!(explanation.members.len(), 3, "{explanation}");
    assert!(explanation.members.iter().all(|member| member.linked && member.view_id == Some(explanation.view_id)));
    net.crash(3, Crash::Process);
    net.run_for(SECOND / 10);
    let explanation = explain(&net, master);
    let gone = explanation.members.iter().find(|member| member.id.as_str() == "n3").unwrap();
    assert_eq!((gone.state, gone.linked), (MemberState::Suspect, false));
    let text = explanation.to_string();
    assert!(text.contains("member n3: suspect, not linked") && text.contains("h1:1: n1#"), "{text}");
}

/// The lines that a node logs when it reports that it has no master, without repetitions.
fn lines(net: &Net, ix: NodeIx) -> BTreeSet<String> {
    reports(net, ix).iter().map(|(_, why)| why.to_string()).collect()
}

/// A headless service has one name, which leads to any of its nodes, and each of these advertises an address of its own. Nobody is a
/// voter.
#[test]
fn one_name_of_a_service_as_the_only_seed_is_reported() {
    let mut net = Net::new(0, Settings::calm());
    for ix in 0..3 {
        let config = Config::builder("test", format!("n{ix}"), Net::address(ix)).seeds(["service:1"]);
        net.add(config.build().unwrap());
    }
    net.start_all();
    for round in 0..60 {
        net.name("service:1", Target::Node(round % 3));
        net.run_for(SECOND);
    }
    for ix in 0..3 {
        let expected = format!(
            "0 of 1 voters reachable, need 1; this node is no voter: its address h{ix}:1 is none of the seeds (if it is to vote, spell both alike); no voter was met, but \
             other nodes are at the seeds: give each voter its seed as its address; service:1: another node is there"
        );
        assert_eq!(lines(&net, ix), BTreeSet::from([expected]));
        assert_eq!(reports(&net, ix).len(), 1, "it is reported once a minute");
    }
}

/// A voter that meets others under the addresses of the seeds, but at other addresses than they advertise.
#[test]
fn seeds_at_which_other_nodes_answer_are_reported() {
    let mut net = Net::new(0, Settings::calm());
    net.add(Net::config(0, 3));
    for ix in 1..3 {
        let config = Config::builder("test", format!("n{ix}"), format!("other{ix}:1")).seeds((0..3).map(Net::address));
        net.add(config.build().unwrap());
        net.name(&Net::address(ix), Target::Node(ix));
    }
    net.start_all();
    net.run_for(20 * SECOND);
    let met = "no other voter was met, but other nodes are at the seeds: give each voter its seed as its address";
    let missing = "h1:1: another node is there; h2:1: another node is there";
    assert_eq!(lines(&net, 0), BTreeSet::from([format!("1 of 3 voters reachable, need 2; {met}; {missing}")]));
    let own = "this node is no voter: its address other1:1 is none of the seeds (if it is to vote, spell both alike)";
    assert_eq!(lines(&net, 1), BTreeSet::from([format!("1 of 3 voters reachable, need 2; {own}; {missing}")]));
}

/// Among the seeds of a voter, one name leads to the voter itself.
#[test]
fn a_seed_that_leads_to_this_node_itself_is_reported() {
    let mut net = Net::of_voters(0, 2, Settings::calm());
    net.name("h1:1", Target::Node(0));
    net.start(0);
    net.run_for(20 * SECOND);
    let line = "1 of 2 voters reachable, need 2; no other voter was met, but other nodes are at the seeds: give each voter its seed as its \
                address; h1:1: another node is there";
    assert_eq!(lines(&net, 0), BTreeSet::from([line.to_owned()]));
}
