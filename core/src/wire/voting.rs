//! What a voter has to know of the others before they elect a master: an extension of `Hello`.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use super::message::{Extension, Hello};
use crate::api::config::{Bootstrap, Config};

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
}

impl Voting {
    /// How a node with this configuration votes that has promised nothing.
    pub(crate) fn of(config: &Config) -> Self {
        let (lease, bootstrap_wait) = (config.timing().lease, config.timing().bootstrap_wait);
        let may_form = config.bootstrap() == Bootstrap::Form;
        Self { lease, bootstrap_wait, longest_lease: lease, may_form }
    }

    /// Appends the extension.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        // A serialization into memory cannot fail. Without the extension, the receiver assumes its own times.
        let body: Vec<u8> = postcard::to_allocvec(self).unwrap_or_default();
        if let Ok(length) = u8::try_from(body.len()) {
            out.put_u8(Extension::Voting as u8);
            out.put_u8(length);
            out.put_slice(&body);
        }
    }
}

impl Hello {
    /// How the sender votes. `None` if it does not say so in a form that this node knows.
    pub(crate) fn voting(&self) -> Option<Voting> {
        postcard::from_bytes(self.extension(Extension::Voting)?).ok()
    }
}
