//! What OpenTelemetry gets.

use crate::replicas::{Line, Replicas, VOTERS};

/// Whether a line has these words anywhere: the exporter does not begin its lines with the replica.
fn has(line: &Line, words: &str) -> bool {
    format!("{} {}", line.id, line.text).contains(words)
}

/// Waits for a line with these words.
fn wait_for(replicas: &mut Replicas, words: &str) {
    replicas.wait_for(words, |line| has(line, words).then_some(()));
}

#[test]
fn events_are_log_records_and_a_mastership_is_a_span() {
    let mut replicas = Replicas::new(env!("CARGO_BIN_EXE_telemetry"));
    VOTERS.iter().for_each(|id| replicas.start(id, &[]));
    wait_for(&mut replicas, "master elected");
    // The first step of the master.
    wait_for(&mut replicas, "Name         : step");
    for id in VOTERS {
        replicas.signal(id, "TERM");
        assert_eq!(replicas.wait_for_end(id).code(), Some(0));
    }
    wait_for(&mut replicas, "Name         : mastership");
    replicas.catch_up();
    let seen = |words: &str| replicas.seen().iter().any(|line| has(line, words));
    assert!(!seen("Name         : formation"), "the span of the node is of no use");
}
