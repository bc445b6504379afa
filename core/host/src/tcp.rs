//! The parts of dialing by TCP that are the same for every runtime.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use crate::runtime::{Runtime, timeout};

/// How long an attempt may take until the next one begins beside it, as RFC 8305 recommends.
const STAGGER: Duration = Duration::from_millis(250);

/// How many attempts there may be at a time. Each is an open file: with 64 claimed addresses that are checked at a time, these are 128 of
/// the reserve in `descriptors`.
const AT_ONCE: usize = 2;

/// How many addresses of one name are tried. An answer of a name server has room for thousands.
const MAX_ADDRESSES: usize = 32;

/// Connects to the address of a name that answers first, within `limit`, and returns the stream with its peer's address.
///
/// The attempts begin one after the other, and do not wait for each other for long (RFC 8305): the next one begins when one has failed,
/// or after 250 ms, or sooner if there would not be enough time for all. Addresses of IPv6 and IPv4 take turns, and otherwise keep their
/// order. So neither a silent address nor a broken IPv6 costs more than one such wait. There are at most 2 attempts at a time: the oldest
/// one ends for each further one. The first 32 addresses are tried.
///
/// Cancel safe: if the future is dropped, the attempts that are under way are dropped, and no stream stays open.
///
/// # Errors
/// `TimedOut` if an attempt was under way at the end of the time, and otherwise the error of the attempt that failed last. `NotFound` if
/// the name has no address.
pub async fn connect_any<R, S, A, F>(
    resolve: impl Future<Output = io::Result<A>>,
    limit: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<(S, SocketAddr)>
where
    R: Runtime,
    A: IntoIterator<Item = SocketAddr>,
    F: Future<Output = io::Result<S>>,
{
    let begun = Instant::now();
    let addresses = take_turns(resolve.await?);
    let limit = limit.saturating_sub(begun.elapsed());
    let stagger = stagger(limit, addresses.len());
    let race = async {
        let mut attempts = VecDeque::new();
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name resolves to no address");
        let mut waiting = addresses.into_iter();
        loop {
            if let Some(address) = waiting.next() {
                attempts.truncate(AT_ONCE - 1);
                attempts.push_front((address, Box::pin(connect(address))));
            } else if attempts.is_empty() {
                return Err(failure);
            }
            let ended = match waiting.len() {
                0 => Some(first_to_end(&mut attempts).await),
                _ => timeout::<R, _>(stagger, first_to_end(&mut attempts)).await,
            };
            match ended {
                Some((address, Ok(stream))) => return Ok((stream, address)),
                Some((_, Err(error))) => failure = error,
                None => {}
            }
        }
    };
    timeout::<R, _>(limit, race).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

/// The attempts that are under way, the newest first.
type Attempts<F> = VecDeque<(SocketAddr, Pin<Box<F>>)>;

/// Waits for the first attempt that ends, and takes it out.
async fn first_to_end<S, F>(attempts: &mut Attempts<F>) -> (SocketAddr, io::Result<S>)
where
    F: Future<Output = io::Result<S>>,
{
    poll_fn(|cx| {
        for at in (0..attempts.len()).rev() {
            let (address, attempt) = &mut attempts[at];
            if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                let address = *address;
                attempts.remove(at);
                return Poll::Ready((address, result));
            }
        }
        Poll::Pending
    })
    .await
}

/// The addresses in the order in which they are tried: the two families take turns, beginning with the one that the system prefers. It
/// prefers IPv6 where it has a route for it (RFC 6724).
fn take_turns(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut ordered: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if ordered.len() == MAX_ADDRESSES {
            break;
        }
        if !ordered.contains(&address) {
            ordered.push(address);
        }
    }
    let Some(preferred) = ordered.first().map(SocketAddr::is_ipv6) else { return ordered };
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        ordered.iter().partition(|address| address.is_ipv6() == preferred);
    for place in &mut ordered {
        if let Some(next) = first.pop_front().or_else(|| second.pop_front()) {
            *place = next;
        }
        if !second.is_empty() {
            std::mem::swap(&mut first, &mut second);
        }
    }
    ordered
}

/// How long the next of so many attempts waits for the one before it. The last one gets as much of the time as each wait.
fn stagger(limit: Duration, attempts: usize) -> Duration {
    STAGGER.min(limit / u32::try_from(attempts).unwrap_or(u32::MAX).max(1))
}

/// Checks that a new TCP stream does not lead from a socket to itself. The operating system connects a socket to itself if it
/// happens to dial a local port, without a listener, from that same port. The node would take the address for its own.
///
/// # Errors
/// `ConnectionRefused`: nobody listens at the address.
pub fn check_not_self_connected(local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
    if local == peer {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the socket was connected to itself"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        future::pending,
        net::Ipv6Addr,
        rc::Rc,
    };

    use super::*;
    use crate::testing::Smol;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn of_ipv6(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv6Addr::LOCALHOST, port))
    }

    #[test]
    fn the_families_take_turns_and_keep_their_order() {
        let [a, b, c] = [1, 2, 3].map(address);
        let [d, e, f] = [4, 5, 6].map(of_ipv6);
        assert_eq!(take_turns([d, e, f, a, b]), [d, a, e, b, f]);
        assert_eq!(take_turns([a, b, c, d]), [a, d, b, c], "the system prefers IPv4");
        assert_eq!(take_turns([a, a, b]), [a, b]);
        assert_eq!(take_turns([]), []);
        assert_eq!(take_turns((1..=5000).map(address)).len(), MAX_ADDRESSES);
    }

    #[test]
    fn the_last_attempt_has_time_left() {
        let seconds = Duration::from_secs;
        assert_eq!(stagger(seconds(3), 2), STAGGER);
        assert_eq!(stagger(seconds(1), 100), Duration::from_millis(10));
        assert_eq!(stagger(Duration::ZERO, 0), Duration::ZERO);
    }

    /// Attempts at port 1 never end, those at port 2 are refused, and the others succeed. Returns the order of the attempts.
    fn dial(addresses: Vec<SocketAddr>, limit: Duration) -> (io::Result<u16>, Vec<u16>) {
        let dialed = RefCell::new(Vec::new());
        let connect = |to: SocketAddr| {
            dialed.borrow_mut().push(to.port());
            async move {
                match to.port() {
                    1 => pending().await,
                    2 => Err(io::ErrorKind::ConnectionRefused.into()),
                    port => Ok(port),
                }
            }
        };
        let resolve = async { Ok(addresses) };
        let connected = smol::block_on(connect_any::<Smol, _, _, _>(resolve, limit, connect));
        (connected.map(|(port, _)| port), dialed.into_inner())
    }

    const LONG: Duration = Duration::from_secs(3600);

    /// The limit is an hour: a share of it for the silent address would be far too long for a test.
    #[test]
    fn a_silent_address_does_not_hold_up_the_next_ones() {
        let (connected, dialed) = dial([1, 2, 3, 4].map(address).to_vec(), LONG);
        assert_eq!((connected.unwrap(), dialed), (3, vec![1, 2, 3]));
        let (connected, dialed) = dial(vec![of_ipv6(1), address(3)], LONG);
        assert_eq!((connected.unwrap(), dialed), (3, vec![1, 3]), "IPv6 is broken");
    }

    /// The answer comes while later attempts are under way.
    #[test]
    fn an_earlier_attempt_may_still_win() {
        let (answer, answered) = async_channel::bounded::<()>(1);
        let connect = |to: SocketAddr| {
            let (answer, answered) = (answer.clone(), answered.clone());
            async move {
                if to.port() == 1 {
                    answered.recv().await.unwrap();
                    return Ok(());
                }
                answer.try_send(()).unwrap();
                pending().await
            }
        };
        let resolve = async { Ok([1, 2].map(address)) };
        let (_, peer) = smol::block_on(connect_any::<Smol, _, _, _>(resolve, LONG, connect)).unwrap();
        assert_eq!(peer, address(1));
    }

    #[test]
    fn only_so_many_attempts_are_under_way() {
        let under_way = Rc::new(());
        let most = Cell::new(0);
        let connect = |_| {
            let held = under_way.clone();
            most.set(most.get().max(Rc::strong_count(&under_way) - 1));
            async move {
                let _held = held;
                pending::<io::Result<()>>().await
            }
        };
        let resolve = async { Ok((1..=100).map(address)) };
        let failed = smol::block_on(connect_any::<Smol, _, _, _>(resolve, Duration::from_millis(200), connect));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(most.get(), AT_ONCE);
        assert_eq!(Rc::strong_count(&under_way), 1);
    }

    #[test]
    fn the_error_is_the_last_one_unless_the_time_is_over() {
        let kind = |ports: &[u16]| {
            let addresses = ports.iter().copied().map(address).collect();
            dial(addresses, Duration::from_millis(10)).0.unwrap_err().kind()
        };
        assert_eq!(kind(&[1, 2]), io::ErrorKind::TimedOut);
        assert_eq!(kind(&[2, 1]), io::ErrorKind::TimedOut);
        assert_eq!(kind(&[2]), io::ErrorKind::ConnectionRefused);
        assert_eq!(kind(&[]), io::ErrorKind::NotFound);
        let unresolved = async { Err::<Vec<_>, _>(io::ErrorKind::HostUnreachable.into()) };
        let dialed = connect_any::<Smol, _, _, _>(unresolved, LONG, async |_| Ok(()));
        assert_eq!(smol::block_on(dialed).unwrap_err().kind(), io::ErrorKind::HostUnreachable);
    }

    #[test]
    fn a_socket_connected_to_itself_counts_as_refused() {
        let refused = check_not_self_connected(address(7), address(7)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        check_not_self_connected(address(7), address(8)).unwrap();
    }
}
