//! The dashboard and the alerts name metrics that exist, and the guide explains all of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    collections::BTreeSet,
    fs,
    io::{Write, stderr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use formation_host::{ClusterHandle, METRICS, MetricKind};
use formation_http::router;
use formation_testing::tokio::Network;
use serde_json::Value;
use tower::ServiceExt;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

fn guide() -> String {
    read("../../core/src/guide/metrics.rs")
}

/// The metrics that a query names. A histogram has three series.
fn metrics_of(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let named = words.filter(|word| word.starts_with("formation_"));
    named.map(|name| ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name))
}

fn assert_known(queries: &[String]) {
    let listed: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    let named: BTreeSet<_> = queries.iter().flat_map(|query| metrics_of(query)).collect();
    assert!(named.len() > 5, "{named:?}");
    let unknown: Vec<_> = named.difference(&listed).collect();
    assert!(unknown.is_empty(), "there is no metric {unknown:?}");
}

/// The values of all fields with this name.
fn fields(value: &Value, name: &str) -> Vec<String> {
    match value {
        Value::Object(all) => {
            let own = all.get(name).and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(all.values().flat_map(|value| fields(value, name))).collect()
        }
        Value::Array(all) => all.iter().flat_map(|value| fields(value, name)).collect(),
        _ => Vec::new(),
    }
}

/// The values of these fields in the file of alerts, each of which is one line.
fn of_alerts(field: &str) -> Vec<String> {
    let alerts = read("grafana/alerts.yml");
    let lines = alerts.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(field));
    lines.map(|value| value.trim_start_matches(": ").to_owned()).collect()
}

#[test]
fn the_dashboard_shows_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("grafana/dashboard.json")).unwrap();
    assert_known(&fields(&dashboard["panels"], "expr"));
    assert_known(&[fields(&dashboard, "expr"), fields(&dashboard["templating"], "query")].concat());
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.iter().all(|panel| panel["description"].as_str().is_some_and(|text| text.ends_with('.'))));
}

#[test]
fn each_alert_is_about_metrics_that_exist_and_has_its_section() {
    let (alerts, links, guide) = (of_alerts("alert"), of_alerts("runbook_url"), guide());
    assert!(alerts.len() >= 10, "{alerts:?}");
    assert_known(&of_alerts("expr"));
    for (alert, link) in alerts.iter().zip(&links) {
        assert!(link.ends_with(&format!("/guide/metrics/index.html#{}", alert.to_lowercase())), "{link}");
        assert!(guide.contains(&format!("//! ## {alert}\n")), "the guide has no section on {alert}");
    }
    let sections: Vec<_> = guide.lines().filter_map(|line| line.strip_prefix("//! ## ")).collect();
    assert_eq!(sections, alerts, "each section is about an alert");
}

#[test]
fn the_guide_lists_all_metrics_as_they_are() {
    let guide = guide();
    let rows: Vec<_> = guide.lines().filter(|line| line.starts_with("//! | `formation_")).collect();
    let expected = METRICS.iter().map(|metric| {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Histogram => "histogram",
            _ => "gauge",
        };
        let label = metric.label.map(|label| format!("`{label}`")).unwrap_or_default();
        format!("//! | `{}` | {kind} | {label} | {} |", metric.name, metric.help)
    });
    assert_eq!(rows, expected.collect::<Vec<_>>());
}

/// What Prometheus itself says of the rules and of the text.
#[test]
fn prometheus_takes_the_metrics_and_the_alerts() {
    if Command::new("promtool").arg("--version").output().is_err() {
        // Not captured, so that the run of all tests shows it.
        let _ = writeln!(stderr(), "\n####\n#### NO PROMTOOL IS THERE: the rules are not checked\n####");
        return;
    }
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let checked = Command::new("promtool").args(arguments).current_dir(path("grafana")).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
    }
    let text = Network::new(1).run(async |network| {
        let cluster = network.cluster(3).await;
        let router = router(ClusterHandle::clone(&cluster.node("node-a")));
        let request = Request::get("/metrics").body(Body::empty()).unwrap();
        let body = router.oneshot(request).await.unwrap().into_body();
        to_bytes(body, usize::MAX).await.unwrap()
    });
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(&text).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
