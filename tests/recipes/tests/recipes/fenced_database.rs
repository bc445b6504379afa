//! The master that writes to a database.

use rusqlite::{Connection, TransactionBehavior};

use crate::replicas::{Replicas, VOTERS};

/// The term of each write, in the order of the writes.
fn terms(database: &Connection) -> Vec<u64> {
    let mut orders = database.prepare("SELECT term FROM orders ORDER BY number").unwrap();
    let terms = orders.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    terms.map(|term| u64::try_from(term.unwrap()).unwrap()).collect()
}

#[test]
fn the_database_refuses_the_late_write_of_an_earlier_master() {
    let mut replicas = Replicas::new(env!("CARGO_BIN_EXE_fenced_database"));
    let path = replicas.path("orders.db");
    for id in VOTERS {
        replicas.start(id, &["--database", path.to_str().unwrap()]);
    }
    replicas.wait_for_words("has written");
    let mut database = Connection::open(&path).unwrap();
    let lock = database.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let done = terms(&lock).len();
    // A write that is not in the database yet waits for the lock.
    let begun = |replicas: &Replicas| replicas.seen().iter().filter(|line| line.text.starts_with("writes")).count();
    while begun(&replicas) <= done {
        replicas.wait_for_words("writes");
    }
    let paused = replicas.seen().iter().rfind(|line| line.text.starts_with("writes")).unwrap().clone();
    replicas.signal(&paused.id, "STOP");
    replicas.wait_for("the next master", |line| (line.id != paused.id).then_some(()));
    lock.rollback().unwrap();
    replicas.wait_for("its write", |line| (line.id != paused.id && line.text.starts_with("has written")).then_some(()));
    replicas.signal(&paused.id, "CONT");
    let late = replicas.wait_for("the end of the late write", |line| {
        (line.id == paused.id && !line.text.starts_with("writes")).then(|| line.text.clone())
    });
    let term = paused.term().unwrap();
    assert_eq!(late, format!("is refused in term {term}: stale term: a newer master has written"));
    let terms = terms(&database);
    assert!(terms.is_sorted() && terms.first() < terms.last(), "{terms:?}");
}

/// In SQLite, an error undoes its statement only, and the transaction goes on.
#[test]
fn a_client_that_ignores_the_fence_changes_nothing() {
    let database = Connection::open_in_memory().unwrap();
    let schema = include_str!("../../sql/fence.sqlite.sql");
    database.execute_batch(schema).unwrap();
    let execute = |statement: &str| database.execute(statement, []);
    let raise = |term| execute(&format!("UPDATE fence SET term = {term}"));
    let insert = |term| execute(&format!("INSERT INTO orders (term, node) VALUES ({term}, 'node of {term}')"));
    for term in [1, 2] {
        assert_eq!((raise(term), insert(term)), (Ok(1), Ok(1)));
    }
    execute("BEGIN").unwrap();
    assert!(raise(1).is_err() && insert(1).is_err());
    execute("COMMIT").unwrap();
    assert!(insert(1).is_err(), "it has not asked the fence");
    assert!(insert(3).is_err(), "an earlier master could write after this");
    assert!(execute("DELETE FROM fence").is_err(), "nothing would be refused any more");
    for replacing in ["INSERT OR REPLACE INTO", "REPLACE INTO", "INSERT OR IGNORE INTO"] {
        let replaced = execute(&format!("{replacing} fence VALUES (1, 0)"));
        assert!(replaced.is_err(), "an earlier master could write after {replacing}");
    }
    assert!(raise(1).is_err());
    assert_eq!(terms(&database), [1, 2]);
    database.execute_batch(schema).unwrap();
    assert_eq!((raise(2), terms(&database)), (Ok(1), vec![1, 2]), "each start of a replica runs the schema again");
}
