//! What somebody may see of a network, and object to.

use std::fmt;

use bytes::Bytes;
use formation_core::{Command, Input, Output, Start, Timestamp};

use super::{NodeIx, RunId, WireId, World};

/// Sees every step of a [`Net`](super::Net). A step that it objects to ends the run. It draws no random numbers and changes
/// nothing, so a run is the same whoever watches it.
pub trait Watch {
    /// Something worth a count has happened.
    fn counts(&mut self, _what: &'static str) {}

    /// The network does something to a node.
    fn notes(&mut self, _world: &World, _ix: NodeIx, _note: fmt::Arguments<'_>) {}

    /// A node is about to start with these values, at this time of its clock. `last` is its run before this one.
    fn starts(&mut self, _world: &World, _ix: NodeIx, _last: RunId, _start: &Start, _at: Timestamp) {}

    /// A node has just been paused.
    fn pauses(&mut self, _world: &World, _ix: NodeIx) {}

    /// A node is about to receive an input, at this time of its clock.
    fn receives(&mut self, _world: &World, _ix: NodeIx, _at: Timestamp, _input: &Input) {}

    /// A node has given an output, which has no effect yet.
    ///
    /// # Errors
    /// Returns why a node must not do this.
    fn gives(&mut self, _world: &World, _ix: NodeIx, _output: &Output) -> Result<(), String> {
        Ok(())
    }

    /// A node has handled an input, and all outputs have had their effects.
    ///
    /// # Errors
    /// Returns what is wrong with its state.
    fn settles(&mut self, _world: &World, _ix: NodeIx) -> Result<(), String> {
        Ok(())
    }

    /// The embedder of a node has given this command.
    fn commanded(&mut self, _world: &World, _ix: NodeIx, _command: &Command) {}

    /// The end `from` of a connection sends these bytes.
    fn carries(&mut self, _wire: WireId, _from: usize, _bytes: &Bytes) {}
}

impl Watch for () {}
