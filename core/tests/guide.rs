//! The operators' page of the guide explains every event and every reason.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

const PAGE: &str = include_str!("../src/guide/operating.rs");

/// The variants of an enum, read from the source that declares it.
fn variants<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
    let (_, body) = source.split_once(&format!("pub enum {name} {{\n")).unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let named = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    named.map(|line| line.split(|end: char| !end.is_ascii_alphanumeric()).next().unwrap()).collect()
}

#[test]
fn every_event_and_reason_is_explained_in_its_table() {
    let (event, error) = (include_str!("../src/api/event.rs"), include_str!("../src/api/error.rs"));
    for (source, name) in [
        (event, "Event"),
        (event, "LossReason"),
        (event, "StopReason"),
        (error, "RejectReason"),
        (error, "CloseReason"),
        (error, "TlsProblem"),
    ] {
        let head = format!("//! | [`{name}`](crate::{name}) | what it means | what to do |\n");
        let (_, table) = PAGE.split_once(&head).unwrap_or_else(|| panic!("no table for {name}"));
        let table = table.split("//!\n").next().unwrap();
        let first: Vec<&str> = table.lines().filter_map(|line| line.split(" | ").nth(1)).collect();
        let variants = variants(source, name);
        assert!(variants.len() > 1, "{name} has {variants:?}");
        for variant in variants {
            let cell = format!("`{variant}`");
            assert!(first.iter().any(|cells| cells.contains(&cell)), "{name}::{variant} is not in the table");
        }
    }
}
