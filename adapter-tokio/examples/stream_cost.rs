//! Measures a stream beside a bare socket, and the heartbeats of a master beside 100 busy streams. It prints the figures.
//!
//! ```sh
//! cargo run --release -p formation-tokio --example stream_cost
//! ```

use std::{
    error::Error,
    time::{Duration, Instant},
};

use formation_tokio::{Change, Cluster, Config, Event, Limits, MemberState};
use futures_lite::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

const CHUNK: usize = 64 * 1024;
/// Bytes in one measurement of the throughput, and round trips in one of the latency.
const BYTES: usize = 1 << 30;
const ROUND_TRIPS: u32 = 20_000;
const ROUNDS: usize = 7;
const STREAMS: usize = 100;
const LOAD: Duration = Duration::from_secs(20);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Each socket in turn, so that both see the same machine. The best of the rounds counts.
async fn compare(cluster: &Cluster, other: &Cluster) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (mut plain, (mut far, _)) = tokio::try_join!(TcpStream::connect(listener.local_addr()?), listener.accept())?;
    plain.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let mut incoming = other.incoming("cost").await?;
    let began = Instant::now();
    let (stream, accepted) = tokio::join!(cluster.open(other.node(), "cost"), incoming.accept());
    let (mut stream, mut accepted) = (stream?, accepted?);
    println!("opening a stream: {:?}", began.elapsed());
    let mut best = [[Duration::MAX; 2]; 2];
    for _ in 0..ROUNDS {
        let bare = [sends(&mut plain, &mut far).await?, answers(&mut plain, &mut far).await?];
        let ours = [sends(&mut stream, &mut accepted).await?, answers(&mut stream, &mut accepted).await?];
        for (best, time) in best.iter_mut().flatten().zip([bare, ours].iter().flatten()) {
            *best = (*best).min(*time);
        }
    }
    let [bare, ours] = best;
    let ratio = |ix: usize| ours[ix].as_secs_f64() / bare[ix].as_secs_f64();
    println!("1 GiB: {:?} on a bare socket, {:?} on a stream: {:.3}", bare[0], ours[0], ratio(0));
    let each = |time: Duration| time / ROUND_TRIPS;
    println!("a round trip: {:?} on a bare socket, {:?} on a stream: {:.3}", each(bare[1]), each(ours[1]), ratio(1));
    Ok(())
}

async fn sends(near: &mut (impl AsyncWrite + Unpin), far: &mut (impl AsyncRead + Unpin)) -> Result<Duration> {
    let began = Instant::now();
    let write = async {
        let chunk = vec![7; CHUNK];
        for _ in 0..BYTES / CHUNK {
            near.write_all(&chunk).await?;
        }
        Ok(())
    };
    let read = async {
        let (mut chunk, mut left) = (vec![0; CHUNK], BYTES);
        while left > 0 {
            left -= far.read(&mut chunk).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::try_join!(write, read)?;
    Ok(began.elapsed())
}

async fn answers<S, T>(near: &mut S, far: &mut T) -> Result<Duration>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let began = Instant::now();
    let ask = async {
        for _ in 0..ROUND_TRIPS {
            near.write_u8(1).await?;
            near.read_u8().await?;
        }
        Ok(())
    };
    let answer = async {
        for _ in 0..ROUND_TRIPS {
            let byte = far.read_u8().await?;
            far.write_u8(byte).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::try_join!(ask, answer)?;
    Ok(began.elapsed())
}

/// 100 streams from the master send as fast as they can. Meanwhile, the master must stay the master, and suspect nobody.
async fn load(master: &Cluster, others: &[Cluster]) -> Result<()> {
    let mut tasks = JoinSet::new();
    for other in others {
        let mut incoming = other.incoming("load").await?;
        for _ in 0..STREAMS / others.len() {
            let (near, far) = tokio::join!(master.open(other.node(), "load"), incoming.accept());
            let (mut near, mut far) = (near?, far?);
            tasks.spawn(async move { tokio::io::copy(&mut tokio::io::repeat(7), &mut near).await.map(drop) });
            tasks.spawn(async move { tokio::io::copy(&mut far, &mut tokio::io::sink()).await.map(drop) });
        }
    }
    let mut events = master.events();
    let (mut suspects, mut lost, mut slowest) = (0, 0, Duration::ZERO);
    let until = Instant::now() + LOAD;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        match timeout(left.min(Duration::from_millis(100)), events.next()).await {
            Ok(Some(Ok(Event::MasterLost { .. }))) => lost += 1,
            Ok(Some(Ok(Event::ViewChanged { changes, .. }))) => {
                let is_suspect =
                    |change: &&Change| matches!(change, Change::Upsert(it) if it.state == MemberState::Suspect);
                suspects += changes.iter().filter(is_suspect).count();
            }
            Ok(_) | Err(_) => {}
        }
        let round_trips = master.explain().await?.members.into_iter().filter_map(|member| member.round_trip);
        slowest = slowest.max(round_trips.max().unwrap_or_default());
    }
    println!(
        "{STREAMS} streams at full speed for {LOAD:?}: the master was lost {lost} times, members became suspect {suspects} times, the \
         slowest heartbeat took {slowest:?}"
    );
    tasks.shutdown().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut bound = Vec::new();
    for _ in 0..3 {
        bound.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    let seeds = bound.iter().map(TcpListener::local_addr).collect::<std::io::Result<Vec<_>>>()?;
    let mut nodes = Vec::new();
    for (ix, listener) in bound.into_iter().enumerate() {
        let limits = Limits::new().with_streams(200).with_streams_per_member(100).with_stream_openings(100);
        let config = Config::builder("cost", format!("node-{ix}"), seeds[ix]).seeds(&seeds).lan().limits(limits);
        nodes.push(Cluster::start(config.build()?, listener)?);
    }
    let leader = nodes[0].wait_for_master().await?.node;
    for node in &nodes {
        node.wait_for_members(nodes.len()).await?;
    }
    let is_leader = |node: &Cluster| *node.node() == leader;
    let (master, others): (Vec<_>, Vec<_>) = nodes.into_iter().partition(is_leader);
    compare(&master[0], &others[0]).await?;
    load(&master[0], &others).await
}
