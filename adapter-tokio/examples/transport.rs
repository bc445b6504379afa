//! Nodes that are connected by something else than TCP: first by pipes in memory, then by Unix sockets.
//!
//! ```sh
//! cargo run -p formation-tokio --example transport
//! ```

use std::{
    collections::HashMap,
    error::Error,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use formation_tokio::{Address, Cluster, Config, Opening, Transport};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, duplex},
    net::{UnixListener, UnixStream},
    sync::{self, mpsc},
};

/// How many bytes a pipe holds before whoever writes has to wait.
const PIPE: usize = 64 * 1024;

/// Where the pipes of one process lead.
#[derive(Clone, Default)]
struct Switchboard(Arc<Mutex<HashMap<Address, mpsc::Sender<DuplexStream>>>>);

impl Switchboard {
    /// The node of this address, which others reach from now on.
    fn plug(&self, address: Address) -> Socket {
        let (ring, calls) = mpsc::channel(16);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address, ring);
        Socket { board: self.clone(), calls: sync::Mutex::new(calls) }
    }
}

struct Socket {
    board: Switchboard,
    calls: sync::Mutex<mpsc::Receiver<DuplexStream>>,
}

impl Transport for Socket {
    type Stream = DuplexStream;

    async fn accept(&self) -> io::Result<Opening<DuplexStream>> {
        let call = self.calls.lock().await.recv().await;
        call.map(Opening::ready).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    async fn connect(&self, address: &Address, _limit: Duration) -> io::Result<Opening<DuplexStream>> {
        let ring = self.board.0.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned();
        let ring = ring.ok_or(io::ErrorKind::NotFound)?;
        let (ours, theirs) = duplex(PIPE);
        ring.send(theirs).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Opening::ready(ours))
    }
}

/// Unix sockets in one directory: an address is the name of a file.
struct Unix {
    dir: PathBuf,
    listener: UnixListener,
}

impl Unix {
    fn listen(dir: PathBuf, address: &Address) -> io::Result<Self> {
        let listener = UnixListener::bind(path(&dir, address))?;
        Ok(Self { dir, listener })
    }
}

fn path(dir: &std::path::Path, address: &Address) -> PathBuf {
    dir.join(address.as_str().replace(':', "-"))
}

impl Transport for Unix {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<Opening<UnixStream>> {
        let (stream, _) = self.listener.accept().await?;
        Ok(Opening::ready(stream))
    }

    async fn connect(&self, address: &Address, _limit: Duration) -> io::Result<Opening<UnixStream>> {
        UnixStream::connect(path(&self.dir, address)).await.map(Opening::ready)
    }
}

/// Three nodes, each on the transport that is made for its address.
async fn form<T>(what: &str, on: impl Fn(&Address) -> io::Result<T>) -> Result<(), Box<dyn Error>>
where
    T: Transport<Stream: AsyncRead + AsyncWrite + Unpin>,
{
    let seeds = ["a:1", "b:1", "c:1"];
    let mut nodes = Vec::new();
    for (id, address) in ["node-a", "node-b", "node-c"].into_iter().zip(seeds) {
        let config = Config::builder("pipes", id, address).seeds(seeds).build()?;
        let transport = on(config.address())?;
        nodes.push(Cluster::start_on(config, transport)?);
    }
    for node in &nodes {
        let (master, view) = (node.wait_for_master().await?, node.wait_for_members(seeds.len()).await?);
        println!("{what}: {} follows {}, master of term {}, of {}", node.node(), master.node, master.term, view.len());
    }
    for node in nodes {
        node.leave().await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let board = Switchboard::default();
    form("pipes", |address| Ok(board.plug(address.clone()))).await?;
    let dir = tempfile::tempdir()?;
    form("Unix sockets", |address| Unix::listen(dir.path().to_owned(), address)).await
}
