//! The order in which the driver takes from its sources.

use std::task::Poll;

/// A source of the driver's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Timers,
    Requests,
    Reports,
    Accepts,
}

/// The sources in the order in which they are asked. A source goes to the end of the line when something was taken from it.
/// So no source starves another, not even timers on a machine that is too slow for them.
#[derive(Debug)]
pub(crate) struct Turns([Source; 4]);

impl Turns {
    pub(crate) fn new() -> Self {
        Self([Source::Timers, Source::Requests, Source::Reports, Source::Accepts])
    }

    /// Takes from the first source that has something. If none has, every source was asked.
    pub(crate) fn take<T>(&mut self, mut ask: impl FnMut(Source) -> Poll<T>) -> Poll<T> {
        for at in 0..self.0.len() {
            if let Poll::Ready(taken) = ask(self.0[at]) {
                self.0[at..].rotate_left(1);
                return Poll::Ready(taken);
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next turns while these sources always have something.
    fn served(waiting: &[Source], turns: usize) -> Vec<Source> {
        let mut order = Turns::new();
        let ask = |source| if waiting.contains(&source) { Poll::Ready(source) } else { Poll::Pending };
        (0..turns)
            .map(|_| match order.take(ask) {
                Poll::Ready(source) => source,
                Poll::Pending => panic!("a source has something"),
            })
            .collect()
    }

    #[test]
    fn timers_that_are_always_due_take_turns_with_reports() {
        use Source::{Reports, Timers};
        assert_eq!(served(&[Timers, Reports], 6), [Timers, Reports, Timers, Reports, Timers, Reports]);
    }

    #[test]
    fn each_of_three_sources_has_every_third_turn() {
        use Source::{Reports, Requests, Timers};
        assert_eq!(served(&[Timers, Requests, Reports], 6), [Timers, Requests, Reports, Timers, Requests, Reports]);
    }

    #[test]
    fn a_single_source_has_every_turn_and_idle_ones_are_all_asked() {
        assert_eq!(served(&[Source::Reports], 3), [Source::Reports; 3]);
        let mut asked = Vec::new();
        let taken = Turns::new().take(|source| {
            asked.push(source);
            Poll::<()>::Pending
        });
        assert!(taken.is_pending());
        assert_eq!(asked, [Source::Timers, Source::Requests, Source::Reports, Source::Accepts]);
    }
}
