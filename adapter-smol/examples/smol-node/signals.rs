//! What the process is asked for.

use std::{future::pending, io};

use futures_lite::StreamExt;

use crate::run::Asked;

pub(crate) struct Signals(async_signal::Signals);

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        use async_signal::Signal::{Hup, Int, Term};
        async_signal::Signals::new([Int, Term, Hup]).map(Self)
    }

    pub(crate) async fn next(&mut self) -> Asked {
        match self.0.next().await {
            Some(Ok(async_signal::Signal::Hup)) => Asked::Renew,
            Some(Ok(_)) => Asked::Leave,
            // There will be no more.
            Some(Err(_)) | None => pending().await,
        }
    }
}
