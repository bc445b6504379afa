//! Opening a directory: the lock, and the files that may be found there.

use formation_core::{Node, Term};

use super::*;

fn config(id: &str) -> Config {
    Config::builder("test", id, "a:1").seeds(["a:1", "b:1"]).build().unwrap()
}

fn open(dir: &Path, incarnation: u64) -> Result<(Keeper<Disk>, Start), StoreError> {
    Keeper::open(Disk::default(), dir, &config("a"), Incarnation(incarnation), 1)
}

fn in_term(term: u64) -> HardState {
    let mut state = HardState::default();
    state.term = Term(term);
    state
}

#[test]
fn e4_the_next_run_starts_with_the_stored_state() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made").join("for it");
    let (mut store, start) = open(&dir, 5).unwrap();
    assert!(store.is_new);
    assert!(start.is_durable);
    assert_eq!(start, first_start(Incarnation(5), 1));
    let voted_for = Some(Node { id: config("b").id().clone(), incarnation: Incarnation(3) });
    let mut hard_state = in_term(9);
    (hard_state.voted_for, hard_state.joined) = (voted_for, true);
    store.keep(hard_state.clone()).unwrap();
    drop(store);
    let (store, start) = open(&dir, 6).unwrap();
    assert!(!store.is_new);
    let mut expected = first_start(Incarnation(6), 1);
    expected.hard_state = hard_state;
    assert_eq!(start, expected);
}

#[test]
fn an_incarnation_is_durable_before_its_run_begins() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 100).unwrap());
    assert_eq!(open(dir.path(), 50).unwrap().1.incarnation, Incarnation(101));
}

#[test]
fn a_directory_belongs_to_one_node_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), 1).unwrap();
    let error = open(dir.path(), 2).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }) && error.to_string().contains("formation.lock"), "{error}");
    drop(first);
    open(dir.path(), 2).unwrap();
}

#[test]
fn a_dropped_store_frees_its_directory_despite_a_forked_lock() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), 1).unwrap();
    let _copy = store.lock.try_clone().unwrap();
    drop(store);
    open(dir.path(), 2).unwrap();
}

#[test]
fn an_unusable_file_is_named_and_left_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("formation.state");
    drop(open(dir.path(), 1).unwrap());
    let whole = fs::read(&path).unwrap();
    let newer = [&whole[..9], &[2], &whole[10..]].concat();
    let found: [(&[u8], &str); 5] = [
        (b"", "is damaged: it is truncated; restore it"),
        (&whole[..20], "is damaged: its length is not the length"),
        (&[&whole[..whole.len() - 1], &[!whole[whole.len() - 1]]].concat(), "is damaged: its checksum is wrong"),
        (b"my shopping list", "is not a state file"),
        (&newer, "has version 2, but this program reads version 1"),
    ];
    for (bytes, says) in found {
        fs::write(&path, bytes).unwrap();
        let error = open(dir.path(), 2).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains(says), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = open(dir.path(), 2).unwrap_err().to_string();
    assert!(error.starts_with("cannot read") && error.contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn the_state_of_another_node_is_an_error_that_names_both() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 1).unwrap());
    let error = Keeper::open(Disk::default(), dir.path(), &config("b"), Incarnation(2), 1).unwrap_err().to_string();
    assert!(error.contains(dir.path().to_str().unwrap()) && error.contains(r#""a""#) && error.contains(r#""b""#));
    assert_eq!(open(dir.path(), 3).unwrap().1.incarnation, Incarnation(3));
}

#[test]
fn a_directory_that_cannot_be_created_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file.join("dir"), 1).unwrap_err().to_string();
    assert!(error.starts_with("cannot create") && error.contains(file.to_str().unwrap()), "{error}");
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_and_directories_are_for_their_user_only() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("made").join("for it");
        let (mut store, _) = open(&dir, 1).unwrap();
        for _ in 0..2 {
            let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(names.len() >= 2, "{names:?}");
            names.iter().for_each(|path| assert_eq!(mode(path), 0o600, "{}", path.display()));
            store.keep(HardState::default()).unwrap();
        }
        assert_eq!((mode(&dir), mode(dir.parent().unwrap())), (0o700, 0o700));
    }

    #[test]
    fn a_lock_file_that_others_can_open_is_restricted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("formation.lock");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let _store = open(dir.path(), 1).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn no_file_is_opened_through_a_planted_link() {
        for (name, refused) in [
            ("formation.lock", true),
            ("formation.state", true),
            ("formation.state.new", false),
            ("formation.state.last", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("target");
            fs::write(&target, "precious").unwrap();
            symlink(&target, dir.path().join(name)).unwrap();
            let opened = open(dir.path(), 1);
            assert_eq!(opened.is_err(), refused, "{name}");
            if let Ok((mut store, _)) = opened {
                (0..3).for_each(|_| store.keep(HardState::default()).unwrap());
            }
            assert_eq!(fs::read(&target).unwrap(), b"precious", "{name}");
        }
    }

    /// A process without a free file descriptor can still vote.
    #[test]
    fn e4_two_files_take_turns_and_no_other_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path(), 1).unwrap();
        let inodes = (1..10).map(|term| {
            store.keep(in_term(term)).unwrap();
            fs::metadata(dir.path().join("formation.state")).unwrap().ino()
        });
        let inodes: Vec<_> = inodes.collect();
        assert_ne!(inodes[0], inodes[1]);
        assert!(inodes.windows(3).all(|three| three[0] == three[2]), "{inodes:?}");
        drop(store);
        assert_eq!(open(dir.path(), 1).unwrap().1.hard_state.term, Term(9));
    }
}

#[test]
fn a_memory_store_belongs_to_one_run_at_a_time_and_outlives_it() {
    let (memory, config) = (MemoryStore::new(), config("a"));
    let (mut store, first) = memory.open(&config, Incarnation(1), 1).unwrap();
    assert_eq!(first.hard_state.term, Term(0));
    store.keep(in_term(7)).unwrap();
    assert!(matches!(memory.open(&config, Incarnation(2), 1), Err(StoreError::Locked { .. })));
    drop(store);
    let (_store, next) = memory.open(&config, Incarnation(2), 1).unwrap();
    assert_eq!((next.hard_state.term, next.incarnation), (Term(7), Incarnation(2)));
}

#[cfg(unix)]
#[test]
fn a_state_dir_is_any_path() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

    let dir = tempfile::tempdir().unwrap();
    let no_text: PathBuf = dir.path().join(OsStr::from_bytes(b"\xff"));
    let node = || Config::single("test", "a", "a:1");
    for builder in [node().state_dir(&no_text), node().state_dir(no_text.as_path()), node().state_dir(no_text.clone())]
    {
        let config = builder.build().unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
        assert_eq!(config.state_dir().unwrap().to_path_buf(), no_text);
        drop(crate::begin(&config).unwrap());
        fs::remove_dir_all(&no_text).unwrap();
    }
}
