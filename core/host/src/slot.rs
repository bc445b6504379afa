//! One file that is replaced as a whole or not at all: the new content is written to a second file and synced, that file is
//! renamed, and the directory is synced. After a crash at any moment the file holds the old state or the new one, and the
//! new one if the replacement was acknowledged.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use formation_core::DurableState;

use crate::{
    format::{self, Fault},
    store::StoreError,
};

/// The steps to a durable file. They are separate so that the tests can crash between any two.
pub(crate) trait Files {
    type File;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<Self::File>;
    fn sync(&mut self, file: Self::File) -> io::Result<()>;
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync_dir(&mut self, dir: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Debug)]
pub(crate) struct Disk;

impl Files for Disk {
    type File = File;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        Ok(file)
    }

    fn sync(&mut self, file: File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[cfg(unix)]
    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        // The parent of a path in the working directory is empty.
        File::open(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?.sync_all()
    }

    /// Other systems cannot open directories, and make a rename as durable as they can.
    #[cfg(not(unix))]
    fn sync_dir(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Slot<F> {
    files: F,
    dir: PathBuf,
    path: PathBuf,
    /// The new content, until it is renamed to `path`. It is never read if a crash leaves it behind.
    next: PathBuf,
}

impl<F: Files> Slot<F> {
    pub(crate) fn new(files: F, dir: &Path) -> Self {
        Self { files, dir: dir.into(), path: dir.join("formation.state"), next: dir.join("formation.state.new") }
    }

    /// The last stored state; `None` if there never was one.
    pub(crate) fn load(&self) -> Result<Option<DurableState>, StoreError> {
        let path = || self.path.clone();
        let bytes = match self.files.read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { doing: "read", path: path(), source }),
        };
        format::decode(&bytes).map(Some).map_err(|fault| match fault {
            Fault::Foreign => StoreError::Foreign { path: path() },
            Fault::Version(found) => StoreError::Version { path: path(), found },
            Fault::Damaged(what) => StoreError::Damaged { path: path(), what },
        })
    }

    pub(crate) fn replace(&mut self, state: &DurableState) -> Result<(), StoreError> {
        let Self { files, dir, path, next } = self;
        let failed = |doing, path: &Path| {
            let path = path.to_path_buf();
            move |source| StoreError::Io { doing, path, source }
        };
        let file = files.write(next, &format::encode(state)).map_err(failed("write", next))?;
        files.sync(file).map_err(failed("sync", next))?;
        files.rename(next, path).map_err(failed("replace", path))?;
        files.sync_dir(dir).map_err(failed("sync", dir))
    }
}

#[cfg(test)]
pub(crate) mod tests;
