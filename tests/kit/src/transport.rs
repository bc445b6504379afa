//! The network, as the transport of a node.

use std::{io, time::Duration};

use formation_core::Address;
use formation_host::{Opening, Transport};

use crate::wires::{HostRun, TestListener, TestStream, Wires};

/// How a node reaches the others.
#[doc(hidden)]
pub struct Wire {
    run: HostRun,
    wires: Wires,
    listener: TestListener,
}

impl Wire {
    /// # Errors
    /// Something listens at the address.
    pub(crate) fn new(run: HostRun, wires: Wires, address: &Address) -> io::Result<Self> {
        let listener = wires.listen(&run, address.clone())?;
        Ok(Self { run, wires, listener })
    }
}

impl Transport for Wire {
    type Stream = TestStream;

    async fn accept(&self) -> io::Result<Opening<TestStream>> {
        let stream = self.listener.accept().await?;
        let peer = stream.peer().to_owned();
        Ok(Opening::ready(stream).with_peer(peer))
    }

    async fn connect(&self, address: &Address, _: Duration) -> io::Result<Opening<TestStream>> {
        let stream = self.wires.connect(&self.run, address).await?;
        Ok(Opening::ready(stream).with_peer(address))
    }
}
