//! The operators' pages of the guide explain every event, every reason and every problem.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use formation_core::Problem;

const PAGE: &str = include_str!("../src/guide/operating.rs");

/// The variants of an enum, read from the source that declares it.
fn variants<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
    let (_, body) = source.split_once(&format!("pub enum {name} {{\n")).unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let named = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    named.map(|line| line.split(|end: char| !end.is_ascii_alphanumeric()).next().unwrap()).collect()
}

/// The texts of all variants of an error, read from the source that declares it. `…` stands for a value.
fn texts(source: &str, name: &str) -> Vec<String> {
    let (_, body) = source.split_once(&format!("pub enum {name} {{\n")).unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let texts = body.split("#[error(").skip(1).map(|rest| rest.split('"').nth(1).unwrap());
    texts.map(|text| text.replace("{0}", "…")).collect()
}

#[test]
fn every_problem_of_a_seed_is_explained_by_its_text() {
    let page = include_str!("../src/guide/no_master.rs");
    let head = "//! What was found at the address of a voter:\n//!\n//! | the line says | what to do |\n";
    let (_, table) = page.split_once(head).unwrap();
    let table = table.split("//!\n").next().unwrap();
    let first: Vec<&str> = table.lines().filter_map(|line| line.split(" | ").nth(1)).collect();
    let error = include_str!("../src/api/error.rs");
    let mut all = [texts(error, "DialProblem"), texts(error, "CloseReason")].concat();
    assert!(all.len() > 20, "{all:?}");
    // Each end of a connection that is not secured has a text of its own.
    all.retain(|text| text != "…");
    all.extend(["this node does not trust the peer: …", "the peer does not trust this node: …"].map(str::to_owned));
    all.extend([Problem::Ended, Problem::AnotherNode].map(|problem| problem.to_string()));
    all.push("not reached yet".to_owned());
    for text in all {
        assert!(first.iter().any(|cells| cells.contains(&format!("`{text}`"))), "{text:?} is not in the table");
    }
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
