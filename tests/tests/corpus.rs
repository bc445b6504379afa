//! What fuzzers have kept, run again on any toolchain: the corpus of each target in `fuzz/corpus/`, and what once went
//! wrong in `fuzz/fixtures/`, where a file's name says what it was.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    collections::BTreeSet,
    fs, panic,
    path::{Path, PathBuf},
};

use formation_tests::fuzzing::{Body, TARGETS, outcomes};

/// Where scripts have to lead, in both targets that run them.
const CORNERS: &[&str] = &[
    "failed to persist",
    "follows a master",
    "ignored a solo master",
    "is the master",
    "is in a view that changed by 1",
    "is in a view that changed by 2",
    "is linked by a key",
    "lost its master: Ended",
    "lost its master: GaveWay",
    "lost its master: LeaseLapsed",
    "lost its master: NewerTerm",
    "lost its master: Resigned",
    "lost its master: Silent",
    "merged",
    "says its view in pages",
    "stopped: IdInUse",
    "stopped: Left",
    "stopped: Superseded",
    "suspects a member",
    "turns away: ClusterFull",
    "turns away: MetadataTooLong",
    "was Solo",
    "was rejected: KeyMismatch",
    "closed: DialGivenUp",
    "closed: Duplicate",
    "closed: HandshakeTimeout",
    "closed: NotNeeded",
    "closed: Rejected(BadProof)",
    "closed: Rejected(IdInUse)",
    "closed: Rejected(KeyMismatch)",
    "closed: SelfDial",
    "closed: Silent",
    "closed: Superseded",
    "closed: TermOutOfReach",
    "closed: TooManyConnections",
    "closed: TooManyPending",
];

/// Where `chunking` has room for all bytes.
const TIGHT_CORNERS: &[&str] = &["closed: TooManyPartialBytes"];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The names in a folder; none where there is no folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs every file of a folder; how many there were.
fn replay(folder: &Path, body: Body) -> usize {
    let names = names(folder);
    for name in &names {
        let file = folder.join(name);
        let data = fs::read(&file).unwrap();
        if let Err(fault) = panic::catch_unwind(|| body(&data)) {
            eprintln!("the fault above is that of {}", file.display());
            panic::resume_unwind(fault);
        }
    }
    names.len()
}

#[track_caller]
fn holds(target: &str) {
    let (_, body) = *TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    replay(&fuzz().join("fixtures").join(target), body);
    let kept = replay(&fuzz().join("corpus").join(target), body);
    assert!(kept > 0, "nothing is kept in fuzz/corpus/{target}");
}

#[test]
fn the_kept_chunkings_end_alike() {
    holds("chunking");
}

#[test]
fn the_kept_streams_are_cut_into_the_frames_of_the_format() {
    holds("decoder");
}

#[test]
fn the_kept_connections_harm_nobody() {
    holds("formation");
}

#[test]
fn the_kept_messages_go_there_and_back() {
    holds("messages");
}

#[test]
fn the_kept_scripts_hold_every_invariant() {
    holds("script");
}

/// A corpus that leads nowhere would hold every invariant as well.
#[track_caller]
fn leads_to(target: &str, corners: &[&str]) {
    let folder = fuzz().join("corpus").join(target);
    let led: BTreeSet<String> =
        names(&folder).iter().flat_map(|name| outcomes(target, &fs::read(folder.join(name)).unwrap())).collect();
    let missing: Vec<_> = corners.iter().filter(|corner| !led.contains(**corner)).collect();
    assert!(missing.is_empty(), "nothing kept for {target} leads to {missing:?}, only to {led:#?}");
}

#[test]
fn the_kept_scripts_lead_into_every_corner() {
    leads_to("script", &[CORNERS, TIGHT_CORNERS].concat());
}

#[test]
fn the_kept_chunkings_lead_into_every_corner() {
    leads_to("chunking", CORNERS);
}

/// What no test above runs, or no fuzzer, is no check at all.
#[test]
fn targets_bodies_and_folders_are_the_same() {
    let bodies: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).into()).collect();
    let run =
        include_str!("corpus.rs").lines().filter_map(|line| line.strip_prefix("    holds(\"")?.strip_suffix("\");"));
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
