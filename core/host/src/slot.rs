//! One file that is replaced as a whole or not at all: the new content is written to a second file and synced, that file is
//! renamed, and the directory is synced. After a crash at any moment the file holds the old state or the new one, and the
//! new one if the replacement was acknowledged.
//!
//! A process that has no file left to open must still be able to vote. So two files stay open and change places, by a second
//! name for the old one, and so does the directory.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use formation_core::DurableState;

use crate::{
    format::{self, Fault},
    store::StoreError,
};

/// The steps to a durable file. They are separate so that the tests can crash between any two.
pub(crate) trait Files {
    type File: fmt::Debug;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Creates a file, in the place of any that has its name.
    fn create(&mut self, path: &Path) -> io::Result<Self::File>;
    /// Replaces the content of a file.
    fn write(&mut self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self, file: &Self::File) -> io::Result<()>;
    /// Gives a file a second name, in the place of any file that has it.
    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync_dir(&mut self, dir: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// The directory that was synced last.
    #[cfg(unix)]
    dir: Option<(PathBuf, File)>,
}

impl Files for Disk {
    type File = File;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        private(File::options().read(true)).open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&mut self, path: &Path) -> io::Result<File> {
        remove(path)?;
        // It follows no link: the name must be free.
        private(File::options().write(true).create_new(true)).open(path)
    }

    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(bytes)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        remove(to)?;
        fs::hard_link(from, to)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[cfg(unix)]
    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        if let Some((_, file)) = self.dir.as_ref().filter(|(path, _)| path == dir) {
            return file.sync_all();
        }
        // The parent of a path in the working directory is empty.
        let file = File::open(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?;
        file.sync_all()?;
        self.dir = Some((dir.into(), file));
        Ok(())
    }

    /// Other systems cannot open directories, and make a rename as durable as they can.
    #[cfg(not(unix))]
    fn sync_dir(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Removes what a crash has left under this name.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens a file that is for this user only, and no file that a symbolic link leads to.
#[cfg(unix)]
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
}

#[cfg(not(unix))]
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[derive(Debug)]
pub(crate) struct Slot<F: Files> {
    files: F,
    dir: PathBuf,
    path: PathBuf,
    /// The name of the spare file. Its content is never read.
    next: PathBuf,
    /// The name of the last file while both change places. It is never read if a crash leaves it behind.
    last: PathBuf,
    /// The file at `path`, if this slot has written it.
    current: Option<F::File>,
    /// The file at `next`. The new content is written to it, and then it is renamed to `path`.
    spare: Option<F::File>,
}

impl<F: Files> Slot<F> {
    pub(crate) fn new(files: F, dir: &Path) -> Self {
        Self {
            files,
            dir: dir.into(),
            path: dir.join("formation.state"),
            next: dir.join("formation.state.new"),
            last: dir.join("formation.state.last"),
            current: None,
            spare: None,
        }
    }

    /// The last stored state; `None` if there never was one.
    pub(crate) fn load(&self) -> Result<Option<DurableState>, StoreError> {
        let path = || self.path.clone();
        let bytes = match self.files.read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::unchanged("read", &self.path, source)),
        };
        format::decode(&bytes).map(Some).map_err(|fault| match fault {
            Fault::Foreign => StoreError::Foreign { path: path() },
            Fault::Version(found) => StoreError::Version { path: path(), found },
            Fault::Damaged(what) => StoreError::Damaged { path: path(), what },
        })
    }

    pub(crate) fn replace(&mut self, state: &DurableState) -> Result<(), StoreError> {
        let Self { files, dir, path, next, last, current, spare } = self;
        // Up to the rename the last state is still stored, and the next attempt begins with a new file: after a failed sync,
        // nobody knows which of the file's bytes the disk has.
        let (path, next, last) = (path.as_path(), next.as_path(), last.as_path());
        let unchanged = |doing| move |source| StoreError::unchanged(doing, next, source);
        let mut file = match spare.take() {
            Some(file) => file,
            None => files.create(next).map_err(unchanged("create"))?,
        };
        files.write(&mut file, &format::encode(state)).map_err(unchanged("write"))?;
        files.sync(&file).map_err(unchanged("sync"))?;
        // Some file systems have one name per file. There the last file ends with the rename.
        let kept = current.take().filter(|_| files.link(path, last).is_ok());
        let unknown = |path: &Path| {
            let path = path.to_path_buf();
            |source| StoreError::Io { doing: "replace", path, source, is_final: true }
        };
        files.rename(next, path).map_err(unknown(path))?;
        if kept.is_some() {
            files.rename(last, next).map_err(unknown(next))?;
        }
        files.sync_dir(dir).map_err(|source| StoreError::not_synced(dir, source))?;
        *current = Some(file);
        // If none can be created now, the next replacement tries again.
        *spare = kept.or_else(|| files.create(next).ok());
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
