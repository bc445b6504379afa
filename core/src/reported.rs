//! Reporting the same thing again only after a while.

use core::time::Duration;

use crate::time::Timestamp;

/// How often the same is reported again.
const AGAIN: Duration = Duration::from_secs(60);

/// What was reported last, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Reported<T>(Option<(T, Timestamp)>);

impl<T> Default for Reported<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Clone> Reported<T> {
    /// Whether this is to be reported now: it is new, or was reported long ago. It counts as reported then.
    pub(crate) fn is_due(&mut self, now: Timestamp, what: &T, is_same: impl Fn(&T, &T) -> bool) -> bool {
        let is_known = |(known, at): &(T, Timestamp)| is_same(known, what) && now.since(*at) < AGAIN;
        let is_due = !self.0.as_ref().is_some_and(is_known);
        if is_due {
            self.0 = Some((what.clone(), now));
        }
        is_due
    }
}
