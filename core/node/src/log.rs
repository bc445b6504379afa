//! The log on the standard error.

use std::{env, io};

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::layer,
    layer::SubscriberExt,
    registry,
    util::SubscriberInitExt,
};

/// Starts to log on the standard error. `RUST_LOG` selects what: a level, or pairs as `formation=debug`, with commas
/// between them. Without it only errors are logged.
///
/// # Panics
/// When the process logs already.
pub fn log() {
    let errors = Targets::new().with_default(LevelFilter::ERROR);
    let filter = match env::var("RUST_LOG").unwrap_or_default() {
        selected if selected.is_empty() => errors,
        selected => selected.parse().unwrap_or_else(|error| {
            eprintln!("RUST_LOG={selected} is ignored: {error}");
            errors
        }),
    };
    registry().with(layer().with_writer(io::stderr)).with(filter).init();
}
