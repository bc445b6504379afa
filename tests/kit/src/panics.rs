//! Panics that become failures.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt, panic,
    sync::Once,
};

/// What becomes of a panic on a thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It is printed.
    Plain,
    /// It is printed, and the first one is kept.
    Watched,
    /// It is not printed, and the last one is kept.
    Caught,
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Plain) };
    static SEEN: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// A panic of this thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panic {
    pub(crate) message: String,
    /// `file:line`
    pub(crate) place: String,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a panic at {}: {}", self.place, self.message)
    }
}

/// The mode before, which comes back when this is dropped.
struct Before {
    mode: Mode,
    seen: Option<Panic>,
}

impl Drop for Before {
    fn drop(&mut self) {
        MODE.set(self.mode);
        SEEN.replace(self.seen.take());
    }
}

fn enter(mode: Mode) -> Before {
    // For the whole process, once, and without an effect on other threads.
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let mode = MODE.get();
            if mode != Mode::Plain {
                keep(mode, info);
            }
            if mode != Mode::Caught {
                before(info);
            }
        }));
    });
    Before { mode: MODE.replace(mode), seen: SEEN.take() }
}

fn keep(mode: Mode, info: &panic::PanicHookInfo<'_>) {
    let place = info.location().map_or_else(unknown, |place| format!("{}:{}", place.file(), place.line()));
    let panic = Panic { message: message(info.payload()), place };
    SEEN.with_borrow_mut(|seen| {
        if mode == Mode::Caught || seen.is_none() {
            *seen = Some(panic);
        }
    });
}

/// Runs `f`, and returns its panic if it panics. Nothing is printed: a search for the smallest failure panics many times.
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, Panic> {
    let before = enter(Mode::Caught);
    let result = panic::catch_unwind(panic::AssertUnwindSafe(f));
    let place = SEEN.take().map_or_else(unknown, |panic| panic.place);
    drop(before);
    result.map_err(|payload| Panic { message: message(&*payload), place })
}

/// Runs `f`, and returns also the first panic on this thread that somebody has caught meanwhile, such as a runtime in a task.
pub(crate) fn watched<T>(f: impl FnOnce() -> T) -> (T, Option<Panic>) {
    let _before = enter(Mode::Watched);
    let done = f();
    (done, SEEN.take())
}

fn unknown() -> String {
    "an unknown place".into()
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(line: u32, message: &str) -> Panic {
        Panic { message: message.into(), place: format!("{}:{line}", file!()) }
    }

    #[test]
    fn a_panic_is_returned_with_its_message_and_place() {
        assert_eq!(caught(|| 3), Ok(3));
        assert_eq!(caught(|| -> u8 { panic!("seen") }), Err(here(line!(), "seen")));
        assert_eq!(caught(|| -> u8 { panic!("{} times", 2) }), Err(here(line!(), "2 times")));
    }

    #[test]
    fn the_first_caught_panic_is_watched() {
        assert_eq!(watched(|| 3), (3, None));
        let (line, done) = watched(|| {
            for text in ["first", "second"] {
                // Printed, as a runtime does it.
                let _ = panic::catch_unwind(|| panic!("{text}"));
            }
            // A simulation keeps its own panics.
            let _ = caught(|| panic!("inside"));
            line!() - 4
        });
        assert_eq!(done, Some(here(line, "first")));
        assert_eq!(watched(|| 3), (3, None), "it is not kept");
    }
}
