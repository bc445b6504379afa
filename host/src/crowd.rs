//! When those that have connected are heard out before more are accepted.

use formation_core::Limits;

/// Counts accepted connections. Of many that come at once, the first would be closed as the oldest that have said nothing
/// ([`pending_links`](Limits::pending_links)) though nobody had listened, if all were accepted before any is read. So, each time a
/// quarter of that limit has been accepted, an adapter lets their readers run and takes in what they have read.
#[derive(Clone, Debug)]
pub struct Crowd {
    size: usize,
    unheard: usize,
}

impl Crowd {
    /// Under these limits.
    pub fn new(limits: &Limits) -> Self {
        Self { size: (limits.pending_links / 4).max(1), unheard: 0 }
    }

    /// One more has been accepted. Whether it is time to hear them out.
    pub fn grows(&mut self) -> bool {
        self.unheard = (self.unheard + 1) % self.size;
        self.unheard == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_those_that_may_wait_are_accepted_before_they_are_heard_out() {
        for (pending_links, size) in [(64, 16), (7, 1), (1, 1)] {
            let mut crowd = Crowd::new(&Limits { pending_links, ..Limits::default() });
            let heard: Vec<usize> = (1..=32).filter(|_| crowd.grows()).collect();
            let expected: Vec<usize> = (1..=32).filter(|number| number % size == 0).collect();
            assert_eq!(heard, expected, "{pending_links}");
        }
    }
}
