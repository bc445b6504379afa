//! A recorded run again: the same inputs for the same node.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
    vec,
};

use bytes::Bytes;
use formation_core::{ClusterKey, Formation, Input, Output, SnapshotError, Timestamp};
use serde::Serialize;

use crate::recorder::{Begin, Encoder, Entry, Fault, Outputs, VERSION, What, read, recordings, version};

/// Why a recording, or a part of it, cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The file or the directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or the directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no recording in the directory.
    #[error("there is no recording in {}", path.display())]
    NoRecording {
        /// The directory.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is not a recording", path.display())]
    NotARecording {
        /// The file.
        path: PathBuf,
    },
    /// Another version of this package has recorded it.
    #[error("version {made_by} has recorded {}, and this is version {own}; replay it with version {made_by}", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// The version that has recorded it.
        made_by: String,
        /// This version.
        own: &'static str,
    },
    /// The node at the begin of the file cannot be restored.
    #[error("{} begins with a node that cannot be restored: {problem}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: SnapshotError,
    },
    /// The rest of the file is not what was recorded.
    #[error("{} is damaged: its last {len} bytes are left out", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How many bytes are left out.
        len: usize,
    },
}

/// A file with more bytes is not read.
const MOST_BYTES: usize = 1 << 30;

/// The bytes before the version in the header of a file, and the version, at most.
const HEAD: usize = 5 + u8::MAX as usize;

/// One input of a recorded run, and what the node does with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// The number of the input among those of the run, from 1.
    pub number: u64,
    /// When it came, on the clock of the node.
    pub at: Timestamp,
    /// The same on the wall clock of the machine, in microseconds since 1970.
    pub unix_us: u64,
    /// The input.
    pub input: Input,
    /// Why the node has refused it.
    pub misuse: Option<String>,
    /// What the node does, in this order.
    pub outputs: Vec<Output>,
    /// What was not so in the recorded run. There is none if this program does the same as the one that was recorded.
    pub difference: Option<Difference>,
}

impl Step {
    /// When the input came, on the wall clock of the machine.
    pub fn wall_clock(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.unix_us)
    }
}

/// The input and the outputs, a line for each.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <- {}", self.number, self.input)?;
        if let Some(misuse) = &self.misuse {
            write!(f, "\n  refused: {misuse}")?;
        }
        self.outputs.iter().try_for_each(|output| write!(f, "\n  -> {output}"))?;
        self.difference.iter().try_for_each(|difference| write!(f, "\n  !! {difference}"))
    }
}

/// How a replay differs from the recorded run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Difference {
    /// The outputs were others.
    Outputs {
        /// How many outputs there were in the recorded run.
        recorded: u32,
    },
    /// The outputs were the same, and the node was another one after them.
    State,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outputs { recorded } => write!(f, "the recorded run has other outputs here: {recorded} of them"),
            Self::State => f.write_str("the recorded node is another one from here"),
        }
    }
}

/// A recorded run, which is repeated step by step.
///
/// ```no_run
/// use formation_host::{Difference, Replay};
///
/// let file = std::fs::read("incident.recording")?;
/// let mut replay = Replay::from_bytes(&file, &["the key of this cluster".into()])?;
/// for step in &mut replay {
///     let step = step?;
///     println!("{:?} {step}", step.wall_clock());
///     assert_ne!(step.difference, Some(Difference::State), "this program does something else");
/// }
/// println!("{}", replay.node().explain());
/// println!("lease: {:?}", replay.node().leadership(replay.now()));
/// println!("{} bytes of an entry that is not whole", replay.incomplete_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Replay {
    /// Why the files before the first one are left out.
    left_out: vec::IntoIter<ReplayError>,
    node: Formation,
    keys: Vec<ClusterKey>,
    files: vec::IntoIter<PathBuf>,
    /// The file that the last step is from.
    path: PathBuf,
    /// The file that is read.
    reading: PathBuf,
    /// What is left of it.
    file: Bytes,
    /// The entry that comes next.
    next: Option<Result<Entry<Input>, ReplayError>>,
    /// The number of the last input.
    number: u64,
    at: Timestamp,
    /// A time on the clock of the node, and on the wall clock.
    began: (Timestamp, u64),
    incomplete: usize,
    encoder: Encoder,
}

impl Replay {
    /// A recording: one file, or all files of a directory, the oldest first. The keys are those that the node had.
    ///
    /// ```
    /// use formation_host::{Replay, ReplayError};
    ///
    /// let replay = Replay::open("no such directory", &[]);
    /// assert!(matches!(replay, Err(ReplayError::Read { .. })));
    /// ```
    ///
    /// # Errors
    /// [`ReplayError`] if there is no recording, or if none of its files begins with a node that can be restored here. Otherwise the files
    /// before the first that does are left out, and the first items of the iterator are their errors.
    pub fn open(path: impl AsRef<Path>, keys: &[ClusterKey]) -> Result<Self, ReplayError> {
        let path = path.as_ref();
        let files = match path.is_dir() {
            true => recordings(path).map_err(|source| ReplayError::Read { path: path.to_owned(), source })?,
            false => vec![path.to_owned()],
        };
        let mut files = files.into_iter();
        let mut left_out = Vec::new();
        while let Some(first) = files.next() {
            match load(&first).and_then(|bytes| Self::begin(first, bytes, files.clone(), keys)) {
                Ok(replay) => return Ok(Self { left_out: left_out.into_iter(), ..replay }),
                Err(error) => left_out.push(error),
            }
        }
        Err(left_out.into_iter().next().unwrap_or_else(|| ReplayError::NoRecording { path: path.to_owned() }))
    }

    /// The recording that these bytes of a file are. A test that is made from a recording uses it.
    ///
    /// # Errors
    /// [`ReplayError`] as for [`open`](Self::open).
    pub fn from_bytes(file: &[u8], keys: &[ClusterKey]) -> Result<Self, ReplayError> {
        Self::begin(PathBuf::from("the recording"), Bytes::copy_from_slice(file), Vec::new().into_iter(), keys)
    }

    fn begin(
        path: PathBuf,
        file: Bytes,
        files: vec::IntoIter<PathBuf>,
        keys: &[ClusterKey],
    ) -> Result<Self, ReplayError> {
        let (entry, file) = begin_of(&path, file)?;
        let What::Begin(begin) = entry.what else { return Err(ReplayError::Damaged { len: file.len(), path }) };
        let node = restore(&path, &begin, keys)?;
        let mut replay = Self {
            left_out: Vec::new().into_iter(),
            node,
            keys: keys.to_vec(),
            files,
            path: PathBuf::new(),
            reading: path,
            file,
            next: None,
            number: 0,
            at: begin.at,
            began: (begin.at, begin.unix_us),
            incomplete: 0,
            encoder: Encoder::default(),
        };
        replay.begin_file(&begin)?;
        Ok(replay)
    }

    /// The node as it is after the last step.
    pub fn node(&self) -> &Formation {
        &self.node
    }

    /// The file that the last step is from.
    ///
    /// ```no_run
    /// use formation_host::Replay;
    ///
    /// let mut replay = Replay::open("/var/log/orders/recording", &[])?;
    /// let differs = replay.find(|step| step.as_ref().is_ok_and(|step| step.difference.is_some()));
    /// println!("{differs:?} in {}", replay.path().display());
    /// # Ok::<(), formation_host::ReplayError>(())
    /// ```
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The time of the last step, on the clock of the node.
    pub fn now(&self) -> Timestamp {
        self.at
    }

    /// How many bytes of a last entry are there that is not whole: the process has ended while it was written.
    pub fn incomplete_bytes(&self) -> usize {
        self.incomplete
    }

    /// The next entry of this file, or else the first one of the next file.
    fn read(&mut self) -> Option<Result<Entry<Input>, ReplayError>> {
        match read(&mut self.file) {
            Ok(Some(entry)) => return Some(Ok(entry)),
            Ok(None) => {}
            Err(Fault::Cut) => self.incomplete += self.file.len(),
            Err(Fault::Damaged) => {
                let len = std::mem::take(&mut self.file).len();
                return Some(Err(ReplayError::Damaged { path: self.reading.clone(), len }));
            }
        }
        self.file = Bytes::new();
        self.reading = self.files.next()?;
        let opened = load(&self.reading).and_then(|file| begin_of(&self.reading, file));
        Some(opened.map(|(begin, rest)| {
            self.file = rest;
            begin
        }))
    }

    /// What an entry says about the last input. Nothing, if inputs are missing in between.
    fn successor(&self, outputs: Outputs, what: &What<Input>) -> Option<Outputs> {
        match what {
            What::Begin(begin) if begin.first != self.number + 1 => None,
            What::Begin(_) | What::Input { .. } | What::End => Some(outputs),
        }
    }

    fn step(&mut self, after: Duration, input: Input) -> Step {
        self.number += 1;
        self.at = self.at + after;
        let (began, unix_us) = self.began;
        let since = u64::try_from(self.at.since(began).as_micros()).unwrap_or(u64::MAX);
        let misuse = self.node.handle_input(self.at, input.clone()).err().map(|misuse| misuse.to_string());
        // An entry has what was done since the one before.
        self.next = self.read();
        let expected = match &self.next {
            Some(Ok(entry)) => self.successor(entry.outputs, &entry.what),
            Some(Err(_)) | None => None,
        };
        let most = expected.map_or(usize::MAX, |expected| expected.count as usize);
        let (mut outputs, mut found) = (Vec::new(), Outputs::default());
        while outputs.len() < most
            && let Some(output) = self.node.poll_output()
        {
            self.encoder.digest(&mut found, &output);
            outputs.push(output);
        }
        let difference = match expected {
            Some(expected) if expected != found => Some(Difference::Outputs { recorded: expected.count }),
            Some(_) if !self.is_next_node() => Some(Difference::State),
            Some(_) | None => None,
        };
        Step {
            number: self.number,
            at: self.at,
            unix_us: unix_us.saturating_add(since),
            input,
            misuse,
            outputs,
            difference,
        }
    }

    /// Whether the next file begins with this node, if it goes on with the next input of it.
    fn is_next_node(&self) -> bool {
        match &self.next {
            Some(Ok(Entry { what: What::Begin(begin), .. })) => {
                let next = restore(&self.reading, begin, &self.keys);
                next.map_or(true, |next| next == self.node || next.node() != self.node.node())
            }
            Some(_) | None => true,
        }
    }

    /// A file begins with a node of its own.
    fn begin_file(&mut self, begin: &Begin) -> Result<(), ReplayError> {
        let restored = restore(&self.reading, begin, &self.keys);
        if restored.is_err() {
            self.file = Bytes::new();
        }
        let path = self.reading.clone();
        self.next = self.read();
        (self.node, self.path) = (restored?, path);
        self.number = begin.first.saturating_sub(1);
        (self.at, self.began) = (begin.at, (begin.at, begin.unix_us));
        Ok(())
    }
}

/// After an error, it goes on with the next file.
impl Iterator for Replay {
    type Item = Result<Step, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.left_out.next() {
            return Some(Err(error));
        }
        loop {
            match self.next.take()?.map(|entry| entry.what) {
                Ok(What::Input { after_us, input }) => {
                    return Some(Ok(self.step(Duration::from_micros(after_us), input)));
                }
                Ok(What::Begin(begin)) => {
                    if let Err(error) = self.begin_file(&begin) {
                        return Some(Err(error));
                    }
                }
                Ok(What::End) => self.next = self.read(),
                Err(error) => {
                    self.next = self.read();
                    return Some(Err(error));
                }
            }
        }
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("path", &self.path).field("number", &self.number).finish_non_exhaustive()
    }
}

fn load(path: &Path) -> Result<Bytes, ReplayError> {
    let failed = |source| ReplayError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    // Something else may be as long as it likes, so the header is read first.
    let mut bytes = Vec::new();
    file.by_ref().take(HEAD as u64).read_to_end(&mut bytes).map_err(failed)?;
    let head = Bytes::from(bytes);
    inner(path, &head)?;
    let mut bytes = Vec::from(head);
    file.take(MOST_BYTES as u64).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() > MOST_BYTES {
        true => Err(failed(io::Error::other(format!("it has more than {MOST_BYTES} bytes")))),
        false => Ok(bytes.into()),
    }
}

/// What follows the header of a file.
fn inner(path: &Path, file: &Bytes) -> Result<Bytes, ReplayError> {
    let path = || path.to_owned();
    let (made_by, rest) = version(file).ok_or_else(|| ReplayError::NotARecording { path: path() })?;
    match made_by == VERSION {
        true => Ok(rest),
        false => Err(ReplayError::OtherVersion { path: path(), made_by: made_by.into(), own: VERSION }),
    }
}

/// The first entry of a file, and what follows it.
fn begin_of(path: &Path, file: Bytes) -> Result<(Entry<Input>, Bytes), ReplayError> {
    let mut file = inner(path, &file)?;
    match read(&mut file) {
        Ok(Some(entry @ Entry { what: What::Begin(_), .. })) => Ok((entry, file)),
        Ok(_) | Err(_) => Err(ReplayError::Damaged { path: path.to_owned(), len: file.len() }),
    }
}

fn restore(path: &Path, begin: &Begin, keys: &[ClusterKey]) -> Result<Formation, ReplayError> {
    let restored = Formation::restore(&begin.snapshot, keys);
    restored.map_err(|problem| ReplayError::Snapshot { path: path.to_owned(), problem })
}
