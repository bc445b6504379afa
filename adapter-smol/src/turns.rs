//! Who goes first when several wait for the driver.

use std::task::Poll;

/// Where the driver's inputs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Timers,
    Requests,
    Signals,
    Accepts,
}

/// Whoever had its turn goes behind the others. So nobody keeps another waiting, not even a clock that finds a deadline due
/// whenever it is read.
#[derive(Debug)]
pub(crate) struct Turns([Source; 4]);

impl Turns {
    pub(crate) fn new() -> Self {
        Self([Source::Timers, Source::Requests, Source::Signals, Source::Accepts])
    }

    /// Takes from the first source that has something. When none has, all of them were asked.
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

    /// Who has the next turns while these sources always have something.
    fn served(waiting: &[Source], turns: usize) -> Vec<Source> {
        let mut order = Turns::new();
        let ask = |source| if waiting.contains(&source) { Poll::Ready(source) } else { Poll::Pending };
        (0..turns)
            .map(|_| match order.take(ask) {
                Poll::Ready(source) => source,
                Poll::Pending => panic!("somebody waits"),
            })
            .collect()
    }

    #[test]
    fn a_deadline_that_is_always_due_and_a_stream_of_signals_take_turns() {
        use Source::{Signals, Timers};
        assert_eq!(served(&[Timers, Signals], 6), [Timers, Signals, Timers, Signals, Timers, Signals]);
    }

    #[test]
    fn of_three_that_always_wait_each_has_every_third_turn() {
        use Source::{Requests, Signals, Timers};
        assert_eq!(served(&[Timers, Requests, Signals], 6), [Timers, Requests, Signals, Timers, Requests, Signals]);
    }

    #[test]
    fn who_waits_alone_has_every_turn_and_when_nobody_waits_all_are_asked() {
        assert_eq!(served(&[Source::Signals], 3), [Source::Signals; 3]);
        let mut asked = Vec::new();
        let taken = Turns::new().take(|source| {
            asked.push(source);
            Poll::<()>::Pending
        });
        assert!(taken.is_pending());
        assert_eq!(asked, [Source::Timers, Source::Requests, Source::Signals, Source::Accepts]);
    }
}
