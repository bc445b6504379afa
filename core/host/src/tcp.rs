//! The parts of dialing by TCP that are the same for every runtime.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::runtime::{Runtime, timeout};

/// Connects to the first address of a name that answers, within `limit`, and returns the stream with its peer's address.
///
/// Each address gets an equal share of the time that is left. A silent one does not use up the time of those behind it.
///
/// Cancel safe: if the future is dropped, the attempt that is under way is dropped, and no stream stays open.
///
/// # Errors
/// The error of the last address: `TimedOut` if its share has passed. `NotFound` if the name has no address.
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
    let deadline = Instant::now() + limit;
    let addresses: Vec<_> = resolve.await?.into_iter().collect();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name resolves to no address");
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout::<R, _>(share(left, addresses.len() - index), connect(*address)).await {
            Some(Ok(stream)) => return Ok((stream, *address)),
            Some(Err(error)) => failure = error,
            None => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

/// The time that the next of `addresses` gets.
fn share(left: Duration, addresses: usize) -> Duration {
    left / u32::try_from(addresses).unwrap_or(u32::MAX).max(1)
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
    use std::{cell::RefCell, future::pending};

    use super::*;
    use crate::testing::Smol;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn each_address_gets_an_equal_share_of_the_time_left() {
        let seconds = Duration::from_secs;
        assert_eq!(share(seconds(9), 3), seconds(3));
        // The first has failed at once.
        assert_eq!(share(seconds(9), 2), Duration::from_millis(4_500));
        assert_eq!(share(Duration::ZERO, 1), Duration::ZERO);
    }

    #[test]
    fn a_silent_address_leaves_time_for_the_next_ones() {
        let dialed = RefCell::new(Vec::new());
        let connect = |to: SocketAddr| {
            dialed.borrow_mut().push(to.port());
            async move {
                match to.port() {
                    1 => pending().await,
                    2 => Err(io::ErrorKind::ConnectionRefused.into()),
                    port => {
                        Smol::sleep(Duration::from_millis(1)).await;
                        Ok(port)
                    }
                }
            }
        };
        let resolve = async { Ok([1, 2, 3, 4].map(address)) };
        let connected = smol::block_on(connect_any::<Smol, _, _, _>(resolve, Duration::from_secs(1), connect));
        assert_eq!(connected.unwrap(), (3, address(3)));
        assert_eq!(*dialed.borrow(), [1, 2, 3]);
    }

    #[test]
    fn the_error_is_that_of_the_last_address() {
        let kind = |ports: &'static [u16], resolved: io::Result<()>| {
            let resolve = async { resolved.map(|()| ports.iter().copied().map(address)) };
            let connect = |to: SocketAddr| async move {
                match to.port() {
                    1 => pending().await,
                    _ => Err::<(), _>(io::ErrorKind::ConnectionRefused.into()),
                }
            };
            let connected = connect_any::<Smol, _, _, _>(resolve, Duration::from_millis(10), connect);
            smol::block_on(connected).unwrap_err().kind()
        };
        assert_eq!(kind(&[1, 2], Ok(())), io::ErrorKind::ConnectionRefused);
        assert_eq!(kind(&[2, 1], Ok(())), io::ErrorKind::TimedOut);
        assert_eq!(kind(&[], Ok(())), io::ErrorKind::NotFound);
        assert_eq!(kind(&[2], Err(io::ErrorKind::HostUnreachable.into())), io::ErrorKind::HostUnreachable);
    }

    #[test]
    fn a_socket_connected_to_itself_counts_as_refused() {
        let refused = check_not_self_connected(address(7), address(7)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        check_not_self_connected(address(7), address(8)).unwrap();
    }
}
