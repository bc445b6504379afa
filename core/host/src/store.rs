//! The directory that a node has to itself, for what it keeps over a restart.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use formation_core::{Config, DurableState, HardState, Incarnation, ResumeError, Start};

use crate::{
    format,
    slot::{Disk, Files, Slot},
};

/// Why nothing can be kept, or what was kept cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {doing} {}: {source}; see to its directory, its rights and the room on its disk", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What it answered.
        source: io::Error,
    },
    /// Another process, or another node of this one, has the directory.
    #[error("{} is locked: another node keeps its state in this directory; stop it, or give each a directory of its own", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// The file is there, and is something else.
    #[error("{} is no state of a node; move it away if it is yours, or choose another state_dir", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is of another version.
    #[error(
        "{} has version {found}, and this program knows version {known}; start the program that wrote it",
        path.display(), known = format::VERSION
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// The file is cut off or altered, which no crash does to it: the disk has, or somebody.
    #[error(
        "{} is damaged: {what}; restore it, or remove it to start as a node that has never voted (a term may then get two \
         masters, one after the other)", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        what: &'static str,
    },
    /// The state is not this node's, or its votes were for another seed list.
    #[error("{} does not fit this node: {reason}", path.display())]
    Resume {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: ResumeError,
    },
}

/// Keeps the votes of one node. While it lives, nobody else can open its directory.
#[derive(Debug)]
pub struct Store(pub(crate) Keeper<Disk>);

impl Store {
    /// Whether its directory held nothing of an earlier run: the node starts as one that has never voted. Say so in a log, for
    /// the directory may be the wrong one.
    pub fn is_new(&self) -> bool {
        self.0.is_new
    }

    /// Makes a state durable, and returns once it is. It waits for the disk.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the file then holds the last state or this one. Nothing may be kept after that: a file system
    /// that has failed to write does not say what it has lost.
    pub fn keep(&mut self, state: HardState) -> Result<(), StoreError> {
        self.0.keep(state)
    }
}

/// A store on any files.
#[derive(Debug)]
pub(crate) struct Keeper<F> {
    slot: Slot<F>,
    state: DurableState,
    is_new: bool,
    lock: File,
}

impl<F> Drop for Keeper<F> {
    fn drop(&mut self) {
        // Closing it is not enough while a child process that this one has just forked still has a copy of it.
        let _ = self.lock.unlock();
    }
}

impl<F: Files> Keeper<F> {
    /// Opens a directory, made if need be, and prepares a start from what is kept there.
    pub(crate) fn open(
        mut files: F,
        dir: &Path,
        config: &Config,
        incarnation: Incarnation,
        rng_seed: u64,
    ) -> Result<(Self, Start), StoreError> {
        make(&mut files, dir)?;
        let lock = lock(dir)?;
        let mut slot = Slot::new(files, dir);
        let kept = slot.load()?;
        let is_new = kept.is_none();
        let start = match kept {
            None => Start::new(incarnation, rng_seed),
            Some(kept) => Start::resume(config, kept, incarnation, rng_seed)
                .map_err(|reason| StoreError::Resume { path: dir.into(), reason })?,
        };
        let state = DurableState::of(config, &start);
        slot.replace(&state)?;
        Ok((Self { slot, state, is_new, lock }, start))
    }

    pub(crate) fn keep(&mut self, state: HardState) -> Result<(), StoreError> {
        self.state.hard_state = state;
        self.slot.replace(&self.state)
    }
}

/// Makes the directory, durably.
fn make(files: &mut impl Files, dir: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io { doing: "create", path: dir.into(), source };
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    fs::create_dir_all(dir).map_err(failed)?;
    missing.iter().filter_map(|dir| dir.parent()).try_for_each(|dir| files.sync_dir(dir)).map_err(failed)
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("formation.lock");
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|source| StoreError::Io { doing: "open", path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path }),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { doing: "lock", path, source }),
    }
}

#[cfg(test)]
mod tests;
