//! The routes that change something, for those who have the token.

use std::{collections::BTreeSet, fmt::Display, time::Duration};

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use formation_core::{Address, Misuse};
use formation_host::{LeaveError, VotersError};
use serde::Deserialize;
use tokio::time::timeout;

use crate::App;

/// How long a request waits for a change of the voters, which goes on after that.
const VOTERS_PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn leave(State(app): State<App>, headers: HeaderMap) -> Response {
    match is_allowed(&app, &headers) {
        true => answer(leave_in_time(&app).await, "it has left the cluster\n"),
        false => refuse(),
    }
}

pub(crate) async fn resign(State(app): State<App>, headers: HeaderMap) -> Response {
    match is_allowed(&app, &headers) {
        true => answer(app.handle.resign().await, "it has resigned, or was not the master\n"),
        false => refuse(),
    }
}

/// How the voters are to change, from the ones that the cluster changes to already, or has.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Asked {
    Add(Address),
    Remove(Address),
    Set(BTreeSet<Address>),
}

pub(crate) async fn voters(State(app): State<App>, request: Request) -> Response {
    if !is_allowed(&app, request.headers()) {
        return refuse();
    }
    let asked = match Json::<Asked>::from_request(request, &()).await {
        Ok(Json(asked)) => asked,
        Err(rejection) => return rejection.into_response(),
    };
    let electorate = app.handle.voters();
    let mut voters = electorate.target.unwrap_or(electorate.voters);
    match asked {
        Asked::Add(address) => _ = voters.insert(address),
        Asked::Remove(address) => _ = voters.remove(&address),
        Asked::Set(addresses) => voters = addresses,
    }
    match timeout(VOTERS_PATIENCE, app.handle.set_voters(voters)).await {
        Ok(Ok(reached)) => format!("the voters have changed, {reached}\n").into_response(),
        Ok(Err(error)) => (status_of(&error), format!("{error}\n")).into_response(),
        Err(_) => (StatusCode::ACCEPTED, under_way(&app).await).into_response(),
    }
}

fn status_of(error: &VotersError) -> StatusCode {
    match error {
        VotersError::Misuse(Misuse::NotMaster { .. })
        | VotersError::MasterLost { .. }
        | VotersError::Superseded { .. } => StatusCode::CONFLICT,
        VotersError::Misuse(_) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What a change waits for.
async fn under_way(app: &App) -> String {
    let waits_for = app.handle.explain().await.ok().and_then(|explanation| explanation.waits_for);
    match waits_for {
        Some(waits_for) => format!("the change goes on, and waits for {waits_for}\n"),
        None => "the change goes on\n".to_owned(),
    }
}

/// Whether a request has the token, in a header that a browser sends for no other site.
fn is_allowed(app: &App, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    app.token.as_ref().zip(given).is_some_and(|(token, given)| token.is(given))
}

fn refuse() -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "this needs the token\n").into_response()
}

async fn leave_in_time(app: &App) -> Result<(), LeaveError> {
    match app.leave_limit {
        Some(limit) => app.handle.leave_within(limit).await,
        None => app.handle.leave().await.map_err(Into::into),
    }
}

fn answer(done: Result<(), impl Display>, what: &'static str) -> Response {
    match done {
        Ok(()) => what.into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
