//! The rules of the configuration. For each rule, the first invalid value leads to an error with the names and the
//! values, and the last valid value is accepted.

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    Address, Autopilot, Bootstrap, Config, ConfigBuilder, ConfigError, Detector, Limits, PhiAccrual, Timing,
    message::ProtocolRange,
};

const MS: fn(u64) -> Duration = Duration::from_millis;
const US: fn(u64) -> Duration = Duration::from_micros;
const HOUR: Duration = Duration::from_secs(3600);

fn builder() -> ConfigBuilder {
    Config::builder("prod", "a", "a:1").seeds(["a:1", "b:1", "c:1"])
}

fn numbered(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("host-{n}:1"))
}

#[track_caller]
fn expect_error(builder: ConfigBuilder, expected: &str) {
    let message = builder.build().expect_err(expected).to_string();
    assert!(message.starts_with(expected), "expected: {expected}\nbut the error is: {message}");
}

#[test]
fn presets_keep_every_rule() {
    assert_eq!(Timing::default(), Timing::lan());
    for (built, timing) in
        [(builder().lan(), Timing::lan()), (builder().local(), Timing::local()), (builder().wan(), Timing::wan())]
    {
        assert_eq!(built.build().unwrap().timing(), &timing);
    }
}

#[test]
fn getters_return_what_was_given() {
    let config = builder()
        .contacts(["d:1", " D:1 "])
        .bootstrap(Bootstrap::JoinOnly)
        .metadata(Bytes::from_static(b"rack 7"))
        .state_dir("/var/lib/prod")
        .build()
        .unwrap();
    assert_eq!(config.state_dir().map(ToString::to_string).as_deref(), Some("/var/lib/prod"));
    assert_eq!((config.cluster().as_str(), config.id().as_str(), config.address().as_str()), ("prod", "a", "a:1"));
    assert_eq!(config.seeds().iter().map(Address::as_str).collect::<Vec<_>>(), ["a:1", "b:1", "c:1"]);
    assert_eq!(config.contacts().iter().map(Address::as_str).collect::<Vec<_>>(), ["d:1"]);
    assert_eq!((config.bootstrap(), &config.metadata()[..]), (Bootstrap::JoinOnly, &b"rack 7"[..]));
    assert_eq!(config.limits(), &Limits::default());
}

#[test]
fn seeds_are_a_set_and_decide_voters_quorum_and_digest() {
    let config = builder().build().unwrap();
    let again = Config::builder("prod", "d", "d:1").seeds(["C:1 ", "b:1", "a:1", "b:1"]).build().unwrap();
    assert_eq!(config.seeds(), again.seeds());
    assert_eq!(config.electorate(), again.electorate());
    assert!(config.is_voter() && !again.is_voter());
    for (seeds, quorum) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)] {
        let config = Config::builder("prod", "a", "a:1").seeds(numbered(seeds)).build().unwrap();
        assert_eq!(config.quorum(), quorum, "of {seeds}");
    }
    assert_ne!(config.electorate(), builder().seeds(["d:1"]).build().unwrap().electorate());
}

#[test]
fn a_node_alone_is_its_own_only_seed() {
    let config = Config::single("prod", "a", "A:1").build().unwrap();
    assert_eq!(config.seeds().iter().map(Address::as_str).collect::<Vec<_>>(), ["a:1"]);
    assert!(config.is_voter());
    assert_eq!(config.quorum(), 1);
}

/// Several pods with one service name: each would be the master of a cluster of its own.
#[test]
fn only_the_own_address_as_a_seed_has_to_be_confirmed() {
    let alone = || Config::builder("prod", "a", "a:1").seeds(["A:1 ", "a:01"]);
    expect_error(alone(), "the only seed is a:1, the address of this node, so it would form a cluster alone;");
    let config = alone().single().build().unwrap();
    assert_eq!(config, Config::single("prod", "a", "a:1").build().unwrap());
    assert_eq!(ConfigBuilder::from(config.clone()).build(), Ok(config.clone()));
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    Config::builder("prod", "b", "b:1").seeds(["a:1"]).build().unwrap();
}

#[test]
fn an_address_that_nobody_can_dial_is_an_error() {
    for address in ["0.0.0.0:7000", "[::]:7000", "[0:0:0:0:0:0:0:0]:7000", "[::ffff:0.0.0.0]:7000"] {
        let error = Config::single("prod", "a", address).build().unwrap_err().to_string();
        assert!(error.contains("every address of a machine") && error.contains("listen there"), "{error}");
        assert!(matches!(builder().seeds([address]).build(), Err(ConfigError::Unspecified { .. })));
        assert!(matches!(builder().contacts([address]).build(), Err(ConfigError::Unspecified { .. })));
    }
}

#[test]
fn a_missing_seed_list_is_an_error_that_names_both_fixes() {
    let error = Config::builder("prod", "a", "a:1").build().unwrap_err();
    assert_eq!(error, ConfigError::NoSeeds);
    assert!(error.to_string().contains("seeds()") && error.to_string().contains("Config::single()"));
}

#[test]
fn a_detector_with_an_invalid_value_is_an_error() {
    let phi = PhiAccrual::default;
    for (phi, expected) in [
        (phi().with_threshold(0), "threshold is 0, but has to be from 1 to 12"),
        (phi().with_threshold(13), "threshold is 13"),
        (phi().with_window(1), "window is 1, but has to be from 2 to 1000"),
        (phi().with_min_deviation(Duration::ZERO), "min_deviation is 0ns"),
    ] {
        expect_error(builder().detector(Detector::PhiAccrual(phi)), expected);
    }
    builder().detector(Detector::PhiAccrual(phi())).build().unwrap();
}

#[test]
fn a_number_of_voters_that_is_kept_is_checked() {
    let config = builder().autopilot(Autopilot::keep(3)).build().unwrap();
    assert_eq!(config.autopilot().unwrap().replace_after, MS(300_000));
    assert_eq!(builder().build().unwrap().autopilot(), None, "off by default");
    for (voters, fits) in [(0, false), (1, true), (64, true), (65, false)] {
        assert_eq!(builder().autopilot(Autopilot::keep(voters)).build().is_ok(), fits, "{voters}");
    }
    let after = |time| builder().autopilot(Autopilot::keep(3).with_replace_after(time));
    expect_error(after(MS(2_999)), "autopilot.replace_after is 2.999s, but has to be from 3s to 2592000s");
    assert!(after(MS(3_000)).build().is_ok());
    expect_error(
        after(MS(3_000)).solo_after(MS(3_000)),
        "autopilot and solo_after exclude each other: a cluster with solo masters cannot change its voters; leave one of them out",
    );
}

#[test]
fn solo_after_is_off_by_default_and_at_least_bootstrap_wait() {
    assert_eq!(builder().build().unwrap().solo_after(), None);
    expect_error(
        builder().solo_after(MS(2_999)),
        "solo_after is 2.999s, but has to be at least bootstrap_wait, which is 3s; raise solo_after or lower bootstrap_wait",
    );
    expect_error(builder().solo_after(HOUR + US(1)), "solo_after is 3600.000001s, but has to be from 0ns to 3600s");
    let config = builder().solo_after(MS(3_000)).build().unwrap();
    assert_eq!(config.solo_after(), Some(MS(3_000)));
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
}

#[test]
fn unknown_protocol_versions_are_an_error() {
    for (min, max) in [(0, 1), (1, 9), (9, 9), (1, 0)] {
        let expected = format!("the program cannot speak the protocol versions {min} to {max}; choose a range");
        expect_error(builder().protocol(ProtocolRange { min, max }), &expected);
    }
}

#[test]
fn an_empty_state_dir_is_an_error() {
    expect_error(builder().state_dir(""), "state_dir is empty; name a directory");
}

#[test]
fn an_invalid_name_is_an_error_with_its_field_and_text() {
    expect_error(Config::single("", "a", "a:1"), "cluster: \"\" is not a cluster name: it is empty");
    expect_error(Config::single("prod", "", "a:1"), "id: \"\" is not a node id: it is empty");
    expect_error(Config::single("prod", "a", "a"), "address: \"a\" is not an address: it has no port");
    expect_error(builder().seeds(["b"]), "seeds: \"b\" is not an address: it has no port");
    expect_error(builder().former_seeds(["b"]), "former_seeds: \"b\" is not an address: it has no port");
    expect_error(builder().contacts(["c:0"]), "contacts: \"c:0\" is not an address: its port");
}

#[test]
fn every_time_has_a_minimum_and_a_maximum() {
    type Field = fn(&mut Timing) -> &mut Duration;
    let fields: [(&str, Duration, Field); 10] = [
        ("heartbeat_interval", MS(1), |t| &mut t.heartbeat_interval),
        ("lease", US(1), |t| &mut t.lease),
        ("suspect_after", US(1), |t| &mut t.suspect_after),
        ("down_after", US(1), |t| &mut t.down_after),
        ("bootstrap_wait", US(1), |t| &mut t.bootstrap_wait),
        ("stagger", US(1), |t| &mut t.stagger),
        ("election_timeout", US(1), |t| &mut t.election_timeout),
        ("handshake_timeout", US(1), |t| &mut t.handshake_timeout),
        ("dial_backoff_min", US(1), |t| &mut t.dial_backoff_min),
        ("dial_backoff_max", US(1), |t| &mut t.dial_backoff_max),
    ];
    for (name, least, field) in fields {
        for value in [least - Duration::from_nanos(1), HOUR + US(1)] {
            let mut timing = Timing::lan();
            *field(&mut timing) = value;
            let expected =
                format!("{name} is {value:?}, but has to be from {least:?} to 3600s; choose a value between");
            expect_error(builder().timing(timing), &expected);
        }
    }
    let shortest = Timing::local()
        .with_heartbeat_interval(MS(1))
        .with_stagger(US(1))
        .with_handshake_timeout(US(1))
        .with_dial_backoff_min(US(1))
        .with_dial_backoff_max(US(1));
    let longest = Timing::wan()
        .with_lease(HOUR)
        .with_down_after(HOUR)
        .with_bootstrap_wait(HOUR)
        .with_handshake_timeout(HOUR)
        .with_dial_backoff_min(HOUR)
        .with_dial_backoff_max(HOUR);
    for timing in [shortest, longest] {
        builder().timing(timing).build().unwrap();
    }
}

#[test]
fn times_have_to_fit_together() {
    let lan = Timing::lan;
    let rules: [(Timing, Timing, &str); 8] = [
        (
            lan().with_lease(US(599_999)),
            lan().with_lease(MS(600)),
            "lease is 599.999ms, but has to be at least 3 times heartbeat_interval, which is 200ms; raise lease or lower heartbeat_interval",
        ),
        (
            lan().with_suspect_after(US(399_999)),
            lan().with_suspect_after(MS(400)),
            "suspect_after is 399.999ms, but has to be at least 2 times heartbeat_interval, which is 200ms; raise suspect_after",
        ),
        (
            lan().with_suspect_after(MS(3000)),
            lan().with_suspect_after(US(2_999_999)),
            "down_after is 3s, but has to be more than suspect_after, which is 3s; raise down_after or lower suspect_after",
        ),
        (
            lan().with_lease(MS(3000)).with_down_after(US(2_999_999)),
            lan().with_lease(MS(3000)).with_down_after(MS(3000)),
            "down_after is 2.999999s, but has to be at least lease, which is 3s; raise down_after or lower lease",
        ),
        (
            lan().with_bootstrap_wait(US(999_999)),
            lan().with_bootstrap_wait(MS(1000)),
            "bootstrap_wait is 999.999ms, but has to be at least lease, which is 1s; raise bootstrap_wait or lower lease",
        ),
        (
            lan().with_election_timeout(MS(990)),
            lan().with_election_timeout(US(989_999)),
            "lease less max_clock_drift_percent is 990ms, but has to be more than election_timeout, which is 990ms; raise lease or lower",
        ),
        (
            lan().with_stagger(MS(500)),
            lan().with_stagger(US(499_999)),
            "election_timeout is 500ms, but has to be more than stagger, which is 500ms; raise election_timeout or lower stagger",
        ),
        (
            lan().with_dial_backoff_min(US(1_000_001)),
            lan().with_dial_backoff_min(MS(1000)),
            "dial_backoff_max is 1s, but has to be at least dial_backoff_min, which is 1.000001s; raise dial_backoff_max",
        ),
    ];
    for (broken, kept, expected) in rules {
        expect_error(builder().timing(broken), expected);
        builder().timing(kept).build().expect(expected);
    }
}

#[test]
fn clocks_may_not_drift_by_half() {
    let drifting =
        |max_clock_drift_percent| builder().timing(Timing::lan().with_max_clock_drift_percent(max_clock_drift_percent));
    expect_error(drifting(50), "max_clock_drift_percent is 50, but has to be from 0 to 49; choose");
    drifting(49).build().unwrap();
    drifting(0).build().unwrap();
}

#[test]
fn a_safe_lease_allows_for_clock_drift_and_is_rounded_down() {
    let safe = |lease, max_clock_drift_percent| {
        Timing::lan().with_lease(lease).with_max_clock_drift_percent(max_clock_drift_percent).safe_lease()
    };
    assert_eq!(safe(MS(1000), 1), MS(990));
    assert_eq!(safe(MS(1000), 0), MS(1000));
    assert_eq!(safe(US(199), 1), US(197));
    assert_eq!(safe(Duration::MAX, 200), Duration::ZERO);
    assert_eq!(safe(Duration::MAX, 0), US(u64::MAX));
}

#[test]
fn every_limit_has_a_minimum_and_a_frame_also_a_maximum() {
    type Field = fn(&mut Limits) -> &mut usize;
    let fields: [(&str, usize, Field); 11] = [
        ("frame_before_handshake", 640, |l| &mut l.frame_before_handshake),
        ("max_frame", 640, |l| &mut l.max_frame),
        ("send", 4096, |l| &mut l.send),
        ("pending_connections", 1, |l| &mut l.pending_connections),
        ("connections", 1, |l| &mut l.connections),
        ("members", 1, |l| &mut l.members),
        ("messages", 64, |l| &mut l.messages),
        ("change_log", 1, |l| &mut l.change_log),
        ("suspicions", 1, |l| &mut l.suspicions),
        ("pinned_views", 1, |l| &mut l.pinned_views),
        ("event_history", 1, |l| &mut l.event_history),
    ];
    for (name, least, field) in fields {
        let mut limits = Limits::default();
        *field(&mut limits) = least - 1;
        expect_error(builder().limits(limits), &format!("{name} is {}, but has to be from {least} to ", least - 1));
    }
    let smallest = Limits::new()
        .with_frame_before_handshake(640)
        .with_max_frame(4096)
        .with_send(4096)
        .with_pending_connections(1)
        .with_connections(4)
        .with_partial_bytes(4096)
        .with_unsent_bytes(4096)
        .with_messages(64)
        .with_members(1)
        .with_metadata(0)
        .with_change_log(1)
        .with_updates_at_once(0)
        .with_suspicions(1)
        .with_contacts(0)
        .with_discovered(0)
        .with_pinned_views(1)
        .with_event_history(1)
        .with_event_history_bytes(0)
        .with_streams(0)
        .with_streams_per_member(0)
        .with_stream_openings(0)
        .with_stream_names(0);
    builder().limits(smallest).build().unwrap();
    let frame = |max_frame| builder().limits(Limits::new().with_max_frame(max_frame).with_partial_bytes(2 << 30));
    expect_error(frame((1 << 30) + 1), "max_frame is 1073741825, but has to be from 640 to 1073741824; choose");
    frame(1 << 30).build().unwrap();
}

#[test]
fn limits_have_to_fit_together() {
    let base = Limits::default;
    let rules: [(Limits, Limits, &str); 6] = [
        (
            base().with_frame_before_handshake(131_073),
            base().with_frame_before_handshake(131_072),
            "max_frame is 131072, but has to be at least frame_before_handshake, which is 131073; raise max_frame or lower",
        ),
        (
            base().with_send(131_073),
            base().with_send(131_072),
            "max_frame is 131072, but has to be at least send, which is 131073; raise max_frame or lower send",
        ),
        (
            base().with_partial_bytes(131_071),
            base().with_partial_bytes(131_072),
            "partial_bytes is 131071, but has to be at least max_frame, which is 131072; raise partial_bytes or lower max_frame",
        ),
        (
            base().with_unsent_bytes(65_535),
            base().with_unsent_bytes(65_536),
            "unsent_bytes is 65535, but has to be at least send, which is 65536; raise unsent_bytes or lower send",
        ),
        (
            base().with_metadata(64_513),
            base().with_metadata(64_512),
            "send is 65536, but has to be at least 1024 more than metadata, which is 64513; raise send or lower metadata",
        ),
        (
            base().with_connections(3),
            base().with_connections(4),
            "connections is 3, but has to be more than the number of seeds, which is 3; raise connections or lower the number of seeds",
        ),
    ];
    for (broken, kept, expected) in rules {
        expect_error(builder().limits(broken), expected);
        builder().limits(kept).build().expect(expected);
    }
}

#[test]
fn the_given_values_must_keep_the_limits() {
    let seeds = |count| Config::builder("prod", "a", "a:1").seeds(numbered(count));
    expect_error(seeds(65), "the number of seeds is 65, but has to be from 1 to 64; choose");
    seeds(64).build().unwrap();

    let contacts = |count| builder().limits(Limits::new().with_contacts(2)).contacts(numbered(count));
    expect_error(
        contacts(3),
        "contacts is 2, but has to be at least the number of contacts, which is 3; raise contacts",
    );
    contacts(2).build().unwrap();

    let metadata = |len| builder().metadata(vec![7; len]);
    expect_error(
        metadata(513),
        "metadata is 512, but has to be at least the length of the metadata, which is 513; raise",
    );
    metadata(512).build().unwrap();
}

#[test]
fn a_configuration_survives_serialization() {
    let config = builder().wan().contacts(["d:1"]).metadata(Bytes::from_static(&[0, 255])).build().unwrap();
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    let bytes = postcard::to_allocvec(&config).unwrap();
    assert_eq!(postcard::from_bytes::<Config>(&bytes).unwrap(), config);
}

#[test]
fn a_configuration_file_needs_only_changed_values() {
    let json = r#"{"cluster":"prod","id":"a","address":"a:1","seeds":["a:1","b:1","c:1"],"timing":{"stagger":{"secs":0,"nanos":5000000}}}"#;
    let written = builder().timing(Timing::lan().with_stagger(MS(5))).build().unwrap();
    assert_eq!(serde_json::from_str::<Config>(json).unwrap(), written);
}

#[test]
fn a_deserialized_configuration_is_checked_too() {
    let expect_error = |json: &str, why: &str| {
        let message = serde_json::from_str::<Config>(json).expect_err(why).to_string();
        assert!(message.contains(why), "{message}");
    };
    expect_error(r#"{"cluster":"prod","id":"a","address":"a:1"}"#, "there are no seeds");
    expect_error(r#"{"cluster":"prod","id":"a","address":"a:1","seeds":["a"]}"#, "it has no port");
    expect_error(r#"{"cluster":"prod","id":"a","address":"a:1","seed":["a:1"]}"#, "unknown field `seed`");
    expect_error(
        r#"{"cluster":"prod","id":"a","address":"a:1","seeds":["b:1"],"timing":{"lease":{"secs":0,"nanos":1000}}}"#,
        "lease is 1µs, but has to be at least 3 times heartbeat_interval",
    );

    // The builder is serialized without checks, so its bytes can be invalid for a `Config`.
    let bytes = postcard::to_allocvec(&Config::builder("prod", "a", "a:1")).unwrap();
    assert!(postcard::from_bytes::<ConfigBuilder>(&bytes).is_ok());
    assert!(postcard::from_bytes::<Config>(&bytes).is_err());
}

const KEY: &str = "a key of 22 bytes here";

#[test]
fn a_key_has_16_to_1024_bytes_and_there_are_two_at_most() {
    let long = "k".repeat(1024);
    for key in [&long[..16], &long] {
        assert_eq!(builder().key(key).build().unwrap().keys().len(), 1);
    }
    let expected =
        |len: usize| format!("the length of a cluster key in bytes is {len}, but has to be from 16 to 1024; choose");
    expect_error(builder().key(&long[..15]), &expected(15));
    expect_error(builder().key(""), &expected(0));
    expect_error(builder().key(long.clone() + "k"), &expected(1025));
    expect_error(builder().key(KEY).key(&long[..15]), &expected(15));
    assert_eq!(builder().key(KEY).key([7; 16]).build().unwrap().keys(), [KEY.into(), vec![7; 16].into()]);
    let expected = "the number of cluster keys is 3, but has to be from 0 to 2; choose a value between";
    expect_error(builder().key(KEY).key([7; 16]).key([8; 16]), expected);
    assert!(builder().build().unwrap().keys().is_empty());
}

#[test]
fn a_key_is_neither_printed_nor_serialized() {
    let keyed = || builder().key(KEY).key(KEY.to_uppercase());
    let config = keyed().build().unwrap();
    let printed = format!("{:?} {:#?} {:?}", config, keyed(), builder().key("short").build());
    assert!(printed.contains("ClusterKey(hidden)"));
    let json = serde_json::to_string(&config).unwrap() + &serde_json::to_string(&keyed()).unwrap();
    let bytes = postcard::to_allocvec(&config).unwrap();
    let numbers = format!("{:?}", KEY.as_bytes());
    for shown in [&printed, &json] {
        let shown = shown.to_lowercase();
        assert!(!shown.contains(KEY) && !shown.contains("short") && !shown.contains(&numbers[1..20]), "{shown}");
    }
    assert!(!bytes.windows(8).any(|window| window == &KEY.as_bytes()[..8]));
}

/// Otherwise a node whose configuration is stored in a file would start again without a key.
#[test]
fn a_keyed_configuration_cannot_be_read_back_without_its_key() {
    let config = builder().key(KEY).build().unwrap();
    for json in [serde_json::to_string(&config).unwrap(), serde_json::to_string(&builder().key(KEY)).unwrap()] {
        let message = serde_json::from_str::<Config>(&json).expect_err("no key").to_string();
        assert!(message.contains("keys are never serialized; supply the key again with key()"), "{message}");
        let read: ConfigBuilder = serde_json::from_str(&json).unwrap();
        assert_eq!(read.clone().build(), Err(ConfigError::NoKey));
        assert_eq!(read.key(KEY).build().unwrap(), config);
    }
    let bytes = postcard::to_allocvec(&config).unwrap();
    assert!(postcard::from_bytes::<Config>(&bytes).is_err());
}
