//! A crash between any two steps: the power is lost, or the disk is full.

use std::collections::BTreeMap;

use super::*;
use crate::format::tests::state;

/// Write, sync, link, rename twice, sync the directory.
const STEPS: usize = 6;
/// The same without a link: create, write, sync, rename, sync the directory.
const FIRST_STEPS: usize = 5;

/// Files whose first `left` steps succeed. The next one fails.
pub(crate) struct Until<F, S> {
    pub(crate) files: F,
    pub(crate) left: usize,
    pub(crate) then: S,
}

impl<F: Files, S: FnMut() -> io::Error> Until<F, S> {
    fn step(&mut self) -> io::Result<()> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err((self.then)()),
        }
    }
}

impl<F: Files, S: FnMut() -> io::Error> Files for Until<F, S> {
    type File = F::File;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.read(path)
    }

    fn create(&mut self, path: &Path) -> io::Result<F::File> {
        self.step()?;
        self.files.create(path)
    }

    fn write(&mut self, file: &mut F::File, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        self.files.write(file, bytes)
    }

    fn sync(&mut self, file: &F::File) -> io::Result<()> {
        self.step()?;
        self.files.sync(file)
    }

    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        self.files.link(from, to)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        self.files.rename(from, to)
    }

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.step()?;
        self.files.sync_dir(dir)
    }
}

type Names = BTreeMap<PathBuf, usize>;

/// A disk in memory. It knows which contents are not synced yet, and the names before the last sync of the directory.
#[derive(Clone, Default)]
struct Paper {
    contents: Vec<(Vec<u8>, bool)>,
    /// The names at the last sync of the directory, and after each change since then.
    names: Vec<Names>,
    /// A file has one name only.
    no_links: bool,
}

impl Paper {
    fn renamed(&mut self, change: impl FnOnce(&mut Names)) {
        let mut names = self.names.last().cloned().unwrap_or_default();
        if self.names.is_empty() {
            self.names.push(Names::new());
        }
        change(&mut names);
        self.names.push(names);
    }

    /// Every disk that may be found after the power was lost.
    fn without_power(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for names in &self.names {
            for kept in [0, 1, 2] {
                let cut = |(content, synced): &(Vec<u8>, bool)| {
                    let length = if *synced { content.len() } else { content.len() * kept / 2 };
                    (content[..length].to_vec(), true)
                };
                all.push(Self {
                    contents: self.contents.iter().map(cut).collect(),
                    names: vec![names.clone()],
                    ..Self::default()
                });
            }
        }
        all
    }
}

impl Files for Paper {
    type File = usize;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.names.last().and_then(|names| names.get(path)).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.contents[*file].0.clone())
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        let file = self.contents.len();
        self.contents.push((Vec::new(), false));
        self.renamed(|names| {
            names.insert(path.into(), file);
        });
        Ok(file)
    }

    fn write(&mut self, file: &mut usize, bytes: &[u8]) -> io::Result<()> {
        self.contents[*file] = (bytes.to_vec(), false);
        Ok(())
    }

    fn sync(&mut self, file: &usize) -> io::Result<()> {
        self.contents[*file].1 = true;
        Ok(())
    }

    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if self.no_links {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.renamed(|names| {
            let file = names[from];
            names.insert(to.into(), file);
        });
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.renamed(|names| {
            let file = names.remove(from).expect("it was written");
            names.insert(to.into(), file);
        });
        Ok(())
    }

    fn sync_dir(&mut self, _: &Path) -> io::Result<()> {
        self.names.drain(..self.names.len() - 1);
        Ok(())
    }
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

/// A slot that has stored states, and whose files fail after so many further steps.
fn failing_after<F: Files>(files: F, dir: &Path, steps: usize) -> Slot<Until<F, fn() -> io::Error>> {
    let mut slot = Slot::new(Until { files, left: usize::MAX, then: full as fn() -> io::Error }, dir);
    // Each of both files is written twice.
    (0..4).for_each(|_| slot.replace(&state(1)).unwrap());
    slot.files.left = steps;
    slot
}

#[test]
fn e4_a_power_loss_leaves_the_old_or_the_acknowledged_state() {
    // Without links, the step fails in any case.
    for (no_links, last) in [(false, STEPS), (true, STEPS - 1)] {
        for steps in 0..=last {
            let mut slot = failing_after(Paper { no_links, ..Paper::default() }, Path::new("dir"), steps);
            assert_eq!(slot.replace(&state(2)).is_ok(), steps == last);
            for files in slot.files.files.without_power() {
                let found = Slot::new(files, Path::new("dir")).load();
                let found =
                    found.unwrap_or_else(|error| panic!("after {steps} steps: {error}")).expect("a state is stored");
                let allowed = if steps == last { found == state(2) } else { [state(1), state(2)].contains(&found) };
                assert!(allowed, "after {steps} steps: {found:?}");
            }
        }
    }
}

#[test]
fn e4_the_first_state_is_stored_as_a_whole_or_not_at_all() {
    for steps in 0..=FIRST_STEPS {
        let mut slot = Slot::new(Until { files: Paper::default(), left: steps, then: full }, Path::new("dir"));
        assert_eq!(slot.replace(&state(1)).is_ok(), steps == FIRST_STEPS);
        for files in slot.files.files.without_power() {
            let found = Slot::new(files, Path::new("dir")).load().unwrap();
            assert!(
                found == Some(state(1)) || (found.is_none() && steps < FIRST_STEPS),
                "after {steps} steps: {found:?}"
            );
        }
    }
}

#[test]
fn a_failed_step_names_its_path_and_keeps_the_last_state() {
    for steps in 0..STEPS {
        let dir = tempfile::tempdir().unwrap();
        let mut slot = failing_after(Disk::default(), dir.path(), steps);
        let error = slot.replace(&state(2)).unwrap_err().to_string();
        let step = ["write", "sync", "replace", "replace", "replace", "sync"][steps];
        let expected = format!("cannot {step} {}", dir.path().display());
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(slot.load().unwrap(), Some(state(if steps < 4 { 1 } else { 2 })), "after {steps} steps");
    }
}

#[test]
fn a_replacement_after_a_failed_one_starts_anew() {
    for steps in 0..STEPS {
        let dir = tempfile::tempdir().unwrap();
        let mut slot = failing_after(Disk::default(), dir.path(), steps);
        slot.replace(&state(2)).unwrap_err();
        slot.files.left = usize::MAX;
        for round in 3..6 {
            slot.replace(&state(round)).unwrap();
            assert_eq!(slot.load().unwrap(), Some(state(round)), "after {steps} steps");
        }
    }
}

/// Write and sync come before the rename. A failed link does not matter.
#[test]
fn e4_a_failure_before_the_rename_can_be_repeated() {
    const BEFORE_THE_RENAME: usize = 2;
    for steps in (0..STEPS).filter(|steps| *steps != BEFORE_THE_RENAME) {
        let mut slot = failing_after(Paper::default(), Path::new("dir"), steps);
        let error = slot.replace(&state(2)).unwrap_err();
        assert_eq!(error.is_final(), steps > BEFORE_THE_RENAME, "after {steps} steps: {error}");
        if error.is_final() {
            continue;
        }
        assert_eq!(slot.load().unwrap(), Some(state(1)));
        slot.files.left = usize::MAX;
        slot.replace(&state(2)).unwrap();
        assert_eq!(slot.load().unwrap(), Some(state(2)));
        for files in slot.files.files.without_power() {
            assert_eq!(Slot::new(files, Path::new("dir")).load().unwrap(), Some(state(2)), "after {steps} steps");
        }
    }
}

#[test]
fn a_file_system_that_cannot_sync_directories_is_named() {
    for kind in [io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported] {
        let said = StoreError::not_synced(Path::new("dir"), kind.into()).to_string();
        assert!(said.contains("the directory dir") && said.contains("file system"), "{said}");
    }
    let broken = StoreError::not_synced(Path::new("dir"), io::ErrorKind::StorageFull.into()).to_string();
    assert!(!broken.contains("file system"), "{broken}");
}
