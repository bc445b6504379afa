//! A listener that serves only so many connections at once.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep, sleep},
};

/// For how long a connection may wait for a request, with all of its bytes, and for the begin of the answer. It begins anew with
/// each write: a stream of events has a sign of life more often than that.
const SILENCE: Duration = Duration::from_secs(120);

/// One source gets this part of the places. A machine with an address of IPv4 and one of IPv6 is two sources.
const SHARE: usize = 3;

/// A listener with a limit of connections, because each takes a file of the process, which the node needs for its own connections.
#[derive(Debug)]
pub(crate) struct LimitedListener {
    listener: TcpListener,
    places: Arc<Places>,
}

impl LimitedListener {
    /// So many connections at once, and at least one.
    pub(crate) fn new(listener: TcpListener, most: usize) -> Self {
        let places = Places { most: most.max(1), taken: Mutex::default() };
        Self { listener, places: Arc::new(places) }
    }
}

impl Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedStream, SocketAddr) {
        loop {
            // It waits a moment where the process has no more files.
            let (stream, address) = Listener::accept(&mut self.listener).await;
            if let Some(place) = Place::take(&self.places, source(address.ip())) {
                return (LimitedStream { stream, silence: Box::pin(sleep(SILENCE)), _place: place }, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The source that an address belongs to: the address itself with IPv4, its network with IPv6, because one machine has all addresses of
/// it.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[derive(Debug)]
struct Places {
    most: usize,
    /// By the source. A source without a connection has no entry.
    taken: Mutex<BTreeMap<IpAddr, usize>>,
}

/// The place of one connection. It is free again when this is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    source: IpAddr,
}

impl Place {
    fn take(places: &Arc<Places>, source: IpAddr) -> Option<Self> {
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let share = places.most.div_ceil(SHARE);
        if taken.values().sum::<usize>() >= places.most || taken.get(&source).is_some_and(|count| *count >= share) {
            return None;
        }
        *taken.entry(source).or_default() += 1;
        Some(Self { places: places.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.source) {
            *count -= 1;
        }
        taken.retain(|_, count| *count > 0);
    }
}

/// A connection of a [`LimitedListener`].
#[derive(Debug)]
pub(crate) struct LimitedStream {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    _place: Place,
}

impl LimitedStream {
    /// While nothing can be read or written, the end of the silence ends the connection.
    fn watch<T>(&mut self, done: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if done.is_pending() {
            ready!(self.silence.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        done
    }

    /// After a write, the silence begins anew. A client that sends its request byte by byte does not prolong it.
    fn written<T>(&mut self, done: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.silence.as_mut().reset(Instant::now() + SILENCE);
        }
        self.watch(done, context)
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = pin!(&mut this.stream).poll_read(context, buf);
        this.watch(done, context)
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = pin!(&mut this.stream).poll_write(context, bytes);
        this.written(done, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = pin!(&mut this.stream).poll_write_vectored(context, parts);
        this.written(done, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    /// Long enough to be sure that nothing comes, in virtual time.
    const LONG: Duration = Duration::from_secs(10);

    async fn listener(most: usize) -> (LimitedListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (LimitedListener::new(listener, most), address)
    }

    #[test]
    fn one_source_gets_a_third_of_the_places() {
        let places = Arc::new(Places { most: 8, taken: Mutex::default() });
        let take = |address: &str| Place::take(&places, source(address.parse().unwrap()));
        let greedy: Vec<_> = (0..20).filter_map(|_| take("10.0.0.1")).collect();
        assert_eq!(greedy.len(), 3);
        let others: Vec<_> = (2..9).filter_map(|host| take(&format!("10.0.0.{host}"))).collect();
        assert_eq!(others.len(), 5, "all places are taken");
        drop(greedy);
        assert!(take("10.0.0.4").is_some());
        drop(others);
        assert!(places.taken.lock().unwrap().is_empty(), "a source without a connection is forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let of = |address: &str| source(address.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }

    #[tokio::test]
    async fn a_connection_without_a_place_is_closed() {
        let (mut listener, address) = listener(1).await;
        let _first = TcpStream::connect(address).await.unwrap();
        let (held, _) = listener.accept().await;
        let mut second = TcpStream::connect(address).await.unwrap();
        // The listener closes the second one and waits for a third.
        let mut accepted = pin!(listener.accept());
        let mut byte = [0];
        let closed = tokio::select! {
            read = second.read(&mut byte) => read,
            _ = &mut accepted => panic!("it gives a place that there is not"),
        };
        assert!(closed.is_err() || closed.is_ok_and(|count| count == 0));
        drop(held);
        let _third = TcpStream::connect(address).await.unwrap();
        accepted.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_closed_and_another_one_is_not() {
        let (mut listener, address) = listener(2).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut server, _) = listener.accept().await;
        for _ in 0..3 {
            assert!(timeout(SILENCE - LONG, server.read_u8()).await.is_err(), "it is silent for a while");
            server.write_u8(1).await.unwrap();
        }
        // A read prolongs nothing.
        assert!(timeout(SILENCE - LONG, server.read_u8()).await.is_err());
        client.write_u8(1).await.unwrap();
        server.stream.readable().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), 1);
        let error = timeout(2 * LONG, server.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
