//! Panics that become failures.

use std::{any::Any, cell::Cell, panic, sync::Once};

thread_local! {
    /// Set while this thread turns panics into failures.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs `f`, and returns the message of its panic if it panics. Nothing is printed: a search for the smallest failure panics many times.
pub(super) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    // For the whole process, once, and without an effect on other threads.
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = panic::catch_unwind(panic::AssertUnwindSafe(f));
    QUIET.set(before);
    result.map_err(message)
}

fn message(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_else(|| "a panic".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_returned_with_its_message() {
        assert_eq!(caught(|| 3), Ok(3));
        assert_eq!(caught(|| -> u8 { panic!("seen") }), Err("seen".into()));
        assert_eq!(caught(|| -> u8 { panic!("{} times", 2) }), Err("2 times".into()));
    }
}
