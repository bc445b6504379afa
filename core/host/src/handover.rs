//! A node that resigns or leaves waits for the work that depends on its lease.

use std::time::Duration;

use async_channel::Sender;
use formation_core::{Command, Misuse, Timestamp};

use crate::shared::Shared;

/// The commands that end the mastership, while they wait for the work of the application.
#[derive(Debug)]
pub(crate) struct Handover {
    /// One of them is enough to leave.
    leaves: bool,
    /// Where to report the result.
    replies: Vec<Sender<Result<(), Misuse>>>,
    margin: Duration,
    /// Something of the application depended on the lease when this was looked at last.
    is_busy: bool,
    /// The end of the margin. Code that looked at the lease before it ended for the application has had its effect by then.
    not_before: Timestamp,
    /// The end of the lease. By then the other nodes may have the next master.
    until: Timestamp,
}

impl Handover {
    /// Whether the command ends the mastership.
    pub(crate) fn is_begun_by(command: &Command) -> bool {
        matches!(command, Command::Leave | Command::Resign)
    }

    /// From now on the application has no lease.
    pub(crate) fn begin(shared: &Shared, now: Timestamp) -> Self {
        let (until, margin) = shared.begin_handover().unwrap_or((now, Duration::ZERO));
        let not_before = until.min(now + margin);
        Self { leaves: false, replies: Vec::new(), margin, is_busy: false, not_before, until }
    }

    pub(crate) fn add(&mut self, command: &Command, reply: Sender<Result<(), Misuse>>) {
        self.leaves |= *command == Command::Leave;
        self.replies.push(reply);
    }

    /// The last poll of the work, behind its last guard, may have begun something, too: it gets a margin as well.
    pub(crate) fn is_ready(&mut self, shared: &Shared, now: Timestamp) -> bool {
        let was_busy = std::mem::replace(&mut self.is_busy, !shared.may_hand_over(now, self.until));
        if was_busy && !self.is_busy {
            self.not_before = self.until.min(now + self.margin);
        }
        now >= self.not_before && !self.is_busy
    }

    /// When to look again, if nothing happens before.
    pub(crate) fn looks_again_at(&self, now: Timestamp) -> Timestamp {
        if now < self.not_before { self.not_before } else { self.until }
    }

    /// The command for the core.
    pub(crate) fn command(&self) -> Command {
        if self.leaves { Command::Leave } else { Command::Resign }
    }

    /// The core has done it.
    pub(crate) fn end(self, shared: &Shared, result: &Result<(), Misuse>) {
        if !self.leaves {
            shared.end_handover();
        }
        for reply in self.replies {
            // It fails if the caller has stopped waiting.
            let _ = reply.try_send(result.clone());
        }
    }
}
