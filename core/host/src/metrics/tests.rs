use std::collections::BTreeSet;

use formation_core::{CloseReason, Formation, Incarnation, RejectReason, Start};

use super::*;
use crate::{clock::Clock, shared::Publisher};

fn metric(name: &str) -> &'static Metric {
    METRICS.iter().find(|metric| metric.name == name).unwrap()
}

#[test]
fn names_keep_to_the_conventions_of_prometheus() {
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len(), "each name once");
    for Metric { name, kind, help, .. } in METRICS {
        assert!(name.starts_with("formation_") && help.ends_with('.'), "{name}: {help}");
        assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
        assert!(*kind != MetricKind::Histogram || name.ends_with("_seconds"), "{name}");
        let is_plain = |letter: char| letter.is_ascii_lowercase() || letter == '_';
        assert!(name.chars().all(is_plain), "{name}");
    }
}

#[test]
fn a_variant_is_a_label_without_its_fields() {
    assert_eq!(snake(CloseReason::Silent), "silent");
    assert_eq!(snake(CloseReason::Rejected(RejectReason::WrongCluster)), "rejected");
    assert_eq!(snake(CloseReason::SpeaksHttp), "speaks_http");
}

#[test]
fn a_bucket_counts_all_times_that_are_not_longer() {
    let mut times = Histogram::default();
    for seconds in [0.000_5, 0.002, 0.002, 7_200.0] {
        times.record(seconds);
    }
    let buckets: Vec<_> = times.buckets().collect();
    assert_eq!(buckets[..3], [(0.000_5, 1), (0.001, 1), (0.002_5, 3)]);
    assert_eq!((buckets.last(), times.count(), times.sum()), (Some(&(3_600.0, 3)), 4, 7_200.004_5));
}

/// A node that becomes the master at once.
fn single() -> (Formation, Publisher) {
    let config = Config::single("shop", "a", "a:1").build().unwrap();
    let formation = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
    let (publisher, ..) = Publisher::new(&formation, Clock::start());
    (formation, publisher)
}

/// The only value of a metric that is a number.
fn number(samples: &[Sample], name: &str, label: &str) -> f64 {
    let metric = metric(name);
    let is_it = |sample: &&Sample| {
        sample.metric == *metric
            && sample.labels.iter().all(|(name, value)| metric.label != Some(name) || value == label)
    };
    match samples.iter().find(is_it).map(|sample| &sample.value) {
        Some(MetricValue::Number(number)) => *number,
        other => panic!("{name} is {other:?}"),
    }
}

fn samples_of(formation: &Formation, publisher: &Publisher, now: Timestamp) -> Vec<Sample> {
    let (shared, explanation) = (publisher.shared(), formation.explain());
    samples(&shared.lock(), formation.config(), formation.node(), now, Some(&explanation))
}

#[test]
fn every_metric_has_samples_from_the_start() {
    let (formation, publisher) = single();
    let samples = samples_of(&formation, &publisher, Timestamp::ZERO);
    for metric in METRICS {
        // Their labels are reasons, of which there are many.
        let comes_later = ["formation_closed", "formation_rejected"].iter().any(|start| metric.name.starts_with(start));
        assert_eq!(samples.iter().any(|sample| sample.metric == *metric), !comes_later, "{}", metric.name);
    }
    let order: Vec<_> = samples.iter().map(|it| METRICS.iter().position(|metric| *metric == it.metric)).collect();
    assert!(order.is_sorted());
    assert_eq!(number(&samples, "formation_master_losses_total", "lease_expired"), 0.0);
    let phases = ["joining", "candidate", "follower", "master", "solo", "leaving", "stopped"];
    assert_eq!(phases.map(|phase| number(&samples, "formation_phase", phase)).iter().sum::<f64>(), 1.0);
    let states = ["idle", "writing", "delayed", "failed"];
    assert_eq!(states.map(|state| number(&samples, "formation_storage", state)).iter().sum::<f64>(), 1.0);
}

/// The facade sees the same numbers as those who ask.
#[cfg(feature = "metrics")]
mod facade {
    use std::collections::BTreeMap;

    use formation_core::{Input, Output};
    use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

    use super::*;
    use crate::events::{EVENT_BUFFER, Events};

    type Seen = BTreeMap<String, DebugValue>;

    /// The values that the recorder has seen, as `name label`. The labels of the node are checked.
    fn seen(snapshotter: &Snapshotter) -> Seen {
        let entry = |key: &metrics::Key, value| {
            let mut labels = key.labels().map(|label| (label.key(), label.value()));
            assert_eq!(labels.by_ref().take(2).collect::<Vec<_>>(), [("cluster", "shop"), ("node", "a")]);
            let label = labels.next().map(|(_, value)| format!(" {value}")).unwrap_or_default();
            (format!("{}{label}", key.name()), value)
        };
        let all = snapshotter.snapshot().into_vec().into_iter();
        all.map(|(key, _, _, value)| entry(key.key(), value)).collect()
    }

    fn gauge(value: f64) -> DebugValue {
        DebugValue::Gauge(value.into())
    }

    fn input(formation: &mut Formation, publisher: &mut Publisher, now: Timestamp, input: Input) {
        formation.handle_input(now, input).unwrap();
        publisher.publish_state(formation, now);
        while let Some(output) = formation.poll_output() {
            match output {
                Output::Persist { seq, .. } => {
                    formation.handle_input(now, Input::Persisted { seq }).unwrap();
                    publisher.publish_state(formation, now);
                }
                Output::Event(event) => publisher.publish_event(event),
                _ => {}
            }
        }
    }

    #[test]
    fn a_recorder_sees_what_the_node_counts() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, || {
            let (mut formation, mut publisher) = single();
            let now = Timestamp::ZERO + Duration::from_millis(20);
            input(&mut formation, &mut publisher, now, Input::Tick);
            let first = seen(&snapshotter);
            assert_eq!(first["formation_elections_total"], DebugValue::Counter(1));
            assert_eq!(first["formation_views_total"], DebugValue::Counter(1));
            assert_eq!(first["formation_master_losses_total resigned"], DebugValue::Counter(0));
            let is_master = |seen: &Seen, value| {
                ["formation_is_master", "formation_phase master"].iter().all(|name| seen[*name] == gauge(value))
            };
            assert!(is_master(&first, 1.0), "{first:?}");
            assert_eq!(first["formation_members active"], gauge(1.0));
            let DebugValue::Histogram(times) = &first["formation_without_master_duration_seconds"] else {
                panic!("{first:?}")
            };
            assert_eq!(times.len(), 1);

            publisher.record(&table::PERSISTS, Duration::from_millis(3));
            publisher.count(&table::DIALS, REACHED);
            drop(publisher);
            let last = seen(&snapshotter);
            assert_eq!(last["formation_persist_duration_seconds"], DebugValue::Histogram(vec![0.003.into()]));
            assert_eq!(last["formation_dials_total reached"], DebugValue::Counter(1));
            assert!(is_master(&last, 0.0), "it has stopped: {last:?}");
        });
    }

    #[test]
    fn the_counts_of_a_second_run_in_one_process_are_added() {
        let recorder = DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, || {
            for _ in 0..2 {
                let (mut formation, mut publisher) = single();
                input(&mut formation, &mut publisher, Timestamp::ZERO, Input::Tick);
            }
            assert_eq!(seen(&recorder.snapshotter())["formation_candidacies_total"], DebugValue::Counter(2));
        });
    }

    #[test]
    fn a_recorder_sees_the_events_that_a_subscriber_has_lost() {
        let recorder = DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, || {
            let config = Config::single("shop", "a", "a:1").build().unwrap();
            let formation = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
            let (mut publisher, shared, receiver) = Publisher::new(&formation, Clock::start());
            let mut events = Events::new(receiver, shared);
            (0..EVENT_BUFFER + 3).for_each(|_| publisher.publish_event(formation_core::Event::PersistFailed));
            assert!(futures_lite::future::block_on(events.recv()).is_err());
            let lost = &seen(&recorder.snapshotter())["formation_skipped_events_total"];
            assert_eq!(*lost, DebugValue::Counter(3));
        });
    }

    /// Each metric of the table that is sent, and nothing else.
    #[test]
    fn a_recorder_sees_the_names_of_the_table_only() {
        let recorder = DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, || {
            let (mut formation, mut publisher) = single();
            input(&mut formation, &mut publisher, Timestamp::ZERO, Input::Tick);
            let all = seen(&recorder.snapshotter());
            let names: BTreeSet<_> = all.keys().map(|key| key.split(' ').next().unwrap()).collect();
            let listed = METRICS.iter().map(|metric| metric.name);
            let missing: Vec<_> = listed.filter(|name| !names.contains(name)).collect();
            let not_yet = [
                "formation_info",
                "formation_voters_linked",
                "formation_peers_without_master",
                "formation_closed_connections_total",
                "formation_rejected_connections_total",
                "formation_rejected_by_peer_connections_total",
                "formation_heartbeat_round_trip_seconds",
                "formation_persist_duration_seconds",
            ];
            assert_eq!(missing, not_yet);
            assert!(names.iter().all(|name| METRICS.iter().any(|metric| metric.name == *name)), "{names:?}");
        });
    }
}

/// E10: the voters of the metrics are those of now, and not the seeds.
#[test]
fn metrics_count_the_voters_of_now() {
    let (formation, publisher) = single();
    let shared = publisher.shared();
    let mut electorate = formation.electorate().clone();
    electorate.voters = (10..15).map(|number| formation_core::Address::new(format!("c{number}:1")).unwrap()).collect();
    electorate.target = Some(electorate.voters.clone());
    shared.lock().electorate = electorate;
    let samples = samples_of(&formation, &publisher, Timestamp::ZERO);
    let values = ["voters", "quorum", "is_voter", "electorate_changing"];
    assert_eq!(values.map(|name| number(&samples, &format!("formation_{name}"), "")), [5.0, 3.0, 0.0, 1.0]);
}
