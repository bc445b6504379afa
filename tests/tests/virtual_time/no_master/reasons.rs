//! Each reason for having no master, in a network in which it comes about, and its row in the guide.

use std::collections::BTreeSet;

use formation_core::{Bootstrap, Command, Limits, NoMaster, NoMasterReason, Timing};
use formation_tests::{Crash, Net, NetSettings, NodeIx, Settings, Target};

use super::SECOND;

const PAGE: &str = include_str!("../../../../core/src/guide/no_master.rs");

/// A network, and the node that soon has no master for the reason.
type Scenario = fn() -> (Net, NodeIx);

/// Each reason, its words in the guide, and a network in which a node has it.
const REASONS: [(&str, &str, Scenario); 16] = [
    ("TooFewVoters", "… of … voters reachable, need …", || (voters(3, &[0]), 0)),
    ("MasterUnreachable", "others follow … at …, which this node does not reach", master_unreachable),
    ("NotAdmitted", "the master … has not answered yet", not_admitted),
    ("NotAdmitted", "the master … does not make this node a member: …", too_much_metadata),
    ("Held", "held: … has another list of seeds, and the master …", held),
    ("InGrace", "this node has just started, and has to wait for …", || (voters(3, &[0, 1]), 0)),
    ("Promised", "this node has promised its vote to …", || (voters(3, &[0, 1, 2]), 1)),
    ("MayOnlyJoin", "this node may only join a cluster, …", || (only_joining(), 0)),
    ("Storage", "the storage of this node does not work, …", || {
        let mut net = voters(2, &[0, 1]);
        net.fail_disk(0);
        (net, 0)
    }),
    ("StorageDelayed", "the storage of this node does not store a vote …", || {
        let mut net = voters(2, &[0, 1]);
        net.settings.persist = (60 * SECOND, 60 * SECOND);
        (net, 0)
    }),
    ("LeaseTooLong", "this node asks for a lease longer than …", lease_too_long),
    ("VotersAbstain", "too few voters can vote now: not …", || {
        let mut net = voters(2, &[0, 1]);
        net.fail_disk(1);
        (net, 0)
    }),
    ("AwaitsTurn", "an election is about to begin", || (voters(3, &[1, 2]), 2)),
    ("Candidate", "this node asks for votes, …", || (voters(3, &[0, 1, 2]), 0)),
    ("VotersHaveNone", "the voters have not elected a master", || {
        let mut net = only_joining();
        let ix = net.add(Net::config(3, 3));
        net.start(ix);
        (net, ix)
    }),
    ("Leaving", "this node leaves", leaving),
];

/// `n` voters, of which these have just started.
fn voters(n: usize, started: &[NodeIx]) -> Net {
    let mut net = Net::of_voters(0, n, NetSettings { persist: (SECOND / 50, SECOND / 50), ..NetSettings::calm() });
    started.iter().for_each(|ix| net.start(*ix));
    net
}

fn master_unreachable() -> (Net, NodeIx) {
    let mut net = Net::formed(0, (3, 0), Settings::calm());
    let ix = net.add(Net::config(3, 3));
    net.name("h0:1", Target::Nowhere);
    net.start(ix);
    (net, ix)
}

/// The master cannot dial the address that the voter advertises, so it takes nothing from that voter.
fn not_admitted() -> (Net, NodeIx) {
    let mut net = voters(3, &[0, 1]);
    net.run_for(10 * SECOND);
    net.name("h2:1", Target::Nowhere);
    net.start(2);
    (net, 2)
}

fn too_much_metadata() -> (Net, NodeIx) {
    let mut net = Net::new(0, Settings::calm());
    net.add(Net::builder(0, 1).limits(Limits::new().with_metadata(4)).build().expect("valid"));
    let ix = net.add(Net::builder(1, 1).metadata("much metadata").build().expect("valid"));
    net.start_all();
    (net, ix)
}

fn held() -> (Net, NodeIx) {
    let mut net = Net::formed(0, (3, 0), Settings::calm());
    let ix = net.add(Net::config(3, 5));
    net.start(ix);
    (net, ix)
}

fn only_joining() -> Net {
    let mut net = Net::new(0, Settings::calm());
    for ix in 0..3 {
        net.add(Net::builder(ix, 3).bootstrap(Bootstrap::JoinOnly).build().expect("valid"));
    }
    net.start_all();
    net
}

fn lease_too_long() -> (Net, NodeIx) {
    let mut net = voters(2, &[]);
    net.set_timing(0, Timing::wan());
    net.set_timing(1, Timing::local());
    net.start_all();
    (net, 0)
}

/// It had a master, and the two others are gone.
fn leaving() -> (Net, NodeIx) {
    let mut net = Net::formed(0, (3, 0), Settings::calm());
    net.crash(0, Crash::Process);
    net.crash(1, Crash::Process);
    net.run_for(2 * SECOND);
    net.command(2, Command::Leave);
    (net, 2)
}

/// The name of the variant.
fn name(why: &NoMaster) -> String {
    let text = format!("{:?}", why.reason);
    text.split(|end: char| !end.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// Whether the line begins with these words. `…` stands for any text.
fn says(line: &str, words: &str) -> bool {
    let mut rest = Some(line);
    for (at, piece) in words.split('…').enumerate() {
        rest = rest.and_then(|rest| match at {
            0 => rest.strip_prefix(piece),
            _ => rest.split_once(piece).map(|(_, rest)| rest),
        });
    }
    rest.is_some()
}

/// What `` `…` `` has in the first cells of the page's first table.
fn words_of_the_guide() -> BTreeSet<&'static str> {
    let head = "//! | the line says | what it means | what to do |\n//! | --- | --- | --- |\n";
    let (_, table) = PAGE.split_once(head).expect("the table of the reasons");
    let rows = table.lines().take_while(|line| line.starts_with("//! | "));
    let cells = rows.filter_map(|row| row.split(" | ").nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// The names of all variants, as serde lists them.
fn all_reasons() -> BTreeSet<String> {
    let error = serde_json::from_str::<NoMasterReason>("\"?\"").expect_err("no reason has this name").to_string();
    error.split('`').skip(1).step_by(2).filter(|name| *name != "?").map(str::to_owned).collect()
}

#[test]
fn each_reason_comes_about_and_says_what_the_guide_says() {
    for (reason, words, scenario) in REASONS {
        let (mut net, ix) = scenario();
        let mut seen = BTreeSet::new();
        let done = net.run_until(20 * SECOND, |net| {
            let why = net.host(ix).formation.as_ref().and_then(|formation| formation.explain().no_master);
            let line = why.as_ref().map(ToString::to_string).unwrap_or_default();
            let is_meant = why.is_some_and(|why| name(&why) == reason) && says(&line, words);
            seen.insert(line);
            is_meant
        });
        net.expect(done, &format!("{reason} never says {words:?}, but {seen:#?}"));
    }
}

#[test]
fn every_reason_has_a_network_and_words_in_the_guide() {
    let reasons: BTreeSet<String> = REASONS.iter().map(|(reason, ..)| (*reason).to_owned()).collect();
    assert_eq!(reasons, all_reasons());
    assert!(reasons.len() > 10, "{reasons:?}");
    let words: BTreeSet<&str> = REASONS.iter().map(|(_, words, _)| *words).collect();
    assert_eq!(words, words_of_the_guide());
}
