//! The page, and the node as JSON.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, Uri},
    response::{Html, IntoResponse, Response},
};
use formation_core::{Address, ClusterName, Electorate, MembersView, Node, Phase, Status};
use formation_host::{ClusterHandle, Master, Snapshot, SourceReport};
use serde::Serialize;

use crate::{App, explanations::Unexplained, millis, parameter};

/// A node without a master is ready for this many times `down_after`.
const READY_WITHOUT_MASTER: u32 = 10;

pub(crate) async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}

pub(crate) async fn ready(State(app): State<App>) -> (StatusCode, String) {
    match not_ready(&app.handle, &app.handle.snapshot()) {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// Why this node is not ready, if it is not.
fn not_ready(handle: &ClusterHandle, snapshot: &Snapshot) -> Option<String> {
    let phase = snapshot.status.phase;
    if matches!(phase, Phase::Leaving | Phase::Stopped) {
        return Some(format!("this node is {phase}"));
    }
    let own = handle.node();
    if snapshot.view.get(&own.id).is_none_or(|member| member.node != *own) {
        return Some("this node is no member of a cluster yet".to_owned());
    }
    let without = snapshot.at.since(snapshot.without_master_since?);
    let limit = handle.config().timing().down_after.saturating_mul(READY_WITHOUT_MASTER);
    (without > limit).then(|| format!("there has been no master for {without:.0?}"))
}

pub(crate) async fn explain(State(app): State<App>) -> Response {
    match app.explanations.now().await.1 {
        Ok(explanation) => Json(explanation).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, Json(Failure { error: error.to_string() })).into_response(),
    }
}

/// The answer when there is nothing to show.
#[derive(Debug, Serialize)]
struct Failure {
    error: String,
}

/// The answer of `/cluster`.
#[derive(Debug, Serialize)]
struct Overview<'a> {
    cluster: &'a ClusterName,
    node: &'a Node,
    address: &'a Address,
    is_voter: bool,
    /// The voters, and the ones that the cluster changes to.
    electorate: Electorate,
    is_ready: bool,
    master: Option<Shown>,
    /// How long this node is the master, if its lease is not renewed again. `None`: it is not the master.
    lease_ms: Option<u64>,
    /// How long a lease is.
    lease_length_ms: u64,
    /// How long this node has had no master, if it has none.
    without_master_ms: Option<u64>,
    /// Why it has none, for people.
    no_master: Option<String>,
    /// The sources of addresses, and what they have found.
    sources: Vec<SourceReport>,
    suppressed_events: u64,
    /// The number of the newest event.
    newest_event: u64,
    status: Status,
    /// It stands for the members in a later request.
    members: String,
    /// `None`: the client has it.
    view: Option<MembersView>,
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    master: Master,
    is_this_node: bool,
}

pub(crate) async fn cluster(State(app): State<App>, uri: Uri) -> Response {
    let (snapshot, explanation) = app.explanations.now().await;
    let (handle, config) = (&app.handle, app.handle.config());
    let is_ready = not_ready(handle, &snapshot).is_none();
    let master = snapshot.master();
    let no_master = match explanation {
        _ if master.is_some() => None,
        Ok(explanation) => explanation.no_master.as_ref().map(ToString::to_string),
        Err(Unexplained::Stopped(_)) => None,
        Err(error @ Unexplained::Hangs) => Some(error.to_string()),
    };
    let members = format!("{}-{}", snapshot.view.id(), snapshot.view.digest());
    let is_known = parameter(&uri, "have") == Some(&members);
    let Snapshot {
        at,
        status,
        view,
        electorate,
        leadership,
        without_master_since,
        suppressed_events,
        newest_event,
        ..
    } = snapshot;
    let overview = Overview {
        cluster: config.cluster(),
        node: handle.node(),
        address: config.address(),
        is_voter: electorate.voters.contains(config.address()),
        electorate,
        is_ready,
        master: master.map(|master| Shown { is_this_node: master.node == *handle.node(), master }),
        lease_ms: leadership.map(|leadership| millis(leadership.valid_until.since(at))),
        lease_length_ms: millis(config.timing().lease),
        without_master_ms: without_master_since.map(|since| millis(at.since(since))),
        no_master,
        sources: handle.sources(),
        suppressed_events,
        newest_event,
        status,
        members,
        view: (!is_known).then_some(view),
    };
    Json(overview).into_response()
}
