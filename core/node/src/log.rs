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
/// between them. Without it, warnings are logged. A program prints a sentence for each event, so the lines for events are not.
///
/// # Panics
/// When the process logs already.
pub fn log() {
    let filter = match env::var("RUST_LOG").unwrap_or_default() {
        selected if selected.is_empty() => warnings(),
        selected => selected.parse().unwrap_or_else(|error| {
            eprintln!("RUST_LOG={selected} is ignored: {error}");
            warnings()
        }),
    };
    registry().with(layer().with_writer(io::stderr)).with(filter).init();
}

fn warnings() -> Targets {
    Targets::new().with_default(LevelFilter::WARN).with_target("formation::event", LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::Targets;

    use super::*;

    #[test]
    fn warnings_are_logged_and_no_lines_for_events() {
        let logged = |filter: &Targets, target| {
            ["ERROR", "WARN", "INFO"].map(|level| filter.would_enable(target, &level.parse().unwrap()))
        };
        assert_eq!(logged(&warnings(), "formation"), [true, true, false]);
        assert_eq!(logged(&warnings(), "formation::event"), [false; 3]);
        let selected = "formation=info".parse().unwrap();
        assert_eq!(logged(&selected, "formation::event"), [true; 3], "the operator has asked for them");
    }
}
