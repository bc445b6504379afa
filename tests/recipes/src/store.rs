//! A value that several processes change.

use std::{
    fs::{self, File},
    io,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// A value in a file that several processes change, one after the other. It stands for the database of your service, and shows what that
/// has to be able to do: to read, to decide and to write in one transaction.
///
/// It is for processes of one machine. A file on a network often has no reliable locks.
#[derive(Debug)]
pub struct Store<T> {
    path: PathBuf,
    value: PhantomData<fn() -> T>,
}

impl<T: Default + Serialize + DeserializeOwned> Store<T> {
    /// The value in this file. It is the default until the first change.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), value: PhantomData }
    }

    /// Changes the value in one transaction.
    ///
    /// It waits on a thread of its own: a node whose thread is blocked does not answer the others. So the change takes place even if the
    /// future is dropped in the meantime, as any request that was sent to a database may.
    ///
    /// # Errors
    /// The file cannot be read, written or locked, or it has something else in it. It is then as it was.
    pub async fn change<R, C>(&self, change: C) -> io::Result<R>
    where
        R: Send + 'static,
        C: FnOnce(&mut T) -> R + Send + 'static,
    {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || {
            // Another file, because the one with the value is replaced.
            let lock = File::create(path.with_extension("lock"))?;
            // The end of the process unlocks it, too.
            lock.lock()?;
            let mut value: T = read(&path)?;
            let answer = change(&mut value);
            let new = path.with_extension("new");
            fs::write(&new, serde_json::to_vec(&value)?)?;
            fs::rename(new, path)?;
            Ok(answer)
        })
        .await?
    }
}

fn read<T: Default + DeserializeOwned>(path: &Path) -> io::Result<T> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(error),
    }
}
