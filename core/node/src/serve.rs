//! The node over HTTP, on a thread of its own, whatever the runtime of the node is.

use std::{
    io,
    net::TcpListener,
    thread::{JoinHandle, spawn},
};

use formation_host::ClusterHandle;
use tokio::runtime::Builder;

use crate::run::Routes;

/// A port that is taken already, and nothing is answered there yet.
pub(crate) struct Port(TcpListener);

impl Port {
    pub(crate) fn open(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Answers until the node has stopped. The thread ends once the last answer is sent.
    pub(crate) fn serve(self, node: ClusterHandle, routes: Routes) -> io::Result<JoinHandle<()>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(self.0)?
        };
        let router = routes(node.clone());
        let stopped = async move {
            node.stopped().await;
        };
        Ok(spawn(move || {
            let served = runtime.block_on(axum::serve(listener, router).with_graceful_shutdown(stopped).into_future());
            if let Err(error) = served {
                tracing::warn!(target: "formation", %error, "the node is not served over HTTP any more");
            }
        }))
    }
}
