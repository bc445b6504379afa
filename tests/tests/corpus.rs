//! Runs the kept fuzz inputs on any toolchain: the corpus of each target in `fuzz/corpus/`, and former failures in
//! `fuzz/fixtures/`, where the name of a file describes the failure.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    collections::BTreeSet,
    fs, panic,
    path::{Path, PathBuf},
};

use formation_tests::fuzzing::{Body, TARGETS, outcomes};

/// The outcomes that the kept scripts must reach, in both targets that run scripts.
const OUTCOMES: &[&str] = &[
    "failed to persist",
    "follows a master",
    "ignored a solo master",
    "is the master",
    "is in a view that changed by 1",
    "is in a view that changed by 2",
    "is linked with a key",
    "lost its master: Ended",
    "lost its master: GaveWay",
    "lost its master: LeaseExpired",
    "lost its master: NewerTerm",
    "lost its master: Resigned",
    "lost its master: Silent",
    "merged",
    "sends its view in pages",
    "stopped: Left",
    "suspects a member",
    "rejects a join: ClusterFull",
    "rejects a join: MetadataTooLong",
    "was Solo",
    "was rejected: KeyMismatch",
    "closed: DialGivenUp",
    "closed: Duplicate",
    "closed: HandshakeTimeout",
    "closed: NotNeeded",
    "closed: Rejected(BadProof)",
    "closed: Rejected(IdInUse)",
    "closed: Rejected(KeyMismatch)",
    "closed: Rejected(Unproven)",
    "closed: SelfDial",
    "closed: Silent",
    "closed: Superseded",
    "closed: TooManyConnections",
    "closed: TooManyPending",
];

/// The outcomes that `chunking` cannot reach, because its limit for unfinished frames is too high.
const TIGHT_OUTCOMES: &[&str] = &["closed: TooManyPartialBytes"];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The names in a folder, or none if the folder does not exist.
fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs every file of a folder, and returns the number of files.
fn replay(folder: &Path, body: Body) -> usize {
    let names = names(folder);
    for name in &names {
        let file = folder.join(name);
        let data = fs::read(&file).unwrap();
        if let Err(fault) = panic::catch_unwind(|| body(&data)) {
            eprintln!("the failure above comes from {}", file.display());
            panic::resume_unwind(fault);
        }
    }
    names.len()
}

#[track_caller]
fn check_corpus(target: &str) {
    let (_, body) = *TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    replay(&fuzz().join("fixtures").join(target), body);
    let kept = replay(&fuzz().join("corpus").join(target), body);
    assert!(kept > 0, "nothing is kept in fuzz/corpus/{target}");
}

#[test]
fn g4_kept_chunking_inputs_have_one_result_in_any_cut() {
    check_corpus("chunking");
}

#[test]
fn g4_kept_streams_match_the_model_in_any_cut() {
    check_corpus("decoder");
}

#[test]
fn g8_kept_connections_harm_nobody() {
    check_corpus("formation");
}

#[test]
fn t2_kept_attacks_change_nothing() {
    check_corpus("hostile");
}

#[test]
fn kept_messages_decode_to_themselves() {
    check_corpus("messages");
}

#[test]
fn kept_scripts_keep_every_invariant() {
    check_corpus("script");
}

/// A corpus without interesting outcomes would pass the tests above as well.
#[track_caller]
fn check_outcomes(target: &str, expected: &[&str]) {
    let folder = fuzz().join("corpus").join(target);
    let reached: BTreeSet<String> =
        names(&folder).iter().flat_map(|name| outcomes(target, &fs::read(folder.join(name)).unwrap())).collect();
    let missing: Vec<_> = expected.iter().filter(|outcome| !reached.contains(**outcome)).collect();
    assert!(missing.is_empty(), "no kept input of {target} reaches {missing:?}, only {reached:#?}");
}

#[test]
fn kept_scripts_reach_every_expected_outcome() {
    check_outcomes("script", &[OUTCOMES, TIGHT_OUTCOMES].concat());
}

#[test]
fn kept_chunking_inputs_reach_every_expected_outcome() {
    check_outcomes("chunking", OUTCOMES);
}

/// Every target must be run both by a test above and by a fuzzer.
#[test]
fn fuzz_targets_and_folders_match() {
    let bodies: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).into()).collect();
    let run = include_str!("corpus.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("    check_corpus(\"")?.strip_suffix("\");"));
    assert_eq!(run.map(String::from).collect::<BTreeSet<_>>(), bodies, "targets that this file runs");
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let (_, bins) = manifest.split_once("[[bin]]").unwrap();
    let bins = bins.lines().filter_map(|line| line.strip_prefix("name = ")).map(|name| name.trim_matches('"').into());
    assert_eq!(bins.collect::<BTreeSet<String>>(), bodies, "targets of fuzz/Cargo.toml");
    let sources = names(&fuzz().join("fuzz_targets")).into_iter().map(|file| file.trim_end_matches(".rs").into());
    assert_eq!(sources.collect::<BTreeSet<String>>(), bodies, "files in fuzz/fuzz_targets");
    assert_eq!(names(&fuzz().join("corpus")), bodies, "folders in fuzz/corpus");
    let fixtures = names(&fuzz().join("fixtures"));
    assert!(fixtures.is_subset(&bodies), "folders in fuzz/fixtures without a target: {fixtures:?}");
}
