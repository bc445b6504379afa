use std::{collections::BTreeMap, fs};

use formation_host::Discovery;
use serde_json::Value;

use super::*;

const NEEDED: &str = "--cluster c --id a --listen a:1 --seed a:1 --seed b:1";

fn read_flags(flags: &str) -> Result<Settings, clap::Error> {
    read_with(flags, &[])
}

fn read_with(flags: &str, variables: &[(&str, &str)]) -> Result<Settings, clap::Error> {
    let flags = ["program"].into_iter().chain(flags.split_whitespace()).map(OsString::from);
    Settings::read("program", flags, variables.iter().map(|(name, value)| (name.into(), value.into())))
}

fn read_file(flags: &str, text: &str) -> Result<Settings, clap::Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    fs::write(&path, text).unwrap();
    read_flags(&format!("{flags} --config {}", path.display()))
}

/// The values of a configuration by their path. A duration is one value.
fn values(config: &Config) -> BTreeMap<String, Value> {
    fn walk(path: String, value: Value, all: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) if !fields.contains_key("nanos") => {
                for (name, value) in fields {
                    walk(format!("{path}/{name}"), value, all);
                }
            }
            leaf => drop(all.insert(path, leaf)),
        }
    }
    let mut all = BTreeMap::new();
    walk(String::new(), serde_json::to_value(config).unwrap(), &mut all);
    all
}

/// A field that the library gets later has no flag in this file, and fails here.
#[test]
fn every_option_of_the_library_has_a_flag() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key");
    fs::write(&key_file, "a key that is long enough for the cluster\n").unwrap();
    let all = r#"
        cluster = "other"
        id = "other"
        listen = "b:1"
        former_seed = ["c:1"]
        contact = ["d:1"]
        state_dir = "votes"
        join_only = true
        priority = 7
        solo_after = "1m 30s"
        lease_margin = "50ms"
        metadata = "text"
        detector = "phi"
        phi_threshold = 6
        phi_window = 50
        phi_min_deviation = "30ms"
        heartbeat_interval = "300ms"
        lease = "2s"
        suspect_after = "700ms"
        down_after = "4s"
        bootstrap_wait = "5s"
        stagger = "150ms"
        election_timeout = "600ms"
        handshake_timeout = "3s"
        dial_backoff_min = "30ms"
        dial_backoff_max = "2s"
        max_clock_drift_percent = 2
        limit_frame_before_handshake = 2048
        limit_max_frame = 100000
        limit_send = 50000
        limit_pending_connections = 65
        limit_connections = 100
        limit_partial_bytes = 1000000
        limit_unsent_bytes = 1000001
        limit_messages = 100
        limit_members = 50
        limit_metadata = 51
        limit_change_log = 52
        limit_updates_at_once = 53
        limit_suspicions = 15
        limit_contacts = 54
        limit_discovered = 56
        limit_pinned_views = 5
        limit_event_history = 57
        limit_event_history_bytes = 58000
        limit_streams = 59
        limit_streams_per_member = 60
        limit_stream_openings = 61
        limit_stream_names = 62
    "#;
    let plain = values(&read_flags(&format!("{NEEDED} --detector phi --keep-voters 5")).unwrap().config().unwrap());
    let changed = format!("seed = ['b:1', 'e:1']\nkey_file = {key_file:?}\n{all}");
    let changed = values(&read_file("", &changed).unwrap().config().unwrap());
    // These two exclude each other.
    let kept = all.replace(r#"solo_after = "1m 30s""#, "keep_voters = 3\nreplace_voter_after = '1m'");
    let single = values(&read_file("--single", &kept).unwrap().config().unwrap());
    // There is one protocol version, and nothing else to choose.
    let is_same = |path: &&String| {
        let value = &plain[*path];
        let is_version = path.starts_with("/protocol/");
        !is_version && changed.get(*path).is_none_or(|it| it == value) && single.get(*path).is_none_or(|it| it == value)
    };
    let same: Vec<_> = plain.keys().filter(is_same).collect();
    assert!(same.is_empty(), "no flag changes {same:?}");
}

#[test]
fn all_missing_flags_are_reported_at_once() {
    let error = read_flags("--tls-key key").unwrap_err().to_string();
    for flag in ["--cluster", "--id", "--listen", "--seed", "--single", "--tls-authority", "--tls-certificate"] {
        assert!(error.contains(flag), "{flag}: {error}");
    }
    assert!(!error.contains("--tls-key"), "{error}");
}

#[test]
fn certificates_are_read_again_with_tls_only() {
    let settings = read_flags("--cluster c --id a --listen a:1 --single --tls-reload-every 1m").unwrap();
    let error = settings.credentials().unwrap_err().to_string();
    assert!(error.contains("--tls-reload-every has no effect"), "{error}");
}

#[test]
fn voters_are_replaced_only_where_their_number_is_kept() {
    let settings = read_flags(&format!("{NEEDED} --keep-voters 3 --replace-voter-after 2m")).unwrap();
    let autopilot = Autopilot::keep(3).with_replace_after(Duration::from_secs(120));
    assert_eq!(settings.config().unwrap().autopilot(), Some(&autopilot));
    for (flags, problem) in [
        ("--replace-voter-after 2m", "--replace-voter-after has no effect without --keep-voters"),
        ("--keep-voters 99", "--keep-voters is 99, but has to be from 1 to 64"),
        ("--keep-voters 3 --replace-voter-after 1s", "--replace-voter-after is 1s, but has to be from 3s to 30days"),
        ("--keep-voters 3 --solo-after 1m", "--keep-voters and --solo-after exclude each other"),
    ] {
        let error = read_flags(&format!("{NEEDED} {flags}")).unwrap().config().unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn flags_have_precedence_over_the_file() {
    let file = "lease = '2s'\nseed = ['x:1']\nid = 'from-file'\ncluster = 'from-file'\n";
    let settings = read_file("--id a --listen a:1 --seed a:1 --seed b:1 --down-after 8s", file).unwrap();
    assert_eq!(settings.id.as_deref(), Some("a"));
    assert_eq!(settings.cluster.as_deref(), Some("from-file"));
    assert_eq!(settings.seed, ["a:1", "b:1"]);
    assert_eq!(settings.timing().lease.as_secs(), 2);
    assert_eq!(settings.timing().down_after.as_secs(), 8);
}

#[test]
fn an_error_in_the_file_names_the_file_and_the_setting() {
    for (text, named) in [
        ("nonsense = 1", "nonsense"),
        ("config = 'other.toml'", "config"),
        ("help = true", "help"),
        ("lease = 2", "--lease"),
        ("lease = 2.5", "lease"),
        ("single = 'yes'", "single"),
        ("id = ['a', 'b']", "--id"),
        ("id = ", "id"),
    ] {
        let error = read_file("", text).unwrap_err().to_string();
        assert!(error.contains("node.toml") && error.contains(named), "{text}: {error}");
    }
}

#[test]
fn an_error_speaks_of_flags_and_not_of_functions() {
    for (flags, named) in [
        ("--cluster c --id a --listen a:1 --seed a:1", "--single"),
        ("--cluster c --id a --listen 0.0.0.0:1 --single", "--advertise"),
        ("--cluster c --id a --listen a --seed b:1", "--listen"),
        ("--cluster c --id a --listen a:1 --seed b", "--seed"),
        ("--cluster c --id a --listen a:1 --seed b:1 --former-seed b", "--former-seed"),
        ("--cluster c --id a --listen a:1 --seed b:1 --contact b", "--contact"),
        ("--cluster c --id a --listen a:1 --seed b:1 --state-dir=", "--state-dir"),
        ("--cluster c --id a --listen a:1 --seed b:1 --protocol-max 9", "--protocol-max"),
        ("--cluster c --id a --listen a:1 --seed b:1 --protocol-min 9", "--protocol-min"),
        ("--cluster c --id a --listen a:1 --seed b:1 --lease 2h", "--lease is 2h"),
        ("--cluster c --id a --listen a:1 --seed b:1 --lease 4s", "--lease, which is 4s"),
        ("--cluster c --id a --listen a:1 --seed b:1 --election-timeout 1s", "--max-clock-drift-percent"),
        ("--cluster c --id a --listen a:1 --seed b:1 --limit-connections 1", "--limit-connections"),
        ("--cluster c --id a --listen a:1 --seed b:1 --limit-send 9999999", "--limit-send"),
        ("--cluster c --id a --listen a:1 --seed b:1 --limit-contacts 0 --contact b:1", "--limit-contacts"),
        ("--cluster c --id a --listen a:1 --seed b:1 --solo-after 1s", "--bootstrap-wait"),
        ("--cluster c --id a --listen a:1 --seed b:1 --lease-margin 900ms", "at most 495ms"),
        ("--cluster c --id a --listen a:1 --seed b:1 --detector phi --phi-window 1", "--phi-window"),
        ("--cluster c --id a --listen a:1 --seed b:1 --phi-window 9", "--detector phi"),
    ] {
        let error = read_flags(flags).unwrap().config().unwrap_err().to_string();
        assert!(error.contains(named), "{flags}: {error}");
        let foreign = error.split_whitespace().find(|word| word.contains('_') || word.contains("()"));
        assert_eq!(foreign, None, "{flags}: {error}");
    }
}

#[test]
fn sources_come_from_flags_the_file_and_the_environment() {
    let names = |settings: Settings| {
        let sources = settings.sources().unwrap();
        sources.iter().map(|source| (source.to_string(), source.refresh().as_secs())).collect::<Vec<_>>()
    };
    let expected = vec![("dns:nodes:7000".to_owned(), 10), ("file:/nodes".to_owned(), 2)];
    let flags = format!("{NEEDED} --discover dns:nodes:7000 --discover file:/nodes");
    assert_eq!(names(read_flags(&flags).unwrap()), expected);
    assert_eq!(names(read_file(NEEDED, "discover = ['dns:nodes:7000', 'file:/nodes']").unwrap()), expected);
    let file = "discover = 'srv:_p._tcp.nodes'\ndiscover_every = '1m'";
    assert_eq!(names(read_file(NEEDED, file).unwrap()), [("srv:_p._tcp.nodes".to_owned(), 60)]);
    let variables = [("FORMATION_DISCOVER", "dns:nodes:7000, file:/nodes")];
    assert_eq!(names(read_with(NEEDED, &variables).unwrap()), expected);
}

#[test]
fn a_wrong_source_is_an_error_that_says_what_to_write() {
    let error = read_flags(&format!("{NEEDED} --discover nodes")).unwrap_err().to_string();
    assert!(error.contains("--discover") && error.contains("dns:NAME:PORT"), "{error}");
    let many = " --discover env:N".repeat(9);
    for (flags, named) in [
        (many.as_str(), "at most 8"),
        ("--discover-every 5s", "--discover"),
        ("--discover env:N --discover-every 10ms", "from 1s to 1h"),
        ("--discover env:N --discover-every 2h", "from 1s to 1h"),
    ] {
        let error = read_flags(&format!("{NEEDED} {flags}")).unwrap().sources().unwrap_err().to_string();
        assert!(error.contains(named), "{flags}: {error}");
    }
}

#[test]
fn the_version_names_the_program() {
    let error = read_flags("--version").unwrap_err();
    assert!(!error.use_stderr());
    assert_eq!(error.to_string(), concat!("program ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn the_environment_is_between_flags_and_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    fs::write(&path, "id = \"file\"\ncluster = \"file\"\nlisten = \"f:1\"\nseed = [\"f:1\"]\njson = true\n").unwrap();
    let variables = [
        ("FORMATION_CONFIG", path.to_str().unwrap()),
        ("FORMATION_ID", "variable"),
        ("FORMATION_CLUSTER", "variable"),
        ("FORMATION_SEED", "a:1, b:1,c:1"),
        ("FORMATION_LEAVE_WITHIN", "1m 30s"),
        ("FORMATION_JOIN_ONLY", "1"),
        ("FORMATION_CONTACT", ""),
        ("FORMATION_TERM", "it is for a command"),
        ("OTHER", "x"),
    ];
    let settings = read_with("--id flag", &variables).unwrap();
    assert_eq!(
        [&settings.id, &settings.cluster, &settings.listen].map(|it| it.as_deref().unwrap()),
        ["flag", "variable", "f:1"]
    );
    assert_eq!(settings.seed, ["a:1", "b:1", "c:1"]);
    assert_eq!(settings.leave_within(), Some(Duration::from_secs(90)));
    assert!(settings.json && settings.join_only && settings.contact.is_empty());

    for (variable, value, problem) in [
        ("FORMATION_JOIN_ONLY", "yes", "FORMATION_JOIN_ONLY: \"yes\" is neither true nor false"),
        ("FORMATION_LEAVE_WITHIN", "soon", "environment: invalid value 'soon' for '--leave-within"),
    ] {
        let error = read_with(NEEDED, &[(variable, value)]).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn what_is_for_http_needs_http() {
    for flag in ["--http-token-file token", "--http-connections 8"] {
        let settings = read_flags(&format!("{NEEDED} {flag}")).unwrap();
        let error = settings.http().unwrap_err().to_string();
        assert!(error.contains("has no effect without --http"), "{error}");
    }
    let http = read_flags(&format!("{NEEDED} --http a:2 --http-connections 8")).unwrap().http().unwrap().unwrap();
    assert_eq!(http.address, "a:2");
    assert!(format!("{:?}", http.settings).contains("connections: 8"));
}

#[test]
fn a_node_is_recorded_as_its_settings_say() {
    // The clocks of two environments differ.
    let shown = |environment: Environment| {
        let text = format!("{environment:?}");
        text.split_once("recorder: ").map(|(_, recorder)| recorder.to_owned()).unwrap()
    };
    let environment = |flags: &str, file: &str| {
        let settings = read_file(&format!("{NEEDED} {flags}"), file).unwrap();
        settings.environment().map(shown).map_err(|error| error.to_string())
    };
    assert_eq!(environment("", ""), Ok(shown(Environment::system())));
    let recorder = Recorder::to("tapes").file_bytes(5_000).files(7);
    let recorded = Ok(shown(Environment::system().record(recorder)));
    assert_eq!(environment("--record-to tapes --record-file-bytes 5000 --record-files 7", ""), recorded);
    assert_eq!(environment("", "record_to = 'tapes'\nrecord_file_bytes = 5000\nrecord_files = 7"), recorded);
    let variables =
        [("FORMATION_RECORD_TO", "tapes"), ("FORMATION_RECORD_FILE_BYTES", "5000"), ("FORMATION_RECORD_FILES", "7")];
    let settings = read_with(NEEDED, &variables).unwrap();
    assert_eq!(Ok(shown(settings.environment().unwrap())), recorded);
    let error = environment("--record-files 7", "").unwrap_err();
    assert!(error.contains("--record-to"), "{error}");
    assert!(read_flags(&format!("{NEEDED} --record-to tapes --record-files 0")).is_err());
}
