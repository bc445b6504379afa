//! The task that asks one source again and again.

use std::{collections::BTreeSet, io, panic::AssertUnwindSafe, pin::pin, time::Duration};

use async_channel::Sender;
use formation_core::Address;
use futures_lite::future::FutureExt;

use super::AnyDiscovery;
use crate::{
    driver::Report,
    runtime::{Runtime, timeout},
    tasks::message,
};

/// How often a source is asked at the most, and at the least.
const REFRESH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// How long the wait may be after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// After this time a source counts as slow.
const SLOW: Duration = Duration::from_secs(10);

/// The answer of a source.
#[derive(Debug)]
pub(crate) enum Answer {
    Found(io::Result<BTreeSet<Address>>),
    /// It has been asked, and has not answered for a while.
    Slow,
}

/// Asks the source with this number until the task is cancelled.
pub(crate) async fn ask<R: Runtime, S>(number: usize, mut source: Box<dyn AnyDiscovery>, reports: Sender<Report<S>>) {
    loop {
        let (found, wait) = {
            let mut answering = pin!(answer(&mut *source));
            match timeout::<R, _>(SLOW, answering.as_mut()).await {
                Some(answered) => answered,
                None => {
                    if reports.send(Report::Discovered { number, answer: Answer::Slow }).await.is_err() {
                        return;
                    }
                    answering.await
                }
            }
        };
        if reports.send(Report::Discovered { number, answer: Answer::Found(found) }).await.is_err() {
            return;
        }
        R::sleep(wait).await;
    }
}

/// Asks the source once. Returns its answer, and the time until it is asked again. A source that panics has failed, and is asked again
/// like any other.
async fn answer(source: &mut dyn AnyDiscovery) -> (io::Result<BTreeSet<Address>>, Duration) {
    let asked = async {
        let found = source.find().await;
        let wait = wait(source.refresh(), found.is_err());
        (found, wait)
    };
    AssertUnwindSafe(asked).catch_unwind().await.unwrap_or_else(|panic| {
        let error = io::Error::other(format!("the source panicked: {}", message(&*panic)));
        (Err(error), RETRY)
    })
}

/// How long to wait until the source is asked again.
fn wait(refresh: Duration, has_failed: bool) -> Duration {
    let (least, most) = REFRESH;
    refresh.clamp(least, if has_failed { RETRY } else { most })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Discovery;

    /// It panics the first time, and then finds nothing.
    struct Panics(bool);

    impl Discovery for Panics {
        fn name(&self) -> String {
            "panics".to_owned()
        }

        async fn find(&mut self) -> io::Result<BTreeSet<Address>> {
            assert!(std::mem::replace(&mut self.0, true), "a bug");
            Ok(BTreeSet::new())
        }

        fn refresh(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn a_source_that_panics_is_asked_again() {
        let mut source = Panics(false);
        let (failed, wait) = smol::block_on(answer(&mut source));
        assert!(failed.unwrap_err().to_string().contains("panicked: a bug") && wait == RETRY);
        smol::block_on(answer(&mut source)).0.unwrap();
    }

    #[test]
    fn a_source_is_asked_neither_too_often_nor_too_rarely() {
        let seconds = Duration::from_secs;
        assert_eq!(wait(Duration::ZERO, false), seconds(1));
        assert_eq!(wait(seconds(30), false), seconds(30));
        assert_eq!(wait(Duration::MAX, false), seconds(3600));
        assert_eq!(wait(Duration::MAX, true), seconds(5));
        assert_eq!(wait(seconds(2), true), seconds(2));
    }
}
