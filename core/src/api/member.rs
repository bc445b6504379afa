//! A member as a text, and one for the tests of what depends on it.

use core::fmt;

use bytes::Bytes;

use crate::{
    id::{Address, Node},
    membership::view::{Member, MemberState},
};

impl Member {
    /// An active member without metadata, for tests of what depends on a member. It can be changed.
    ///
    /// ```
    /// use formation_core::{Address, Incarnation, Member, MemberState, Node, NodeId};
    ///
    /// let node = Node { id: NodeId::new("node-a")?, incarnation: Incarnation(7) };
    /// let member = Member::new(node, Address::new("10.0.0.1:7000")?);
    /// let member = member.with_state(MemberState::Suspect).with_metadata("role=worker");
    /// assert_eq!(member.tags()?.get("role"), Some("worker"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(node: Node, address: Address) -> Self {
        Self { node, address, state: MemberState::Active, metadata: Bytes::new() }
    }

    /// The same member in this state.
    #[must_use = "it returns the changed member"]
    pub fn with_state(self, state: MemberState) -> Self {
        Self { state, ..self }
    }

    /// The same member with this metadata.
    #[must_use = "it returns the changed member"]
    pub fn with_metadata(self, metadata: impl Into<Bytes>) -> Self {
        Self { metadata: metadata.into(), ..self }
    }
}

/// `node-a#7 at 10.0.0.1:7000, active`
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}, {}", self.node, self.address, self.state)
    }
}
