//! Which members are to be judged now, and when the next one is.

use alloc::vec::Vec;

use super::{MemberKey, MembersView, Timestamp, Tracker};

impl Tracker {
    /// The members whose deadlines have come, the earliest first, and a time before which no other one's comes.
    pub(crate) fn due(&self, view: &MembersView, now: Timestamp) -> (Vec<MemberKey>, Option<Timestamp>) {
        let (mut due, mut next) = (Vec::new(), None);
        for (id, tracked) in &self.tracked {
            // A member is down no earlier than it is suspect. Only for a few does the view have to tell which of them is due.
            let suspect_at = self.suspect_at(tracked);
            let at = if suspect_at <= now { self.deadline(view, id) } else { Some(suspect_at) };
            match at {
                Some(at) if at <= now => due.push((at, tracked.suspect_at, tracked.key)),
                Some(at) => next = Some(next.map_or(at, |next: Timestamp| next.min(at))),
                None => {}
            }
        }
        due.sort_unstable();
        (due.into_iter().map(|(_, _, key)| key).collect(), next)
    }
}
