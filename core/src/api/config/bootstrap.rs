//! Whether a node may form a cluster (PROTOCOL.md, D7).

use core::fmt;

use serde::{Deserialize, Serialize};

/// Whether a node may form a cluster, or only join one (PROTOCOL.md, D7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Bootstrap {
    /// A quorum of voters may form a cluster.
    #[default]
    Form,
    /// A voter neither becomes a candidate nor votes before it has once joined a master, in this run or, according to its
    /// durable state, in an earlier one.
    JoinOnly,
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Form => "may form a cluster",
            Self::JoinOnly => "only joins a cluster",
        })
    }
}
