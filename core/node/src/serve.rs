//! The node over HTTP, on a thread of its own, whatever the runtime of the node is.

use std::{
    io,
    net::TcpListener,
    thread::{JoinHandle, spawn},
};

use formation_host::ClusterHandle;
use formation_http::Settings;
use tokio::runtime::Builder;

/// Where a node is to be served, and what of it.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) address: String,
    pub(crate) settings: Settings,
}

/// A port that is taken already, and nothing is answered there yet.
pub(crate) struct Port(TcpListener, Settings);

impl Port {
    pub(crate) fn open(Http { address, settings }: Http) -> Result<Self, String> {
        let listener = TcpListener::bind(&address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| format!("cannot serve HTTP at {address}: {error}; is another program there?"))?;
        Ok(Self(listener, settings))
    }

    /// Answers until the node has stopped. The thread ends once the last answer is sent.
    pub(crate) fn serve(self, node: ClusterHandle) -> io::Result<JoinHandle<()>> {
        let Self(listener, settings) = self;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        Ok(spawn(move || {
            if let Err(error) = runtime.block_on(settings.serve(node, listener)) {
                tracing::warn!(target: "formation", %error, "the node is not served over HTTP any more");
            }
        }))
    }
}
