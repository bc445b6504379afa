//! Tables of violations: each invariant fails when the fields that it is about are changed.

extern crate std;

use alloc::string::{String, ToString};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A valid value, a change to it, and the message of the invariant that the change violates.
pub(crate) type Violation<T> = (fn() -> T, fn(&mut T), &'static str);

/// Fails unless the check accepts each value as it is, and reports the named invariant once the value is changed.
#[track_caller]
pub(crate) fn expect_violations<'a, T: 'a>(violations: impl IntoIterator<Item = &'a Violation<T>>, check: impl Fn(&T)) {
    for (valid, change, invariant) in violations {
        let mut value = valid();
        check(&value);
        change(&mut value);
        let panic = catch_unwind(AssertUnwindSafe(|| check(&value))).expect_err(invariant);
        let literal = || panic.downcast_ref::<&str>().map(ToString::to_string);
        let message = panic.downcast_ref::<String>().cloned().or_else(literal).unwrap();
        assert!(message.contains(invariant), "{invariant:?} was expected, but this was noticed: {message}");
    }
}

/// Fails unless each assertion in the source, apart from its tests, has its message in the table.
#[track_caller]
pub(crate) fn expect_all_listed<'a, T: 'a>(
    source: &str,
    violations: impl IntoIterator<Item = &'a Violation<T>> + Clone,
) {
    let (code, _tests) = source.split_once("#[cfg(test)]\nmod tests").unwrap_or((source, ""));
    let statements = code.split(";\n").map(|statement| statement.lines().skip_while(|line| !is_assertion(line)));
    for mut statement in statements {
        let Some(message) = statement.find_map(|line| line.split('"').nth(1)) else { continue };
        let is_listed = violations.clone().into_iter().any(|(_, _, invariant)| says(invariant, message));
        assert!(is_listed, "{message:?} has no violation");
    }
}

fn is_assertion(line: &str) -> bool {
    line.trim_start().starts_with("assert")
}

/// Whether the text contains everything of the message that stands outside of `{}`.
fn says(text: &str, message: &str) -> bool {
    let constants = message.split('{').map(|part| part.split_once('}').map_or(part, |(_, constant)| constant));
    constants.map(|constant| constant.trim_end_matches(": ")).all(|constant| text.contains(constant))
}

#[test]
fn an_assertion_without_a_violation_is_noticed() {
    let source = "    assert!(a, \"the {} is {b}: {c:?}\");\n    assert_eq!(\n        a,\n        b,\n        \"another\"\n    );\n";
    let listed: [Violation<()>; 2] = [(|| (), |()| {}, "the sum is 1"), (|| (), |()| {}, "another")];
    expect_all_listed(source, &listed);
    for missing in [&listed[..1], &listed[1..]] {
        assert!(catch_unwind(|| expect_all_listed(source, missing)).is_err());
    }
}
