//! The samples of the metrics, as they are at one moment.

use formation_core::{
    Change, Config, Explanation, LossReason, MemberState, Node, Phase, RemovalReason, Storage, Timestamp,
};
use serde::Serialize;

use super::{
    Histogram, Tallies, snake,
    table::{self, METRICS, Metric},
};
use crate::shared::State;

/// All phases, so that each of them has a sample.
const PHASES: [Phase; 7] =
    [Phase::Joining, Phase::Candidate, Phase::Follower, Phase::Master, Phase::Solo, Phase::Leaving, Phase::Stopped];

pub(super) const STATES: [MemberState; 2] = [MemberState::Active, MemberState::Suspect];

pub(super) const REMOVALS: [RemovalReason; 3] = [RemovalReason::Left, RemovalReason::Down, RemovalReason::Unknown];

const STORAGES: [Storage; 4] = [Storage::Idle, Storage::Writing, Storage::Delayed, Storage::Failed];

pub(super) const LOSSES: [LossReason; 6] = [
    LossReason::Silent,
    LossReason::Ended,
    LossReason::LeaseExpired,
    LossReason::NewerTerm,
    LossReason::Resigned,
    LossReason::GaveWay,
];

/// The label of a dial that has led to a connection.
pub(crate) const REACHED: &str = "reached";

/// The outcome of a dial.
pub(super) const DIALS: [&str; 6] = [REACHED, "unresolved", "refused", "unreachable", "timed_out", "other"];

/// The label of a change.
pub(crate) fn change(change: &Change) -> String {
    match change {
        Change::Upsert(member) => snake(member.state),
        Change::Remove { reason, .. } => snake(reason),
    }
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Sample {
    /// The metric.
    pub metric: Metric,
    /// All of its labels, by name: `cluster` and `node` on each.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: MetricValue,
}

/// The value of a sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub enum MetricValue {
    /// The value of a counter or a gauge.
    Number(f64),
    /// The times of a histogram.
    Histogram(Histogram),
}

/// A gauge, the value of its label, and its value.
type Gauge = (Metric, String, f64);

/// The gauges that the state of a node shows.
fn gauges(state: &State, config: &Config, now: Timestamp) -> Vec<Gauge> {
    let State { status, view, electorate, .. } = state;
    let leadership = state.leadership.filter(|leadership| now < leadership.valid_until);
    let lease = leadership.map_or(0.0, |leadership| leadership.valid_until.since(now).as_secs_f64());
    let without = state.without_master_since.map_or(0.0, |since| now.since(since).as_secs_f64());
    let is = |truth: bool| f64::from(u8::from(truth));
    let plain = [
        (table::IS_MASTER, is(leadership.is_some())),
        (table::HAS_MASTER, is(status.master.is_some())),
        (table::IS_VOTER, is(electorate.voters.contains(config.address()))),
        (table::CAN_VOTE, is(status.can_vote)),
        (table::LEASE_REMAINING, lease),
        (table::WITHOUT_MASTER, without),
        (table::TERM, status.term.0 as f64),
        (table::MASTER_TERM, status.master_term.map_or(0.0, |term| term.0 as f64)),
        (table::VIEW_TERM, view.id().term.0 as f64),
        (table::VIEW_VERSION, view.id().version as f64),
        (table::QUORUM, electorate.quorum() as f64),
        (table::VOTERS, electorate.voters.len() as f64),
        (table::ELECTORATE_CHANGING, is(electorate.target.is_some())),
        (table::PARTIAL_BYTES, status.partial_bytes as f64),
    ];
    let mut all: Vec<Gauge> = plain.into_iter().map(|(metric, value)| (metric, String::new(), value)).collect();
    all.extend(PHASES.map(|phase| (table::PHASE, snake(phase), is(phase == status.phase))));
    all.extend(STORAGES.map(|storage| (table::STORAGE, snake(storage), is(storage == status.storage))));
    let members = |state| view.iter().filter(|member| member.state == state).count() as f64;
    all.extend(STATES.map(|state| (table::MEMBERS, snake(state), members(state))));
    let connections = [("linked", status.links), ("pending", status.pending_connections)];
    all.extend(connections.map(|(state, count)| (table::CONNECTIONS, state.to_owned(), count as f64)));
    all
}

/// The values that only an explanation knows.
fn explained(explanation: &Explanation) -> Vec<Gauge> {
    let linked = explanation.voters.iter().filter(|voter| voter.node.is_some()).count();
    vec![
        (table::VOTERS_LINKED, String::new(), linked as f64),
        (table::PEERS_WITHOUT_MASTER, String::new(), explanation.without_master.len() as f64),
    ]
}

/// The counters that others keep.
fn counters(state: &State) -> [(Metric, u64); 5] {
    let counters = state.status.counters;
    [
        (table::SENT_BYTES, counters.bytes_sent),
        (table::RECEIVED_BYTES, counters.bytes_received),
        (table::RECEIVED_FRAMES, counters.frames_received),
        (table::CANDIDACIES, counters.candidacies),
        (table::SUPPRESSED, state.suppressed),
    ]
}

/// All samples, in the order of the table.
pub(crate) fn samples(
    state: &State,
    config: &Config,
    own: &Node,
    now: Timestamp,
    explanation: Option<&Explanation>,
) -> Vec<Sample> {
    let sample = |metric: Metric, label: String, value| {
        let named = metric.label.map(|name| (name, label));
        let own = [("cluster", config.cluster().to_string()), ("node", own.id.to_string())];
        Sample { metric, labels: own.into_iter().chain(named).collect(), value }
    };
    let number = |(metric, label, value)| sample(metric, label, MetricValue::Number(value));
    let mut info = sample(table::INFO, String::new(), MetricValue::Number(1.0));
    info.labels.extend([("incarnation", own.incarnation.to_string()), ("address", config.address().to_string())]);
    let mut all = vec![info];
    all.extend(gauges(state, config, now).into_iter().map(number));
    all.extend(explanation.map(explained).into_iter().flatten().map(number));
    all.extend(counters(state).map(|(metric, count)| number((metric, String::new(), count as f64))));
    let tallies = &state.tallies;
    for metric in METRICS {
        let of = tallies.counters.iter().filter(|((name, _), _)| *name == metric.name);
        all.extend(of.map(|((_, label), count)| number((*metric, label.clone(), *count as f64))));
        let histogram = tallies.histograms.get(metric.name).cloned();
        let is_histogram = metric.kind == super::MetricKind::Histogram;
        let histogram = is_histogram.then(|| MetricValue::Histogram(histogram.unwrap_or_default()));
        all.extend(histogram.map(|value| sample(*metric, String::new(), value)));
    }
    all.sort_by_key(|sample| METRICS.iter().position(|metric| metric.name == sample.metric.name));
    all
}

/// Sends to the facade what the state of the node shows.
pub(crate) fn send(state: &mut State, config: &Config, now: Timestamp) {
    let (gauges, counters) = (gauges(state, config, now), counters(state));
    let Tallies { facade, .. } = &mut state.tallies;
    for (metric, label, value) in gauges {
        facade.gauge(&metric, &label, value);
    }
    for (metric, value) in counters {
        facade.count_is(&metric, value);
    }
}
