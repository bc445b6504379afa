//! The state directory of a node: its stored votes survive a restart.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use formation_core::{Config, DurableState, HardState, Incarnation, ResumeError, Start};

use crate::{
    format,
    slot::{Disk, Files, Slot, private},
};

/// Why the state of a node cannot be stored or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system reported an error.
    #[error("cannot {doing} {}: {source}; check the directory, its permissions and the space on its disk", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The error.
        source: io::Error,
        /// Whether nobody knows which state is stored.
        is_final: bool,
    },
    /// The file system cannot sync directories, so that it cannot make a vote durable.
    #[error(
        "cannot sync the directory {}: {source}; its file system cannot make votes durable, as some network and FUSE file \
         systems cannot; choose a state_dir on a local file system", path.display()
    )]
    NoDirectorySync {
        /// The directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// Another node uses the directory, in this process or another one.
    #[error("{} is locked: another node uses this directory; stop it, or give each node its own", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The file is not a state file.
    #[error("{} is not a state file; move it away, or choose another state_dir", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file has another version.
    #[error(
        "{} has version {found}, but this program reads version {known} only; start the program that wrote it",
        path.display(), known = format::VERSION
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// The file is truncated or altered. A crash does not do this; the disk or a person does.
    #[error(
        "{} is damaged: {what}; restore it, or remove it to start as a node that has never voted (a term may then have two \
         masters, one after the other)", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The state belongs to another node, or its votes are for another seed list.
    #[error("{} does not fit this node: {reason}", path.display())]
    Resume {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: ResumeError,
    },
}

impl StoreError {
    /// The error of an attempt that has changed nothing.
    pub(crate) fn unchanged(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.into(), source, is_final: false }
    }

    /// The error of a sync of a directory.
    pub(crate) fn not_synced(dir: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => {
                Self::NoDirectorySync { path: dir.into(), source }
            }
            _ => Self::Io { doing: "sync", path: dir.into(), source, is_final: true },
        }
    }

    /// Whether a failed [`Store::keep`] has left the directory in a state that nobody knows. Nothing may be stored after that,
    /// until the next start. Otherwise the last state is still stored, and the attempt may be repeated.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Io { is_final, .. } => *is_final,
            Self::NoDirectorySync { .. }
            | Self::Locked { .. }
            | Self::Foreign { .. }
            | Self::Version { .. }
            | Self::Damaged { .. }
            | Self::Resume { .. } => true,
        }
    }
}

/// Stores the votes of one node. No other node can open the directory while it exists.
#[derive(Debug)]
pub struct Store(Kind);

#[derive(Debug)]
enum Kind {
    Disk(Keeper<Disk>),
    Memory(MemoryKeeper),
}

impl Store {
    /// Whether the directory was empty, so that the node starts as one that has never voted. Log it: the path may be wrong.
    pub fn is_new(&self) -> bool {
        match &self.0 {
            Kind::Disk(keeper) => keeper.is_new,
            // Its creator knows.
            Kind::Memory(..) => false,
        }
    }

    /// Stores a state, and returns once it is durable. It waits for the disk.
    ///
    /// # Errors
    /// If it [is final](StoreError::is_final), the file holds the last state or this one. Store nothing after that: a file system
    /// that has failed to write does not report what it has lost. Otherwise the file holds the last state. Try again a little
    /// later: the disk may have room again, or the process a file that it can open.
    pub fn keep(&mut self, state: HardState) -> Result<(), StoreError> {
        match &mut self.0 {
            Kind::Disk(keeper) => keeper.keep(state),
            Kind::Memory(keeper) => {
                keeper.keep(state);
                Ok(())
            }
        }
    }

    /// Keeps a state in a [`MemoryStore`], which nothing has to wait for. Otherwise it returns the state, and [`keep`](Self::keep) has to
    /// store it.
    pub(crate) fn keep_in_memory(&mut self, state: HardState) -> Option<HardState> {
        match &mut self.0 {
            Kind::Disk(_) => Some(state),
            Kind::Memory(keeper) => {
                keeper.keep(state);
                None
            }
        }
    }

    pub(crate) fn on_disk(keeper: Keeper<Disk>) -> Self {
        Self(Kind::Disk(keeper))
    }
}

/// The durable state of one node in memory, for tests. It outlives the node, which is started again with a clone of it. As a `state_dir`,
/// it belongs to one running node at a time.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    kept: Option<DurableState>,
    is_open: bool,
}

/// The memory of a node that runs.
#[derive(Debug)]
struct MemoryKeeper {
    memory: MemoryStore,
    state: DurableState,
}

impl MemoryKeeper {
    fn keep(&mut self, state: HardState) {
        self.state.hard_state = state;
        self.memory.lock().kept = Some(self.state.clone());
    }
}

impl Drop for MemoryKeeper {
    fn drop(&mut self) {
        self.memory.lock().is_open = false;
    }
}

impl MemoryStore {
    /// A store of a node that has never voted.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn open(
        &self,
        config: &Config,
        incarnation: Incarnation,
        rng_seed: u64,
    ) -> Result<(Store, Start), StoreError> {
        let path = || PathBuf::from("the MemoryStore");
        let mut memory = self.lock();
        if memory.is_open {
            return Err(StoreError::Locked { path: path() });
        }
        let start = match memory.kept.clone() {
            None => first_start(incarnation, rng_seed),
            Some(kept) => Start::resume(config, kept, incarnation, rng_seed)
                .map_err(|reason| StoreError::Resume { path: path(), reason })?,
        };
        let state = DurableState::of(config, &start);
        *memory = Memory { kept: Some(state.clone()), is_open: true };
        Ok((Store(Kind::Memory(MemoryKeeper { memory: self.clone(), state })), start))
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store on any files.
#[derive(Debug)]
pub(crate) struct Keeper<F: Files> {
    slot: Slot<F>,
    state: DurableState,
    is_new: bool,
    lock: File,
}

impl<F: Files> Drop for Keeper<F> {
    fn drop(&mut self) {
        // To close the file is not enough: a child process that was just forked may still have a copy of it.
        let _ = self.lock.unlock();
    }
}

impl<F: Files> Keeper<F> {
    /// Opens a directory, creates it if it is missing, and prepares a start from the stored state.
    pub(crate) fn open(
        mut files: F,
        dir: &Path,
        config: &Config,
        incarnation: Incarnation,
        rng_seed: u64,
    ) -> Result<(Self, Start), StoreError> {
        create(&mut files, dir)?;
        let lock = lock(dir)?;
        let mut slot = Slot::new(files, dir);
        let kept = slot.load()?;
        let is_new = kept.is_none();
        let start = match kept {
            None => first_start(incarnation, rng_seed),
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

/// A start of a node that has stored nothing so far, and stores its votes from now on.
fn first_start(incarnation: Incarnation, rng_seed: u64) -> Start {
    let mut start = Start::new(incarnation, rng_seed);
    start.is_durable = true;
    start
}

/// Creates the directory durably, with its missing parents.
fn create(files: &mut impl Files, dir: &Path) -> Result<(), StoreError> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    create_dir(dir).map_err(|source| StoreError::unchanged("create", dir, source))?;
    let sync = |dir: &Path| files.sync_dir(dir).map_err(|source| StoreError::not_synced(dir, source));
    missing.iter().filter_map(|dir| dir.parent()).try_for_each(sync)
}

/// Creates a directory for this user only.
#[cfg(unix)]
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(not(unix))]
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

/// A user who can open the file could lock it. An older file may be open to others; this takes that permission away.
#[cfg(unix)]
fn restrict(file: &File) {
    use std::os::unix::fs::PermissionsExt;
    if file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        // Some file systems have no permissions.
        let _ = file.set_permissions(fs::Permissions::from_mode(0o600));
    }
}

#[cfg(not(unix))]
fn restrict(_: &File) {}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("formation.lock");
    let opened = private(File::options().create(true).truncate(false).write(true)).open(&path);
    let file = opened.map_err(|source| StoreError::unchanged("open", &path, source))?;
    restrict(&file);
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path }),
        Err(TryLockError::Error(source)) => Err(StoreError::unchanged("lock", &path, source)),
    }
}

#[cfg(test)]
mod tests;
