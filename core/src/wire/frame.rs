//! A message that goes to many peers is encoded once.

use bytes::{Bytes, BytesMut};

use crate::{
    id::ViewId,
    membership::view::Member,
    wire::{message::Message, versions::since_of_page},
};

/// A message as a frame, for links of any version. Its bytes can be had for a link's version only, so no link is ever
/// given what its peer cannot read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
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

    /// A page of these members: the id of the view, the number of the page, and whether it is the last one.
    pub(crate) fn of_page((view_id, index, last): (ViewId, u32, bool), members: &[&Member]) -> Self {
        let mut frame = BytesMut::new();
        Message::encode_page((view_id, index, last), members, &mut frame);
        Self { since: since_of_page(members), frame: frame.freeze() }
    }

    /// The frame for a link of this version; empty when the message is newer.
    pub(crate) fn in_version(&self, version: u16) -> Bytes {
        if self.since <= version { self.frame.clone() } else { Bytes::new() }
    }
}
