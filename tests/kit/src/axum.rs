//! `axum` serves a listener of the network.

use std::{future::pending, io};

use ::axum::serve::Listener;

use crate::{TestListener, TestStream};

/// `axum::serve(node.listen(80)?, router)` serves a port of a node. The address of a client is the id of its node.
impl Listener for TestListener {
    type Io = TestStream;
    type Addr = String;

    async fn accept(&mut self) -> (TestStream, String) {
        match TestListener::accept(self).await {
            Ok(stream) => {
                let peer = stream.peer().to_owned();
                (stream, peer)
            }
            // The process was ended.
            Err(_) => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(self.address().to_string())
    }
}
