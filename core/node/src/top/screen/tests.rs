use formation_core::{Config, Formation, Incarnation, Start, Timestamp};
use ratatui::{Terminal, backend::TestBackend};
use serde_json::json;

use super::*;

/// An answer of `/cluster` of a node that is a member, with so many members.
fn overview(members: usize) -> Value {
    let member = |number: usize| {
        let state = if number == 2 { "Suspect" } else { "Active" };
        let node = json!({ "id": format!("node-{number}"), "incarnation": 7 });
        json!({ "node": node, "address": format!("10.0.0.{number}:7000"), "state": state, "metadata": "" })
    };
    json!({
        "cluster": "orders",
        "node": { "id": "node-1", "incarnation": 7 },
        "address": "10.0.0.1:7000",
        "is_voter": true,
        "is_ready": true,
        "master": { "node": { "id": "node-0", "incarnation": 7 }, "address": "10.0.0.0:7000", "term": 3, "is_this_node": false },
        "lease_ms": null,
        "lease_length_ms": 1000,
        "without_master_ms": null,
        "no_master": null,
        "sources": [{ "source": "dns:orders:7000", "addresses": ["10.0.0.9:7000"], "problem": null }],
        "newest_event": 1,
        "status": { "phase": "Follower", "links": 2 },
        "view": { "id": "0:3.1", "members": (0..members).map(member).collect::<Vec<_>>() },
    })
}

/// The explanation of a voter that has just started.
fn explanation() -> Value {
    let config = Config::builder("orders", "node-1", "10.0.0.1:7000").seeds(["10.0.0.0:7000", "10.0.0.1:7000"]);
    let start = Start::new(Incarnation(7), 1);
    let node = Formation::new(config.build().unwrap(), start, Timestamp::ZERO);
    serde_json::to_value(node.explain()).unwrap()
}

fn drawn(screen: &Screen, now: Instant, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame, now)).unwrap();
    terminal.backend().to_string()
}

fn expect(text: &str, all: &[&str]) {
    for part in all {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

const SIZE: (u16, u16) = (100, 30);

#[test]
fn members_voters_and_events_are_shown() {
    let (mut screen, now) = (Screen::new("10.0.0.1:8000"), Instant::now());
    expect(&drawn(&screen, now, SIZE), &["asking 10.0.0.1:8000", "q quits"]);
    screen.answered(overview(4), Some(explanation()), now);
    screen.happened(&json!({ "number": 1, "unix_ms": 3_723_000, "line": "node-0 is the MASTER of term 3" }));
    screen.happened(&json!({ "number": 2, "unix_ms": 3_723_000, "line": null }));
    screen.happened(&json!({ "number": 3, "unix_ms": u64::MAX, "line": "a wrong clock" }));
    let text = drawn(&screen, now, SIZE);
    expect(
        &text,
        &[
            "node-1 in orders at 10.0.0.1:7000: follower, a voter, ready",
            "master: node-0 at 10.0.0.0:7000, term 3",
            "discovery: dns:orders:7000: 1 address",
            "4 members",
            "2 voters, 2 elect a master",
            "10.0.0.0:7000",
            "not linked",
            "01:02:03 node-0 is the MASTER of term 3",
            "23:59:59 a wrong clock",
        ],
    );
    let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap().to_owned();
    expect(&line("node-0  "), &["active", "master"]);
    expect(&line("suspect"), &["node-2", "10.0.0.2:7000"]);
    expect(&line("this node"), &["node-1"]);
}

#[test]
fn a_lease_runs_down_between_two_answers() {
    let (mut screen, now) = (Screen::new("a:1"), Instant::now());
    let mut it = overview(1);
    it["lease_ms"] = 900.into();
    screen.answered(it, None, now);
    expect(&drawn(&screen, now, SIZE), &["[###########################---] 900 ms left"]);
    expect(&drawn(&screen, now + Duration::from_millis(400), SIZE), &["[###############---------------] 500 ms left"]);
    expect(&drawn(&screen, now + Duration::from_secs(9), SIZE), &["[------------------------------] 0 ms left"]);
}

#[test]
fn the_reason_for_no_master_is_shown_whole() {
    let (mut screen, now) = (Screen::new("a:1"), Instant::now());
    let mut it = overview(1);
    let why = format!("fewer than a quorum of voters are linked: {} the end", "10.0.0.9:7000 ".repeat(6));
    (it["master"], it["without_master_ms"], it["no_master"]) = (Value::Null, 5_000.into(), why.into());
    screen.answered(it, None, now);
    let text = drawn(&screen, now + Duration::from_secs(7), (60, 30));
    expect(&text, &["no master for 12 s", "fewer than a quorum", "the end"]);
}

#[test]
fn the_last_answer_stays_when_the_node_is_silent() {
    let (mut screen, now) = (Screen::new("a:1"), Instant::now());
    screen.failed("a:1 does not answer".to_owned());
    expect(&drawn(&screen, now, SIZE), &["a:1 does not answer"]);
    screen.answered(overview(3), None, now);
    assert!(!drawn(&screen, now, SIZE).contains("does not answer"));
    screen.failed("a:1 does not answer".to_owned());
    expect(&drawn(&screen, now, SIZE), &["a:1 does not answer", "the last answer", "3 members"]);
}

#[test]
fn members_scroll_and_the_screen_may_be_small() {
    let (mut screen, now) = (Screen::new("a:1"), Instant::now());
    screen.answered(overview(50), None, now);
    assert!(!drawn(&screen, now, SIZE).contains("node-40 "));
    screen.scroll_down(40);
    expect(&drawn(&screen, now, SIZE), &["node-40 ", "50 members"]);
    screen.scroll_down(400);
    expect(&drawn(&screen, now, SIZE), &["node-49 "]);
    screen.scroll_up(1000);
    expect(&drawn(&screen, now, SIZE), &["node-0 "]);
    for size in [(1, 1), (10, 3), (20, 5)] {
        drawn(&screen, now, size);
    }
}

#[test]
fn events_and_answers_of_other_versions_are_bounded() {
    let (mut screen, now) = (Screen::new("a:1"), Instant::now());
    for number in 0..1000 {
        screen.happened(&json!({ "unix_ms": 0, "line": format!("event {number}") }));
    }
    assert_eq!(screen.events.len(), EVENTS);
    screen.answered(json!({ "unknown": 1 }), Some(json!({ "unknown": 1 })), now);
    expect(&drawn(&screen, now, SIZE), &["event 999", "0 members"]);
}
