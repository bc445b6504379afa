//! The files of a recording, of which the oldest are removed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use formation_core::Incarnation;

use super::{EXTENSION, Recorder, writer::Files};
use crate::{slot::private, store::create_dir};

/// Short files share a place. So many of them may be there for each place.
const SHORT: usize = 4;

/// The files of a directory, of which the oldest are removed for a new one.
pub(super) struct Ring {
    dir: PathBuf,
    run: Incarnation,
    /// How many bytes of inputs a file may have.
    file_bytes: usize,
    /// How many whole files there may be.
    files: usize,
    /// Creates a file.
    pub(super) create: fn(&Path) -> io::Result<File>,
    /// The newest one.
    file: Option<File>,
}

impl Ring {
    pub(super) fn new(recorder: &Recorder, run: Incarnation) -> Self {
        let Recorder { dir, file_bytes, files } = recorder;
        Self { dir: dir.clone(), run, file_bytes: *file_bytes, files: *files, create, file: None }
    }

    /// Removes the oldest files but this one, so that it has room to grow. It begins with a snapshot of this length.
    fn make_room(&self, newest: &Path, snapshot: usize) -> io::Result<()> {
        // A whole file takes this place, however large it is, and several short ones share it.
        let place = snapshot + self.file_bytes.max(snapshot);
        let mut others = Vec::new();
        for (path, name) in listed(&self.dir)? {
            if path != newest
                && let Some(metadata) = unless_gone(fs::symlink_metadata(&path))?
            {
                let len = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
                others.push((name.run == self.run.0, name, len.clamp(1, place), path));
            }
        }
        // The clock may have been set back since an earlier run. So the files of this run are the newest, whatever their names are.
        others.sort();
        let mut taken: usize = others.iter().map(|(.., len, _)| len).sum();
        let mut count = others.len();
        for (.., len, path) in others {
            if taken <= (self.files - 1).saturating_mul(place) && count < self.files.saturating_mul(SHORT) {
                break;
            }
            unless_gone(fs::remove_file(path))?;
            (taken, count) = (taken - len, count - 1);
        }
        Ok(())
    }
}

impl Files for Ring {
    /// An older file is removed only once the new one is written: a full disk costs no file.
    fn begin(&mut self, first: u64, bytes: &[u8]) -> io::Result<()> {
        self.file = None;
        create_dir(&self.dir)?;
        let path = self.dir.join(format!("{:020}-{first:012}.{EXTENSION}", self.run.0));
        let mut file = (self.create)(&path)?;
        let begun = file.write_all(bytes).and_then(|()| self.make_room(&path, bytes.len()));
        if begun.is_err() {
            drop(file);
            // The first error says more.
            let _ = fs::remove_file(&path);
            return begun;
        }
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => Err(io::Error::other("the file could not be begun")),
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    private(OpenOptions::new().write(true).create_new(true)).open(path)
}

/// Somebody else may remove a file, too.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of a recording: the run of the node, and the number of the first input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    run: u64,
    first: u64,
}

impl Name {
    fn of(name: &str) -> Option<Self> {
        let (run, first) = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.split_once('-')?;
        let number = |text: &str, len| match text.len() >= len && text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().ok(),
            false => None,
        };
        Some(Self { run: number(run, 20)?, first: number(first, 12)? })
    }
}

/// The recordings in a directory, the oldest first: their names are ordered by the run of the node and the number of the input.
pub(crate) fn recordings(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = listed(dir)?;
    all.sort_by_key(|(_, name)| *name);
    Ok(all.into_iter().map(|(path, _)| path).collect())
}

/// Whatever else is in the directory belongs to somebody else.
fn listed(dir: &Path) -> io::Result<Vec<(PathBuf, Name)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().and_then(Name::of)
            && unless_gone(entry.file_type())?.is_some_and(|kind| kind.is_file())
        {
            all.push((entry.path(), name));
        }
    }
    Ok(all)
}
