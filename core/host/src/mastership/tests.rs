use std::{
    convert::identity,
    future::pending,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use formation_core::{Address, Config, LossReason, Phase, Timing};
use futures_lite::{
    FutureExt, StreamExt,
    future::{block_on, poll_once, yield_now},
};

use super::*;
use crate::{
    environment::Environment,
    handle::ClusterHandle,
    node::start_node,
    opening::Opening,
    testing::{Pipes, Smol},
    transport::Transport,
};

/// No connection ever opens.
struct Nobody;

impl Transport for Nobody {
    type Stream = Pipes;

    async fn accept(&self) -> io::Result<Opening<Pipes>> {
        pending().await
    }

    async fn connect(&self, _: &Address, _: Duration) -> io::Result<Opening<Pipes>> {
        pending().await
    }
}

type Driver = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// The only voter of a cluster, which does nothing until its driver is polled.
fn single(timing: Timing) -> (ClusterHandle, Driver) {
    let config = Config::single("test", "a", "a:1").timing(timing).build().unwrap();
    let (handle, driver) = start_node::<Smol, _, _>(config, Nobody, &Environment::system(), identity).unwrap();
    (handle, Box::pin(driver))
}

/// The same, running, with a lease that lasts longer than a pause of this machine.
fn running() -> (ClusterHandle, smol::Task<()>) {
    running_with(Timing::wan())
}

fn running_with(timing: Timing) -> (ClusterHandle, smol::Task<()>) {
    let (handle, driver) = single(timing);
    (handle, smol::spawn(driver))
}

/// Fails a test that would hang.
fn run(test: impl Future<Output = ()>) {
    let too_long = async {
        smol::Timer::after(Duration::from_secs(20)).await;
        panic!("the test hangs");
    };
    block_on(test.or(too_long));
}

/// Calls a function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn work_runs_on_the_master_until_it_is_done() {
    run(async {
        let (handle, _driver) = running();
        let name = String::from("job");
        let done = handle.run_while_master(async |lease| {
            assert!(lease.is_valid());
            yield_now().await;
            format!("{name} of term {}", lease.term())
        });
        assert_eq!(done.await.unwrap(), "job of term 1");
    });
}

/// The usual way to run it.
#[test]
fn work_may_be_spawned() {
    run(async {
        let (handle, _driver) = running();
        let steps = Arc::new(AtomicUsize::new(0));
        let (ours, counted) = (handle.clone(), steps.clone());
        let job = smol::spawn(async move {
            ours.run_while_master(async |_lease| {
                loop {
                    counted.fetch_add(1, Ordering::Relaxed);
                    yield_now().await;
                }
            })
            .await
        });
        while steps.load(Ordering::Relaxed) < 10 {
            yield_now().await;
        }
        handle.leave().await.unwrap();
        let ended: Result<(), Stopped> = job.await;
        assert_eq!(ended, Err(Stopped));
    });
}

/// A runtime with a blocked thread may not run the driver for a while. The lease ends all the same.
#[test]
fn work_ends_with_the_lease_while_the_driver_stands_still() {
    run(async {
        let (handle, mut driver) = single(Timing::local());
        let (ends, ended) = async_channel::bounded(1);
        let ours = handle.clone();
        let _work = smol::spawn(async move {
            ours.run_while_master(|_lease| {
                let end = OnDrop(|| _ = ends.try_send(()));
                async move {
                    pending::<()>().await;
                    drop(end);
                }
            })
            .await
        });
        while handle.lease().is_none() {
            assert!(poll_once(&mut driver).await.is_none());
        }
        // From here on nobody polls the driver.
        ended.recv().await.unwrap();
        assert!(handle.lease().is_none());
        assert_eq!(handle.status().phase, Phase::Master, "the driver has not noticed it");
    });
}

#[test]
fn leaving_ends_the_work_first_and_the_mastership_after_it() {
    run(async {
        let (handle, _driver) = running();
        let phase = Mutex::new(None);
        let work = async {
            let ended = handle.run_while_master(async |lease| {
                let note = OnDrop(|| *phase.lock().unwrap() = Some((handle.status().phase, lease.is_valid())));
                pending::<()>().await;
                drop(note);
            });
            assert_eq!(ended.await, Err(Stopped));
        };
        let leave = async {
            handle.wait_until_master().await.unwrap();
            yield_now().await;
            handle.leave().await.unwrap();
        };
        futures_lite::future::zip(work, leave).await;
        assert_eq!(*phase.lock().unwrap(), Some((Phase::Master, false)));
    });
}

/// The step is a part of the work.
#[test]
fn leaving_ends_the_work_behind_its_step() {
    run(async {
        let (handle, _driver) = running();
        let phase = Mutex::new(None);
        let (begins, begun) = async_channel::bounded(1);
        let (ends, end) = async_channel::bounded::<()>(1);
        let work = async {
            let ended = handle.run_while_master(async |lease| {
                let step = lease.guard(Duration::from_millis(1)).unwrap();
                begins.send(lease.clone()).await.unwrap();
                end.recv().await.unwrap();
                *phase.lock().unwrap() = Some((handle.status().phase, lease.is_valid()));
                drop(step);
                pending::<()>().await;
            });
            assert_eq!(ended.await, Err(Stopped));
        };
        let leave = async {
            let lease: Lease = begun.recv().await.unwrap();
            let end_step = async {
                lease.ended().await;
                ends.send(()).await.unwrap();
            };
            let (left, ()) = futures_lite::future::zip(handle.leave(), end_step).await;
            left.unwrap();
        };
        futures_lite::future::zip(work, leave).await;
        assert_eq!(*phase.lock().unwrap(), Some((Phase::Master, false)));
    });
}

#[test]
fn leaving_waits_for_a_guard() {
    run(async {
        let (handle, _driver) = running();
        let lease = handle.wait_until_master().await.unwrap();
        let guard = lease.guard(Duration::from_millis(1)).unwrap();
        assert_eq!(guard.term(), lease.term());
        let mut leave = Box::pin(handle.leave());
        assert!(poll_once(&mut leave).await.is_none());
        lease.ended().await;
        assert_eq!(handle.status().phase, Phase::Master, "the guard holds the mastership");
        let refused = lease.guard(Duration::ZERO).map(|_| ()).unwrap_err();
        assert_eq!(refused, LeaseTooShort { needed: Duration::ZERO, left: Duration::ZERO });
        drop(guard);
        leave.await.unwrap();
        assert_eq!(handle.status().phase, Phase::Stopped);
    });
}

/// The other nodes elect the next master then, whatever this one does.
#[test]
fn leaving_waits_for_a_guard_until_the_lease_ends() {
    run(async {
        let (handle, _driver) = running_with(Timing::local());
        let lease = handle.wait_until_master().await.unwrap();
        let guard = lease.guard(Duration::from_millis(1)).unwrap();
        handle.leave().await.unwrap();
        drop(guard);
    });
}

#[test]
fn a_step_that_the_lease_does_not_cover_is_refused() {
    run(async {
        let (handle, _driver) = running();
        let lease = handle.wait_until_master().await.unwrap();
        let hour = Duration::from_secs(3600);
        let refused = lease.guard(hour).map(|_| ()).unwrap_err();
        assert_eq!(refused.needed, hour);
        // The margin: a tenth of 99 % of 5 s.
        assert!(refused.left <= Duration::from_millis(4_455), "{refused}");
        assert!(lease.guard(lease.remaining() / 2).unwrap().is_valid());
    });
}

#[test]
fn a_resigned_master_works_again_in_a_newer_term() {
    run(async {
        let (handle, _driver) = running();
        let terms = Mutex::new(Vec::new());
        let work = handle.run_while_master(async |lease| {
            terms.lock().unwrap().push(lease.term());
            pending::<()>().await;
        });
        let resign = async {
            for runs in 1..=3 {
                while terms.lock().unwrap().len() < runs {
                    yield_now().await;
                }
                let term = *terms.lock().unwrap().last().unwrap();
                handle.resign().await.unwrap();
                assert!(handle.leadership().is_none_or(|leadership| leadership.term > term));
            }
            Ok(())
        };
        work.or(resign).await.unwrap();
        assert!(terms.lock().unwrap().is_sorted_by(|one, next| one < next));
    });
}

#[test]
fn a_watch_tells_each_change_of_the_mastership() {
    run(async {
        let (handle, _driver) = running();
        let mut watch = handle.watch_leadership();
        let LeadershipChange::Gained(first) = watch.changed().await.unwrap() else { panic!("gained first") };
        let LeadershipChange::Renewed(renewed) = watch.changed().await.unwrap() else { panic!("renewed") };
        assert_eq!(renewed.term(), first.term());
        handle.resign().await.unwrap();
        // It keeps no backlog, but it leaves out no loss.
        let lost = loop {
            match watch.next().await.expect("the node runs") {
                LeadershipChange::Renewed(_) => {}
                other => break other,
            }
        };
        assert!(
            matches!(&lost, LeadershipChange::Lost { lease, reason: LossReason::Resigned } if lease.term() == first.term()),
            "{lost:?}"
        );
        assert_eq!(lost.to_string(), "lost the lease of term 1: it has resigned");
        assert_eq!(first.to_string(), "lease of term 1, which has ended");
        let LeadershipChange::Gained(second) = watch.changed().await.unwrap() else { panic!("gained again") };
        assert!(second.term() > first.term() && !first.is_valid());
        handle.leave().await.unwrap();
        let mut rest = Vec::new();
        while let Some(change) = watch.next().await {
            rest.push(change);
        }
        assert!(matches!(rest.last(), Some(LeadershipChange::Lost { reason: LossReason::Resigned, .. })), "{rest:?}");
        assert!(watch.changed().await.is_err());
    });
}

#[test]
fn a_node_that_is_shut_down_loses_its_lease_at_once() {
    run(async {
        let (handle, _driver) = running();
        let mut watch = handle.watch_leadership();
        assert!(matches!(watch.changed().await, Ok(LeadershipChange::Gained(_))));
        let lease = handle.lease().unwrap();
        let guard = lease.guard(Duration::from_secs(1)).unwrap();
        let mut resign = Box::pin(handle.resign());
        assert!(poll_once(&mut resign).await.is_none());
        handle.shutdown().await;
        assert!(!lease.is_valid() && !guard.is_valid(), "its next run may be the master at once");
        assert_eq!(resign.await, Err(Stopped), "it has not resigned");
        let mut last = None;
        while let Ok(change) = watch.changed().await {
            last = Some(change);
        }
        assert!(matches!(last, Some(LeadershipChange::Lost { .. })), "{last:?}");
        assert!(matches!(handle.wait_until_master().await, Err(Stopped)));
    });
}
