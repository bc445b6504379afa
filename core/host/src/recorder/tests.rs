use std::{
    fs, io,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use formation_core::{Bytes, Config, ConnId, Incarnation, Origin, Remote, Start};
use futures_lite::future;

use super::{writer::Files, *};
use crate::{Difference, Replay, ReplayError, Step, log::tests::logged, testing::Smol};

/// A node that is recorded as the driver does it, in a time of its own.
struct Node {
    formation: Formation,
    recording: Recording,
    now: Timestamp,
}

impl Node {
    fn recorded(recording: impl FnOnce(&Formation, &Log) -> Recording) -> Self {
        let config = Config::single("test", "a", "a:1").metadata("rack 7").build().unwrap();
        let formation = Formation::new(config, Start::new(Incarnation(7), 1), Timestamp::ZERO);
        let recording = recording(&formation, &Log::new(formation.node()));
        let mut node = Self { formation, recording, now: Timestamp::ZERO };
        node.give(Input::Tick);
        node
    }

    fn to(recorder: Recorder) -> Self {
        let environment = Environment::system().record(recorder);
        Self::recorded(|formation, log| Recording::begin(&environment, formation, log))
    }

    fn on(desk: &Desk) -> Self {
        Self::with_room(desk, 10_000)
    }

    /// So many bytes may wait for the disk.
    fn with_room(desk: &Desk, waiting: usize) -> Self {
        Self::recorded(|_, log| {
            let mut tape = Tape::new(4_000, Writer::start(desk.clone()).unwrap(), log.clone());
            tape.waiting = waiting;
            Recording(Some(Box::new(tape)))
        })
    }

    fn give(&mut self, input: Input) {
        self.recording.input(&self.formation, self.now, &input);
        self.formation.handle_input(self.now, input).unwrap();
        while let Some(output) = self.formation.poll_output() {
            self.recording.output(&output);
            if let Output::Persist { seq, .. } = output {
                // The driver answers in between, too, if the votes are kept in memory.
                let input = Input::Persisted { seq };
                self.recording.input(&self.formation, self.now, &input);
                self.formation.handle_input(self.now, input).unwrap();
            }
        }
    }

    /// Reports the next deadlines.
    fn tick(&mut self, times: usize) {
        for _ in 0..times {
            self.now = self.formation.next_deadline().unwrap();
            self.give(Input::Tick);
        }
    }

    /// A peer opens connections, and sends what closes them.
    fn meet_strangers(&mut self, conns: std::ops::RangeInclusive<u64>) {
        for conn in conns.map(ConnId) {
            self.give(Input::Opened { conn, origin: Origin::Accepted, remote: Remote::at(([10, 0, 0, 1], 7)) });
            self.give(Input::Received { conn, chunk: Bytes::from_static(&[0, 0, 0, 1, 99]) });
        }
    }

    fn finish(self) -> Formation {
        smol::block_on(self.recording.finish::<Smol>());
        self.formation
    }
}

/// All steps, which are as they were recorded.
fn steps(replay: &mut Replay) -> Vec<Step> {
    let steps: Vec<Step> = replay.by_ref().map(Result::unwrap).collect();
    assert!(steps.iter().all(|step| step.difference.is_none()), "{steps:#?}");
    assert_eq!(replay.incomplete_bytes(), 0);
    steps
}

fn names(dir: &Path) -> Vec<String> {
    recordings(dir).unwrap().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// A recording in one file.
fn one_file() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::to(Recorder::to(dir.path()));
    node.meet_strangers(1..=3);
    node.tick(3);
    node.finish();
    let files = recordings(dir.path()).unwrap();
    assert_eq!(files.len(), 1);
    fs::read(&files[0]).unwrap()
}

#[test]
fn a_recorded_run_is_replayed_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::to(Recorder::to(dir.path().join("new")).file_bytes(500));
    node.tick(20);
    node.meet_strangers(1..=60);
    node.tick(20);
    let formation = node.finish();
    let mut replay = Replay::open(dir.path().join("new"), &[]).unwrap();
    assert_eq!(replay.node().status().phase, formation_core::Phase::Candidate, "it begins before the first input");
    let steps = steps(&mut replay);
    assert!(steps.iter().map(|step| step.number).eq(1..=steps.len() as u64) && steps.len() > 80, "{steps:#?}");
    assert_eq!(replay.node(), &formation);
    let names = names(&dir.path().join("new"));
    assert!(names.len() > 2 && names[0] == "00000000000000000007-000000000001.recording", "{names:?}");
    // Each file can be replayed alone.
    let last = Replay::open(dir.path().join("new").join(names.last().unwrap()), &[]).unwrap();
    assert!(last.map(Result::unwrap).all(|step| step.difference.is_none()));
}

#[cfg(unix)]
#[test]
fn a_recording_is_for_its_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    Node::to(Recorder::to(&inner)).finish();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&recordings(&inner).unwrap()[0])), (0o700, 0o600));
}

#[test]
fn the_oldest_files_are_removed_those_of_other_runs_too() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("notes.txt");
    let older = dir.path().join("00000000000000000006-000000000001.recording");
    for path in [&foreign, &older] {
        fs::write(path, "something").unwrap();
    }
    let mut node = Node::to(Recorder::to(dir.path()).file_bytes(1_000).files(3));
    node.meet_strangers(1..=100);
    let formation = node.finish();
    assert_eq!(names(dir.path()).len(), 3);
    assert!(foreign.exists() && !older.exists());
    let sizes = recordings(dir.path()).unwrap().into_iter().map(|path| fs::metadata(path).unwrap().len());
    let snapshot = formation.snapshot().len() as u64;
    assert!(sizes.max().unwrap() < 1_000.max(snapshot) + snapshot + 500);
    let mut replay = Replay::open(dir.path(), &[]).unwrap();
    assert!(steps(&mut replay)[0].number > 100);
    assert_eq!(replay.node(), &formation);
}

/// The files of a ring in this directory, without their contents.
fn ring(dir: &Path, run: u64, files: usize) -> Ring {
    Ring::new(&Recorder::to(dir).file_bytes(100).files(files), Incarnation(run))
}

#[test]
fn a_full_disk_costs_no_older_file() {
    let dir = tempfile::tempdir().unwrap();
    ring(dir.path(), 6, 1).begin(1, &[1; 100]).unwrap();
    let mut full = ring(dir.path(), 7, 1);
    full.create = |path| fs::write(path, "").and_then(|()| fs::File::open(path));
    full.begin(1, &[1; 100]).unwrap_err();
    full.write(&[1]).unwrap_err();
    assert_eq!(names(dir.path()), ["00000000000000000006-000000000001.recording"]);
    full = ring(dir.path(), 7, 1);
    full.begin(2, &[1; 100]).unwrap();
    assert_eq!(names(dir.path()), ["00000000000000000007-000000000002.recording"]);
}

#[test]
fn short_files_share_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut whole = ring(dir.path(), 5, 3);
    whole.begin(1, &[1; 20]).unwrap();
    whole.write(&[1; 1_000]).unwrap();
    // Two places are left for nodes that ended at once. The new file takes one of them.
    for run in 10..16 {
        ring(dir.path(), run, 3).begin(1, &[1; 20]).unwrap();
    }
    assert_eq!(names(dir.path()).len(), 7);
    for run in 16..40 {
        ring(dir.path(), run, 3).begin(1, &[1; 1]).unwrap();
    }
    assert_eq!(names(dir.path()).len(), 3 * 4, "there is a limit on their number, too");
    assert!(names(dir.path())[0].starts_with("00000000000000000028-"));
}

#[test]
fn the_files_of_this_run_are_removed_last() {
    let dir = tempfile::tempdir().unwrap();
    // The clock was set back since.
    ring(dir.path(), 9, 3).begin(1, &[1; 100]).unwrap();
    let mut newer = ring(dir.path(), 7, 3);
    for first in 1..=3 {
        newer.begin(first, &[1; 100]).unwrap();
        newer.write(&[1; 100]).unwrap();
    }
    assert!(names(dir.path()).iter().all(|name| name.starts_with("00000000000000000007-")), "{:?}", names(dir.path()));
    assert_eq!(names(dir.path()).len(), 3);
}

#[test]
fn only_recordings_are_counted_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = ["incident.recording", "7-1.recording", "00000000000000000001-00000000000x.recording"];
    for name in foreign {
        fs::write(dir.path().join(name), "something").unwrap();
    }
    fs::create_dir(dir.path().join("00000000000000000001-000000000001.recording")).unwrap();
    let mut ring = ring(dir.path(), 7, 1);
    for first in 1..=3 {
        ring.begin(first, &[1; 100]).unwrap();
    }
    assert_eq!(names(dir.path()), ["00000000000000000007-000000000003.recording"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5);
}

#[test]
fn a_cut_recording_is_readable_to_its_last_whole_entry() {
    let file = one_file();
    let all = steps(&mut Replay::from_bytes(&file, &[]).unwrap()).len();
    let (mut last, mut counts) = (0, Vec::new());
    for len in 0..=file.len() {
        let Ok(mut replay) = Replay::from_bytes(&file[..len], &[]) else {
            assert_eq!(last, 0, "cut at {len}");
            continue;
        };
        let count = replay.by_ref().map(Result::unwrap).filter(|step| step.difference.is_none()).count();
        assert!(count == last || count == last + 1, "{last} steps, and then {count}");
        if count > last || len == file.len() {
            assert_eq!(replay.incomplete_bytes(), 0, "it is cut between two entries");
        }
        (last, counts) = (count, [counts, vec![count]].concat());
    }
    assert_eq!((counts[0], last), (0, all));
}

#[test]
fn every_damage_is_noticed() {
    let file = one_file();
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1 << (at % 8);
        let Ok(mut replay) = Replay::from_bytes(&damaged, &[]) else { continue };
        let is_whole = replay.all(|step| step.is_ok_and(|step| step.difference.is_none()));
        assert!(!is_whole || replay.incomplete_bytes() > 0, "byte {at} is another one");
    }
}

#[test]
fn what_is_no_recording_of_this_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Replay::open(dir.path(), &[]).unwrap_err();
    assert!(matches!(error, ReplayError::NoRecording { .. }), "{error}");
    let error = Replay::open(dir.path().join("none"), &[]).unwrap_err();
    assert!(matches!(error, ReplayError::Read { .. }), "{error}");
    let error = Replay::from_bytes(b"something else", &[]).unwrap_err();
    assert!(matches!(error, ReplayError::NotARecording { .. }), "{error}");
    let file = one_file();
    let other = [&b"FRMR\x0511.22"[..], &file[HEADER.len()..]].concat();
    let error = Replay::from_bytes(&other, &[]).unwrap_err();
    assert!(matches!(&error, ReplayError::OtherVersion { made_by, .. } if made_by == "11.22"), "{error}");
}

#[test]
fn files_that_cannot_be_replayed_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = one_file();
    let other = [&b"FRMR\x0511.22"[..], &file[HEADER.len()..]].concat();
    for (number, content) in [&other[..], b"", &file[..HEADER.len() + 20], &file, b"", &file].into_iter().enumerate() {
        fs::write(dir.path().join(format!("0000000000000000000{number}-000000000001.recording")), content).unwrap();
    }
    let all = steps(&mut Replay::from_bytes(&file, &[]).unwrap()).len();
    let replay = Replay::open(dir.path(), &[]).unwrap();
    let (steps, errors): (Vec<_>, Vec<_>) = replay.partition(Result::is_ok);
    assert_eq!((steps.len(), errors.len()), (2 * all, 4), "{errors:#?}");
}

/// A recording of a program that does something else.
#[test]
fn the_first_difference_is_found() {
    let mut encoder = Encoder::default();
    let mut file = Bytes::from(one_file());
    let mut changed = HEADER.to_vec();
    (_, file) = version(&file).map(|(version, rest)| (version.to_owned(), rest)).unwrap();
    while let Some(mut entry) = read(&mut file).unwrap() {
        let is_fifth =
            changed.len() > HEADER.len() && matches!(entry.what, What::Input { .. }) && entry.outputs.count > 1;
        entry.outputs.digest ^= u32::from(is_fifth);
        let Entry { outputs, what } = &entry;
        let (outputs, what) = (
            *outputs,
            match what {
                What::Begin(begin) => What::Begin(Begin { snapshot: begin.snapshot.clone(), ..*begin }),
                What::Input { after_us, input } => What::Input { after_us: *after_us, input },
                What::End => What::End,
            },
        );
        encoder.add(&mut changed, &Entry { outputs, what });
    }
    let replay = Replay::from_bytes(&changed, &[]).unwrap();
    let first = replay.map(Result::unwrap).find(|step| step.difference.is_some()).unwrap();
    assert_eq!(first.difference, Some(Difference::Outputs { recorded: first.outputs.len() as u32 }));
}

/// A disk that waits or fails when a test says so.
#[derive(Clone, Default)]
struct Desk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    files: Mutex<Vec<Vec<u8>>>,
    is_held: Mutex<bool>,
    changed: Condvar,
    is_full: AtomicBool,
}

impl Desk {
    fn hold(&self, is_held: bool) {
        *self.0.is_held.lock().unwrap() = is_held;
        self.0.changed.notify_all();
    }

    fn file(&self, at: usize) -> Vec<u8> {
        self.0.files.lock().unwrap()[at].clone()
    }

    fn wait(&self) -> io::Result<()> {
        drop(self.0.changed.wait_while(self.0.is_held.lock().unwrap(), |is_held| *is_held).unwrap());
        match self.0.is_full.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Files for Desk {
    fn begin(&mut self, _: u64, bytes: &[u8]) -> io::Result<()> {
        self.wait()?;
        self.0.files.lock().unwrap().push(bytes.to_vec());
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wait()?;
        self.0.files.lock().unwrap().last_mut().unwrap().extend_from_slice(bytes);
        Ok(())
    }
}

fn tape(node: &Node) -> &Tape {
    node.recording.0.as_ref().unwrap()
}

/// Gives inputs until the recording has a gap.
fn until_a_gap(node: &mut Node) {
    while matches!(tape(node).state, State::Recording { .. }) {
        node.give(Input::Tick);
    }
}

fn until_written(node: &Node) {
    while !tape(node).writer.is_idle() {
        thread::yield_now();
    }
}

/// The recording begins anew.
fn goes_on(node: &mut Node) {
    while !tape(node).writer.recover() {
        thread::yield_now();
    }
    node.now = node.now + PAUSE;
    node.meet_strangers(1..=3);
    until_written(node);
    node.give(Input::Tick);
}

/// The files from before the gap and after it, of which both are whole.
fn is_replayed(desk: &Desk, formation: &Formation) {
    let count = desk.0.files.lock().unwrap().len();
    assert!(count > 1);
    let before = Replay::from_bytes(&desk.file(count - 2), &[]).unwrap();
    let before = before.map(Result::unwrap).inspect(|step| assert_eq!(step.difference, None)).last().unwrap();
    let mut replay = Replay::from_bytes(&desk.file(count - 1), &[]).unwrap();
    let after = steps(&mut replay);
    assert!(after[0].number > before.number + 1, "{after:#?}");
    assert_eq!(replay.node(), formation);
}

#[test]
fn a_slow_disk_makes_a_gap_and_never_holds_up_the_node() {
    let desk = Desk::default();
    let lines = logged(|| {
        let mut node = Node::on(&desk);
        desk.hold(true);
        until_a_gap(&mut node);
        node.tick(3);
        desk.hold(false);
        goes_on(&mut node);
        is_replayed(&desk, &node.finish());
    });
    let lines: Vec<_> = lines.iter().map(|line| line.message().to_owned()).collect();
    assert!(lines[0].starts_with("the recording of this node has a gap from here"), "{lines:?}");
    assert_eq!(lines[1..], ["the recording of this node goes on"]);
}

#[test]
fn a_snapshot_may_be_larger_than_what_may_wait() {
    let desk = Desk::default();
    desk.hold(true);
    let node = Node::with_room(&desk, 100);
    assert!(node.formation.snapshot().len() > 100);
    assert!(matches!(tape(&node).state, State::Recording { .. }));
    desk.hold(false);
    node.finish();
    let mut replay = Replay::from_bytes(&desk.file(0), &[]).unwrap();
    assert!(!steps(&mut replay).is_empty());
}

#[test]
fn a_full_disk_makes_a_gap() {
    let desk = Desk::default();
    let lines = logged(|| {
        let mut node = Node::on(&desk);
        node.tick(3);
        until_written(&node);
        desk.0.is_full.store(true, Ordering::SeqCst);
        // It is still full when the recording tries again.
        for _ in 0..2 {
            node.now = node.now + PAUSE;
            node.give(Input::Tick);
            while matches!(tape(&node).state, State::Recording { .. }) {
                thread::yield_now();
                if tape(&node).writer.has_failed() {
                    node.give(Input::Tick);
                }
            }
        }
        desk.0.is_full.store(false, Ordering::SeqCst);
        goes_on(&mut node);
        is_replayed(&desk, &node.finish());
    });
    let lines: Vec<_> = lines.iter().map(|line| line.message().to_owned()).collect();
    assert_eq!(lines.len(), 2, "each is reported once: {lines:#?}");
}

#[test]
fn a_node_that_is_dropped_has_a_whole_recording() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::to(Recorder::to(dir.path()));
    node.tick(3);
    let ended = node.recording.0.as_ref().unwrap().writer.end_of_thread();
    let Node { formation, recording, .. } = node;
    drop(recording);
    future::block_on(ended.recv()).unwrap_err();
    let mut replay = Replay::open(dir.path(), &[]).unwrap();
    steps(&mut replay);
    assert_eq!(replay.node(), &formation);
}
