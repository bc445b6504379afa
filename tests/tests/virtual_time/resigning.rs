//! Resigning (PROTOCOL.md, L7): a master hands its mastership over and stays a member.

use std::time::Duration;

use formation_core::{Change, Command, Event, LossReason, Phase, RemovalReason, Term};
use formation_tests::{Cut, Net, NetSettings, NodeIx, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);
const LATENCY: Duration = Duration::from_millis(10);

/// A cluster past `bootstrap_wait`, in which only the latency takes time.
fn formed(seed: u64, voters: usize) -> Net {
    let mut net = Net::formed(seed, (voters, 1), NetSettings { latency: (LATENCY, LATENCY), ..NetSettings::calm() });
    net.run_for(4 * SECOND);
    net
}

fn phase(net: &Net, ix: NodeIx) -> Phase {
    net.host(ix).formation.as_ref().expect("it runs").status().phase
}

#[test]
fn l7_the_next_master_leads_after_two_round_trips() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 3);
        let first = net.master().expect("there is a master");
        let term = net.host(first).formation.as_ref().unwrap().status().term;
        net.command(first, Command::Resign);
        assert_eq!(net.master(), None, "it is no master any more");
        net.run_for(4 * LATENCY);
        let next = net.master().expect("the next voter leads at once");
        assert_ne!(next, first);
        assert_eq!(net.host(next).formation.as_ref().unwrap().status().term, Term(term.0 + 1));
        net.run_for(SECOND);
        assert_eq!((net.master(), phase(&net, first)), (Some(next), Phase::Follower), "it is not taken back");
        let view = net.host(first).formation.as_ref().unwrap().view();
        assert_eq!(view.iter().filter(|member| member.state.is_active()).count(), 4, "everybody has stayed: {view:?}");
        let lost = |(_, event): &(u64, Event)| matches!(event, Event::MasterLost { term: of, reason: LossReason::Resigned, .. } if *of == term);
        assert_eq!(net.host(first).events.iter().filter(|event| lost(event)).count(), 1);
    });
}

/// Its resignation reaches the next master only on a new link.
#[test]
fn l7_a_master_that_resigns_and_is_cut_off_has_not_left() {
    for cut in [Cut::Hold, Cut::Lose] {
        for_each_seed(10, |seed| {
            let mut net = formed(seed, 3);
            let first = net.master().expect("there is a master");
            let id = net.host(first).config.id().clone();
            net.isolate(first, cut);
            net.command(first, Command::Resign);
            net.run_for(2 * SECOND);
            net.heal_all();
            net.run_for(10 * SECOND);
            let left = |event: &Event| match event {
                Event::ViewChanged { changes, .. } => changes.iter().any(
                    |change| matches!(change, Change::Remove { id: of, reason: RemovalReason::Left } if *of == id),
                ),
                _ => false,
            };
            net.expect(
                !(0..4).any(|ix| net.saw(ix, left)),
                "a member that has only resigned is removed as if it had left",
            );
            let active = net.host(first).formation.as_ref().unwrap().view().iter().filter(|it| it.state.is_active());
            net.expect(active.count() == 4, "not everybody is a member again");
        });
    }
}

#[test]
fn l7_a_voter_that_is_alone_leads_again() {
    for_each_seed(5, |seed| {
        let mut net = formed(seed, 1);
        let master = net.master().expect("there is a master");
        net.command(master, Command::Resign);
        assert_eq!(net.master(), None);
        net.run_for(SECOND);
        assert_eq!(net.master(), Some(master));
    });
}

#[test]
fn l7_a_node_that_is_no_master_does_not_resign() {
    let mut net = formed(1, 3);
    let master = net.master().expect("there is a master");
    for other in net.living().into_iter().filter(|ix| *ix != master) {
        net.command(other, Command::Resign);
    }
    net.run_for(SECOND);
    assert_eq!(net.master(), Some(master));
}
