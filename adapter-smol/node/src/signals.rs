//! The signals of the process.

use std::{future::pending, io};

use futures_lite::StreamExt;

use formation_node::Request;

pub(crate) struct Signals(async_signal::Signals);

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        use async_signal::Signal::{Hup, Int, Term};
        async_signal::Signals::new([Int, Term, Hup]).map(Self)
    }

    pub(crate) async fn next(&mut self) -> Request {
        match self.0.next().await {
            Some(Ok(async_signal::Signal::Hup)) => Request::Reload,
            Some(Ok(_)) => Request::Leave,
            // There will be no more.
            Some(Err(_)) | None => pending().await,
        }
    }
}
