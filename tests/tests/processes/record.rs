//! The lines that the node program prints with `--json`.

use formation_core::{Event, Node, Term};
use serde::Deserialize;

/// One line. All processes of this computer share one monotonic clock.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Record {
    #[serde(rename = "monotonic_us")]
    pub(crate) at: u64,
    pub(crate) node: Node,
    #[serde(flatten)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Started {},
    Event(Event),
    Skipped(u64),
    Lease(Option<Lease>),
    Leaving,
}

/// The node is the master of this term until this time.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Lease {
    pub(crate) term: Term,
    pub(crate) valid_until_us: u64,
}
