//! What is measured: each scene is prepared once, and then does the same work again and again.
//!
//! - [`frames`]: bytes to messages, without a node.
//! - [`follower`]: a member that is no master.
//! - [`master`]: a master and its members.
//! - [`recording`]: what a recorder adds to each input.

extern crate alloc;

#[path = "../../../core/src/wire/decoder.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a part of the core, which needs more of it")]
mod decoder;

#[path = "../../../core/host/src/recorder/file.rs"]
#[allow(dead_code, reason = "the other half is for reading")]
mod file;

pub mod follower;
pub mod frames;
pub mod master;
pub mod recording;

/// Where the decoder looks for what it names.
mod api {
    pub(crate) mod error {
        pub(crate) use formation_core::CloseReason;
    }
}

use formation_core::{Address, Incarnation, Member, Node, NodeId};

/// How long the names of members are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// `n00017` at `h00017:7000`.
    Short,
    /// An id of 36 characters, as a UUID has, at a host of 36 characters.
    Long,
}

impl Names {
    pub fn id(self, ix: usize) -> String {
        match self {
            Self::Short => format!("n{ix:05}"),
            Self::Long => format!("6f1c2a34-9b7d-4e21-8f05-{:012x}", ix * 0x9e37_79b1),
        }
    }

    pub fn address(self, ix: usize) -> String {
        match self {
            Self::Short => format!("h{ix:05}:7000"),
            Self::Long => format!("node-{ix:05}.orders.eu-west-1.example:7000"),
        }
    }

    pub fn member(self, ix: usize) -> Member {
        let node = Node { id: id(&self.id(ix)), incarnation: Incarnation(1_700_000_000_000_000 + ix as u64) };
        Member::new(node, address(&self.address(ix)))
    }

    pub fn members(self, count: usize) -> Vec<Member> {
        (0..count).map(|ix| self.member(ix)).collect()
    }
}

fn id(text: &str) -> NodeId {
    NodeId::new(text).expect("a valid id")
}

fn address(text: &str) -> Address {
    Address::new(text).expect("a valid address")
}
