//! What a voter has to know of the others before they elect a master: an extension of `Hello`.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use super::message::{Extension, Hello};

/// With which times a node stands and votes, and whether it does (PROTOCOL.md, "Extensions").
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Voting {
    /// The lease that the node asks for as a candidate.
    pub lease: Duration,
    /// The longest lease that the node confirms (E5).
    pub bootstrap_wait: Duration,
    /// The longest lease of a promise that may still run: one that the node has given, or that an earlier run of it may have given (E1).
    pub longest_lease: Duration,
    /// Whether the node may form a cluster, or has joined one before (D7).
    pub may_form: bool,
    /// A voter with a higher priority comes before the others in the order of turns (E2). It is a part of its own of the extensions.
    pub priority: u8,
    /// Whether the node stores its votes (E10). It is a part of its own of the extensions.
    pub is_durable: bool,
}

impl Voting {
    /// How a node with this configuration votes that has promised nothing.
    #[cfg(test)]
    pub(crate) fn of(config: &crate::Config) -> Self {
        let (lease, bootstrap_wait) = (config.timing().lease, config.timing().bootstrap_wait);
        let may_form = config.bootstrap() == crate::Bootstrap::Form;
        Self { lease, bootstrap_wait, longest_lease: lease, may_form, priority: config.priority(), is_durable: false }
    }

    /// Appends the extensions.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        // A serialization into memory cannot fail. Without the extension, the receiver assumes its own times.
        let Self { lease, bootstrap_wait, longest_lease, may_form, priority: _, is_durable: _ } = self;
        let body: Vec<u8> =
            postcard::to_allocvec(&(lease, bootstrap_wait, longest_lease, may_form)).unwrap_or_default();
        if let Ok(length) = u8::try_from(body.len()) {
            out.put_u8(Extension::Voting as u8);
            out.put_u8(length);
            out.put_slice(&body);
        }
        if self.priority > 0 {
            out.put_slice(&[Extension::Priority as u8, 1, self.priority]);
        }
        if self.is_durable {
            out.put_slice(&[Extension::Durable as u8, 0]);
        }
    }
}

impl Hello {
    /// How the sender votes. `None` if it does not say so in a form that this node knows.
    pub(crate) fn voting(&self) -> Option<Voting> {
        let (lease, bootstrap_wait, longest_lease, may_form) =
            postcard::from_bytes(self.extension(Extension::Voting)?).ok()?;
        let priority = self.extension(Extension::Priority).and_then(|body| body.first().copied()).unwrap_or_default();
        let is_durable = self.extension(Extension::Durable).is_some();
        Some(Voting { lease, bootstrap_wait, longest_lease, may_form, priority, is_durable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Incarnation, Timestamp, env::Env, id::Node};

    fn hello(priority: u8) -> Hello {
        let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).priority(priority).build().unwrap();
        let me = Node { id: config.id().clone(), incarnation: Incarnation(1) };
        let env = Env::new(config, me, Timestamp::ZERO);
        env.own_hello([0; 16], &Voting::of(&env.config))
    }

    #[test]
    fn only_a_priority_other_than_0_is_sent() {
        for priority in [0, 1, 255] {
            let hello = hello(priority);
            assert_eq!(hello.voting().unwrap().priority, priority);
            let sent = hello.extension(Extension::Priority);
            assert_eq!(sent, (priority > 0).then_some(&[priority][..]));
        }
    }

    #[test]
    fn a_priority_that_is_cut_off_is_0() {
        let whole = hello(7);
        for missing in [1, 2, 3] {
            let extensions = whole.extensions.slice(..whole.extensions.len() - missing);
            let voting = Hello { extensions, ..whole.clone() }.voting().unwrap();
            assert_eq!(voting, hello(0).voting().unwrap(), "{missing} bytes are missing");
        }
        let mut extensions = BytesMut::from(&hello(0).extensions[..]);
        extensions.put_slice(&[Extension::Priority as u8, 0]);
        let empty = Hello { extensions: extensions.freeze(), ..whole };
        assert_eq!(empty.voting().unwrap().priority, 0);
    }
}
