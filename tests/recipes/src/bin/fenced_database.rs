//! A master that writes to a database, which refuses the writes of earlier masters in the very transaction. It is SQLite here;
//! `sql/fence.postgresql.sql` is the same for PostgreSQL.
//!
//! ```sh
//! cargo run -p formation-recipes --bin fenced_database -- --id a --address 127.0.0.1:7001 --database /tmp/orders.db \
//!     --state-dir /tmp/orders-a --seed 127.0.0.1:7001 --seed 127.0.0.1:7002 --seed 127.0.0.1:7003
//! ```
//!
//! # Why a lease is not enough
//!
//! A master looks at its lease and sends a write. Then its process is paused, or the write is stuck in a network or behind a lock. When it
//! arrives, the lease is over, and the next master has written already. Only the database can know that.

use std::{error::Error, path::PathBuf, pin::pin, time::Duration};

use clap::Parser;
use formation_tokio::{Cluster, Config, Lease, Stopped};
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::{
    join,
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::sleep,
};

/// The longest time that a write takes. It has to be shorter than the lease, which is 1 s by default.
const WRITE: Duration = Duration::from_millis(500);

/// How long the end may take.
const GOODBYE: Duration = Duration::from_secs(5);

#[derive(Parser)]
struct Args {
    /// The name of this node
    #[arg(long)]
    id: String,
    /// Where the other nodes reach it
    #[arg(long)]
    address: String,
    /// The database, the same on all nodes
    #[arg(long)]
    database: String,
    /// A directory of its own, for its votes. Without it, terms could begin again, and the database would refuse everything
    #[arg(long)]
    state_dir: PathBuf,
    /// The addresses of the voters, the same on all nodes
    #[arg(long = "seed")]
    seeds: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    // Before the node starts, because it waits for the database, and a node that waits does not answer the others.
    Connection::open(&args.database)?.execute_batch(include_str!("../../sql/fence.sqlite.sql"))?;
    let config =
        Config::builder("orders", &args.id, &args.address).seeds(&args.seeds).state_dir(&args.state_dir).build()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let cluster = Cluster::start(config, TcpListener::bind(&args.address).await?)?;
    let mut work = pin!(cluster.run_while_master(|lease| job(lease, &args)));
    tokio::select! {
        // The work never ends by itself.
        ended = &mut work => match ended {
            Ok(failed) => {
                // Let another node try its luck.
                if let Err(error) = cluster.leave_within(GOODBYE).await {
                    eprintln!("{error}");
                }
                failed
            }
            // For example, a newer process has the same id. Then this one is of no use.
            Err(Stopped) => Err(format!("the node has stopped: {}", cluster.stopped().await).into()),
        },
        _ = terminate.recv() => {
            // The write under way ends first, so the work must not be dropped before.
            let (left, ended) = join!(cluster.leave_within(GOODBYE), work);
            // It ends with the node, or has failed before.
            if let Ok(failed) = ended {
                failed?;
            }
            Ok(left?)
        }
    }
}

/// The master's job. It is dropped when the lease ends, and begins anew when this node is the master again.
async fn job(lease: Lease, args: &Args) -> Result<(), Box<dyn Error>> {
    let path = args.database.clone();
    let mut database = spawn_blocking(move || Connection::open(path)).await??;
    loop {
        // A node that leaves waits for the guard, and gives no other one.
        let Ok(guard) = lease.guard(WRITE) else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        // Databases have no unsigned numbers of this size. A term grows by one with each election, so it stays small.
        let (id, term) = (args.id.clone(), i64::try_from(lease.term().0)?);
        println!("{id} writes in term {term}");
        // The database blocks, so it gets a thread of its own. Nothing stops that thread: when the lease ends, the job is dropped where it
        // waits here, and the write goes on. The fence is there for that.
        let written = spawn_blocking(move || {
            let _guard = guard;
            match write(&mut database, &id, term) {
                Ok(()) => println!("{id} has written in term {term}"),
                Err(error) => {
                    println!("{id} is refused in term {term}: {error}");
                    return Err(error);
                }
            }
            Ok(database)
        });
        database = written.await??;
        sleep(Duration::from_millis(50)).await;
    }
}

/// One transaction of the master. If the fence refuses its term, nothing of it is done: the error drops the transaction, which rolls it back.
fn write(database: &mut Connection, id: &str, term: i64) -> rusqlite::Result<()> {
    // `Immediate` locks at the begin. A transaction that reads first and locks later may fail in between.
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let changed = transaction.execute("UPDATE fence SET term = ?1", params![term])?;
    if changed != 1 {
        // Without its row, the fence refuses nothing.
        return Err(rusqlite::Error::StatementChangedRows(changed));
    }
    transaction.execute("INSERT INTO orders (term, node) VALUES (?1, ?2)", params![term, id])?;
    transaction.commit()
}
