//! A message that goes to many peers is encoded once.

use bytes::{Bytes, BytesMut};

use crate::wire::message::Message;

/// A message as a frame, for links of any version. Its bytes can be had for a link's version only, so no link is ever
/// given what its peer cannot read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SharedFrame {
    since: u16,
    frame: Bytes,
}

impl SharedFrame {
    pub(crate) fn new(message: &Message) -> Self {
        let mut frame = BytesMut::new();
        message.encode(&mut frame);
        Self { since: message.since(), frame: frame.freeze() }
    }

    /// The frame for a link of this version; empty when the message is newer.
    pub(crate) fn in_version(&self, version: u16) -> Bytes {
        if self.since <= version { self.frame.clone() } else { Bytes::new() }
    }
}
