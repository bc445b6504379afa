//! The routes that change something, for those who have the token.

use std::fmt::Display;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use formation_host::LeaveError;

use crate::App;

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
