//! A snapshot of a view, in pages (PROTOCOL.md, V2).

use alloc::vec::Vec;

use super::tracker::HEAD_ROOM;
use crate::{membership::view::MembersView, wire::frame::SharedFrame};

/// The frames of a snapshot. Each of them, with the room for a heartbeat beside it, is within the limit of one write.
pub(super) fn pages(view: &MembersView, limit: usize) -> Vec<SharedFrame> {
    let (mut pages, mut page, mut size) = (Vec::new(), Vec::new(), 0);
    for member in view.iter() {
        let more = member.wire_size();
        if size + more + HEAD_ROOM > limit {
            pages.push(core::mem::take(&mut page));
            size = 0;
        }
        size += more;
        page.push(member);
    }
    pages.push(page);
    let last = pages.len() - 1;
    let frame = |(index, members): (usize, Vec<_>)| {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        SharedFrame::of_page((view.id(), number, index == last), &members)
    };
    pages.into_iter().enumerate().map(frame).collect()
}
