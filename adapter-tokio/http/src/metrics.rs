//! The metrics of a node, in the text format of Prometheus.

use std::fmt::{Display, Write};

use formation_core::{Explanation, MemberState, Phase, Storage};
use formation_host::ClusterHandle;

/// All phases, so that each of them has a sample.
const PHASES: [(Phase, &str); 7] = [
    (Phase::Joining, "joining"),
    (Phase::Candidate, "candidate"),
    (Phase::Follower, "follower"),
    (Phase::Master, "master"),
    (Phase::Solo, "solo"),
    (Phase::Leaving, "leaving"),
    (Phase::Stopped, "stopped"),
];

const STATES: [(MemberState, &str); 2] = [(MemberState::Active, "active"), (MemberState::Suspect, "suspect")];

const STORAGES: [(Storage, &str); 4] = [
    (Storage::Idle, "idle"),
    (Storage::Writing, "writing"),
    (Storage::Delayed, "delayed"),
    (Storage::Failed, "failed"),
];

/// The metrics of a node. Without an explanation, because it has stopped, some are missing.
pub(crate) fn text(handle: &ClusterHandle, explanation: Option<&Explanation>) -> String {
    let mut text = Text::default();
    let (config, status, view, now) = (handle.config(), handle.status(), handle.view(), handle.now());
    let own = handle.node();
    let labels = [
        ("cluster", config.cluster().to_string()),
        ("node", own.id.to_string()),
        ("incarnation", own.incarnation.to_string()),
        ("address", config.address().to_string()),
    ];
    text.family("formation_info", Kind::Gauge, "This node. The value is always 1.", [(&labels[..], 1)]);
    for (name, help, is_true) in [
        (
            "formation_is_master",
            "Whether this node is the master and has a valid lease.",
            handle.leadership().is_some(),
        ),
        ("formation_has_master", "Whether this node has a master, or is the master.", status.master.is_some()),
        ("formation_is_voter", "Whether the address of this node is one of the seeds.", config.is_voter()),
        ("formation_can_vote", "Whether this node takes part in elections.", status.can_vote),
    ] {
        text.gauge(name, help, u8::from(is_true));
    }
    let lease = handle.leadership().map_or(0.0, |leadership| leadership.valid_until.since(now).as_secs_f64());
    let without = handle.without_master_since().map_or(0.0, |since| now.since(since).as_secs_f64());
    text.gauge("formation_lease_remaining_seconds", "The rest of the lease of this node; 0 if it has none.", lease);
    text.gauge("formation_without_master_seconds", "How long this node has had no master; 0 if it has one.", without);
    text.states(
        "formation_phase",
        "What this node is doing: 1 for that, and 0 for everything else.",
        "phase",
        PHASES,
        |phase| usize::from(*phase == status.phase),
    );
    text.gauge("formation_term", "The newest term that this node knows.", status.term.0);
    let master_term = status.master_term.map_or(0, |term| term.0);
    text.gauge("formation_master_term", "The term of the master of this node; 0 without one.", master_term);
    text.gauge("formation_view_term", "The term of the master that wrote the view of this node.", view.id().term.0);
    text.gauge("formation_view_version", "The number of the view of this node within its term.", view.id().version);
    text.states("formation_members", "Members in the view of this node, by their state.", "state", STATES, |state| {
        view.iter().filter(|member| member.state == *state).count()
    });
    text.gauge("formation_quorum", "How many voters elect a master.", config.quorum());
    text.gauge("formation_voters", "How many voters there are.", config.seeds().len());
    text.gauge("formation_links", "Established connections.", status.links);
    text.gauge(
        "formation_pending_connections",
        "Accepted connections that are not established.",
        status.pending_connections,
    );
    text.gauge("formation_partial_bytes", "Bytes of unfinished frames.", status.partial_bytes);
    let counters = status.counters;
    text.counter("formation_sent_bytes_total", "Bytes sent.", counters.bytes_sent);
    text.counter("formation_received_bytes_total", "Bytes received.", counters.bytes_received);
    text.counter("formation_received_frames_total", "Frames received.", counters.frames_received);
    text.counter("formation_candidacies_total", "How often this node has asked for votes.", counters.candidacies);
    let suppressed = handle.suppressed_events();
    text.counter(
        "formation_suppressed_events_total",
        "Events about unproven peers that were not reported.",
        suppressed,
    );
    if let Some(explanation) = explanation {
        let linked = explanation.voters.iter().filter(|voter| voter.node.is_some()).count();
        text.gauge("formation_voters_linked", "Voters that this node is linked to, itself included.", linked);
        let peers = explanation.without_master.len();
        text.gauge("formation_peers_without_master", "Linked peers without a master, while this node has one.", peers);
        text.states("formation_storage", "The storage of the votes: 1 for its state.", "state", STORAGES, |storage| {
            usize::from(*storage == explanation.storage)
        });
    }
    text.0
}

enum Kind {
    Gauge,
    Counter,
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, help, [(&[][..], value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, Kind::Counter, help, [(&[][..], value)]);
    }

    /// A sample for each state.
    fn states<T>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        states: impl IntoIterator<Item = (T, &'static str)>,
        value: impl Fn(&T) -> usize,
    ) {
        let samples: Vec<_> =
            states.into_iter().map(|(state, word)| ([(label, word.to_owned())], value(&state))).collect();
        self.family(name, Kind::Gauge, help, samples.iter().map(|(labels, value)| (&labels[..], value)));
    }

    /// A metric with its samples.
    fn family<'a, T: Display>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        samples: impl IntoIterator<Item = (&'a [(&'a str, String)], T)>,
    ) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let labels: Vec<_> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

/// The text of a label, as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_label_is_escaped() {
        let mut text = Text::default();
        text.family("a", Kind::Counter, "b", [(&[("c", "\"d\\\n".to_owned())][..], 1)]);
        assert_eq!(text.0, "# HELP a b\n# TYPE a counter\na{c=\"\\\"d\\\\\\n\"} 1\n");
    }
}
