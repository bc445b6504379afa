//! The task that asks one source again and again.

use std::{collections::BTreeSet, io, pin::pin, time::Duration};

use async_channel::Sender;
use formation_core::Address;

use super::AnyDiscovery;
use crate::{
    driver::Report,
    runtime::{Runtime, timeout},
};

/// How often a source is asked at the most, and at the least.
const REFRESH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// How long the wait may be after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// After this time a source counts as slow.
const SLOW: Duration = Duration::from_secs(10);

/// What a source has said.
#[derive(Debug)]
pub(crate) enum Answer {
    Found(io::Result<BTreeSet<Address>>),
    /// It has been asked, and has not answered for a while.
    Slow,
}

/// Asks the source with this number until the task is cancelled.
pub(crate) async fn ask<R: Runtime, S>(number: usize, mut source: Box<dyn AnyDiscovery>, reports: Sender<Report<S>>) {
    loop {
        let found = {
            let mut finding = pin!(source.find());
            match timeout::<R, _>(SLOW, finding.as_mut()).await {
                Some(found) => found,
                None => {
                    if reports.send(Report::Discovered { number, answer: Answer::Slow }).await.is_err() {
                        return;
                    }
                    finding.await
                }
            }
        };
        let wait = wait(source.refresh(), found.is_err());
        if reports.send(Report::Discovered { number, answer: Answer::Found(found) }).await.is_err() {
            return;
        }
        R::sleep(wait).await;
    }
}

/// How long to wait until the source is asked again.
fn wait(refresh: Duration, has_failed: bool) -> Duration {
    let (least, most) = REFRESH;
    refresh.clamp(least, if has_failed { RETRY } else { most })
}

#[cfg(test)]
mod tests {
    use super::*;

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
