//! How many messages a peer may send in a time (PROTOCOL.md, section 8).

use crate::{env::Env, time::Timestamp};

/// The messages of one connection: so many at once, and as many again in each heartbeat interval.
///
/// Everything is counted in microseconds × messages, so nothing is rounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Budget {
    spent: u128,
    at: Timestamp,
}

impl Budget {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { spent: 0, at: now }
    }

    /// One more message. Returns false if it is one too many. Then it does not count.
    pub(crate) fn spend(&mut self, env: &Env, limit: usize) -> bool {
        let (limit, interval) = (limit as u128, env.timing().heartbeat_interval.as_micros());
        let regained = env.now.since(self.at).as_micros() * limit;
        self.at = env.now;
        self.spent = self.spent.saturating_sub(regained);
        let is_allowed = self.spent + interval <= limit * interval;
        self.spent += if is_allowed { interval } else { 0 };
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::{
        api::config::{Config, Limits},
        id::{Incarnation, Node},
    };

    fn env() -> Env {
        let limits = Limits { messages: 64, ..Limits::default() };
        let config = Config::single("test", "a", "a:1").limits(limits).build().unwrap();
        let me = Node { id: config.id().clone(), incarnation: Incarnation(1) };
        Env::new(config, me, Timestamp::ZERO)
    }

    #[test]
    fn g7_a_budget_of_messages_refills_with_time() {
        let mut env = env();
        let mut budget = Budget::new(env.now);
        let mut accepted = |env: &Env| (0..200).take_while(|_| budget.spend(env, env.limits().messages)).count();
        assert_eq!(accepted(&env), 64);
        env.now = env.now + env.timing().heartbeat_interval / 4;
        assert_eq!(accepted(&env), 16);
        env.now = env.now + Duration::from_secs(60);
        assert_eq!(accepted(&env), 64, "a pause saves up no more than the limit");
    }
}
