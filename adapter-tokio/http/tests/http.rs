//! The router of a node, on a cluster in memory and in virtual time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, BodyDataStream, to_bytes},
    http::{Request, StatusCode, header},
};
use formation_core::{Config, Event, Explanation, Limits, Timing};
use formation_host::ClusterHandle;
use formation_http::{Settings, Token, router};
use formation_testing::{
    TestNode,
    tokio::{Network, TestCluster},
};
use formation_tokio::Cluster;
use futures_lite::{StreamExt, future};
use serde_json::Value;
use tokio::{net::TcpListener, runtime::Builder};
use tower::ServiceExt;

/// Less than a lease.
const STEP: Duration = Duration::from_millis(100);

fn of(cluster: &TestCluster, id: &str) -> Router {
    router(ClusterHandle::clone(&cluster.node(id)))
}

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn json(router: &Router, path: &str) -> Value {
    let (status, body) = get(router, path).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn readiness(router: &Router) -> (u16, String) {
    let (status, body) = get(router, "/readyz").await;
    (status.as_u16(), body)
}

/// The samples of `/metrics`, by their names with the labels that differ. The format is checked on the way.
async fn metrics(router: &Router) -> BTreeMap<String, f64> {
    let (status, text) = get(router, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    let (mut samples, mut names, mut family) = (BTreeMap::new(), BTreeSet::new(), None);
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(words.ends_with('.') && names.insert(name.to_owned()), "{line}");
            family = Some((name, None));
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(family, Some((name, None)), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            family = Some((name, Some(kind)));
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap();
            let (known, kind) = family.unwrap();
            let is_part = |end: &&str| name == format!("{known}{end}");
            let is_histogram = kind == Some("histogram");
            assert_eq!(["_bucket", "_sum", "_count"].iter().any(is_part), is_histogram, "{line}");
            assert!(is_histogram || name == known, "{line}");
            let own = labels.strip_prefix("cluster=\"").and_then(|it| it.split_once("\",node=\"")?.1.split_once('"'));
            let (_, rest) = own.unwrap_or_else(|| panic!("{line}"));
            let rest = rest.trim_start_matches(',').trim_end_matches('}');
            let sample = if rest.is_empty() { name.to_owned() } else { format!("{name}{{{rest}}}") };
            assert!(samples.insert(sample, value.parse().unwrap()).is_none(), "{line}");
        }
    }
    samples
}

/// An open stream of events.
struct Stream(BodyDataStream, String);

impl Stream {
    async fn open(router: &Router, path: &str, last: Option<&str>) -> Self {
        let mut request = Request::get(path);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self(response.into_body().into_data_stream(), String::new())
    }

    /// The next event with its id. `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((block, rest)) = self.1.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let event = field("id: ").zip(field("data: "));
                self.1 = rest.to_owned();
                // Otherwise it is a comment, which keeps the connection alive.
                if let Some((id, data)) = event {
                    return Some((id, serde_json::from_str(&data).unwrap()));
                }
            }
            let bytes = self.0.next().await?.unwrap();
            self.1.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// All events that are there.
    async fn present(&mut self) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        while let Some(Some(event)) = future::poll_once(self.next()).await {
            all.push(event);
        }
        all
    }
}

#[test]
fn a_node_is_ready_from_its_first_view_until_it_leaves() {
    let at_the_start = Arc::new(Mutex::new(Vec::new()));
    let noted = at_the_start.clone();
    let service = async move |node: TestNode| {
        let ready = readiness(&router(ClusterHandle::clone(&node))).await;
        noted.lock().unwrap().push(ready);
        node.stopped().await;
    };
    Network::new(1).run(async |network| {
        let cluster = network.services(3, service).await;
        let not_yet = (503, "this node is no member of a cluster yet\n".to_owned());
        assert_eq!(*at_the_start.lock().unwrap(), [not_yet.clone(), not_yet.clone(), not_yet]);
        let node = cluster.node("node-c");
        let router = of(&cluster, "node-c");
        assert_eq!(readiness(&router).await, (200, "ok\n".to_owned()));
        node.leave().await.unwrap();
        assert_eq!(readiness(&router).await, (503, "this node is stopped\n".to_owned()));
        assert_eq!(get(&router, "/livez").await, (StatusCode::OK, "ok\n".to_owned()));
        assert_eq!(get(&router, "/explain").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(metrics(&router).await["formation_phase{phase=\"stopped\"}"], 1.0);
    });
}

#[test]
fn a_node_stays_ready_while_the_master_changes() {
    Network::new(1).run(async |network| {
        let cluster = network.cluster(3).await;
        let first = cluster.assert_one_master();
        let (id, router) = cluster
            .ids()
            .into_iter()
            .filter(|id| *id != first.node.id.as_str())
            .map(|id| (id.clone(), of(&cluster, &id)))
            .next()
            .unwrap();
        cluster.kill(&first.node.id);
        let mut was_without = false;
        while cluster.node(&id).master().is_none_or(|master| master.term == first.term) {
            assert_eq!(readiness(&router).await.0, 200);
            was_without |= cluster.node(&id).master().is_none();
            cluster.advance(STEP).await;
        }
        assert!(was_without);

        // Alone, it has no master for good.
        for other in cluster.ids().iter().filter(|other| **other != id) {
            cluster.kill(other);
        }
        let node = cluster.node(&id);
        cluster.wait_until("it has no master", || node.master().is_none()).await;
        let limit = 10 * node.config().timing().down_after;
        cluster.advance(limit - STEP).await;
        assert_eq!(readiness(&router).await.0, 200);
        cluster.advance(2 * STEP).await;
        assert_eq!(readiness(&router).await, (503, "there has been no master for 30s\n".to_owned()));
    });
}

#[test]
fn the_metrics_say_who_is_the_master() {
    Network::new(1).voters(3).run(async |network| {
        let cluster = network.cluster(4).await;
        let master = cluster.assert_one_master();
        for id in cluster.ids() {
            let (metrics, is_master) = (metrics(&of(&cluster, &id)).await, id == master.node.id.as_str());
            let is = |name: &str| metrics[name] == 1.0;
            assert_eq!(is("formation_is_master"), is_master);
            assert_eq!(metrics["formation_lease_remaining_seconds"] > 0.0, is_master);
            assert_eq!(is("formation_phase{phase=\"master\"}"), is_master);
            assert_eq!(is("formation_is_voter"), id != "node-d");
            assert!(is("formation_has_master") && is("formation_storage{state=\"idle\"}"), "{metrics:?}");
            assert_eq!(metrics["formation_members{state=\"active\"}"], 4.0);
            assert_eq!((metrics["formation_voters"], metrics["formation_quorum"]), (3.0, 2.0));
            assert_eq!(metrics["formation_master_term"], 1.0);
            assert!(metrics["formation_received_bytes_total"] > 0.0);
            let info = metrics.keys().find(|sample| sample.starts_with("formation_info{")).unwrap();
            assert!(info.contains(&format!("incarnation=\"1\",address=\"{id}:")), "{info}");
            assert_eq!(metrics["formation_elections_total"], 1.0);
            assert_eq!(metrics["formation_without_master_duration_seconds_count"], 1.0);
            assert_eq!(metrics["formation_heartbeat_round_trip_seconds_count"] > 0.0, is_master);
            assert!(metrics["formation_connections{state=\"linked\"}"] >= 1.0);
        }
        cluster.kill("node-d");
        cluster.wait_for_members(3).await;
        let metrics = metrics(&of(&cluster, master.node.id.as_str())).await;
        let changes = |change: &str| metrics[&format!("formation_member_changes_total{{change=\"{change}\"}}")];
        assert_eq!(["suspect", "down", "left", "unknown"].map(changes), [1.0, 1.0, 0.0, 0.0]);
        assert!(changes("active") >= 3.0);
    });
}

#[test]
fn the_cluster_and_its_explanation_are_json() {
    Network::new(1).run(async |network| {
        let cluster = network.cluster(3).await;
        let master = cluster.assert_one_master();
        for id in cluster.ids() {
            let (router, is_master) = (of(&cluster, &id), id == master.node.id.as_str());
            let overview = json(&router, "/cluster").await;
            assert_eq!((&overview["node"]["id"], &overview["is_ready"]), (&Value::from(&*id), &Value::from(true)));
            assert_eq!(overview["master"]["node"]["id"], master.node.id.as_str());
            assert_eq!(overview["master"]["is_this_node"], is_master);
            assert_eq!(overview["lease_ms"].as_u64().is_some_and(|left| left <= 1000), is_master, "{overview}");
            assert_eq!(overview["view"]["members"].as_array().unwrap().len(), 3);
            let explanation: Explanation = serde_json::from_value(json(&router, "/explain").await).unwrap();
            assert_eq!(explanation.node, *cluster.node(&id).node());
            assert_eq!(explanation.voters.len(), 3);
        }
        let other = cluster.ids().into_iter().find(|id| *id != master.node.id.as_str()).unwrap();
        let (node, router) = (cluster.node(&other), of(&cluster, &other));
        for id in cluster.ids().iter().filter(|id| **id != other) {
            cluster.kill(id);
        }
        cluster.wait_until("it has no master", || node.master().is_none()).await;
        cluster.advance(STEP).await;
        let overview = json(&router, "/cluster").await;
        assert_eq!(overview["master"], Value::Null);
        assert!(overview["without_master_ms"].as_u64().unwrap() >= 100, "{overview}");
        assert!(overview["no_master"].as_str().unwrap().starts_with("1 of 3 voters reachable, need 2"), "{overview}");
        assert_eq!(json(&router, "/explain").await["no_master"]["reachable"], 1);
    });
}

#[test]
fn a_client_gets_the_events_that_it_has_missed() {
    Network::new(1).run(async |network| {
        let cluster = network.cluster(3).await;
        let (first, node) = (cluster.assert_one_master(), cluster.node("node-c"));
        let router = of(&cluster, "node-c");
        let mut stream = Stream::open(&router, "/events", None).await;
        let seen = stream.present().await;
        let ids: Vec<_> = seen.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(ids, (1..=ids.len()).map(|number| format!("1-{number}")).collect::<Vec<_>>());
        let lines: Vec<_> = seen.iter().filter_map(|(_, data)| data["line"].as_str()).collect();
        assert!(lines.contains(&format!("follows {}, master of term 1", first.node.id).as_str()), "{lines:?}");
        for (_, data) in &seen {
            let event: Event = serde_json::from_value(data["event"].clone()).unwrap();
            assert_eq!(data["line"].is_null(), event.conn().is_some() && data["severity"] == "Detail", "{data}");
        }

        drop(stream);
        cluster.kill(&first.node.id);
        cluster.wait_for_new_master(first.term).await;
        let next = Stream::open(&router, "/events", ids.last().map(String::as_str)).await.present().await;
        assert_eq!(next[0].0, format!("1-{}", ids.len() + 1));
        assert!(
            next.iter().any(|(_, data)| data["line"].as_str().is_some_and(|line| line.starts_with("lost master"))),
            "{next:?}"
        );
        // The ids of another run, and what is none, say nothing.
        for other in ["7-3", "nonsense", "1-"] {
            assert_eq!(Stream::open(&router, "/events", Some(other)).await.present().await[0].0, "1-1");
        }

        let mut stream = Stream::open(&router, "/events", next.last().map(|(id, _)| id.as_str())).await;
        assert!(stream.present().await.is_empty());
        let (left, last) = future::zip(node.leave(), async {
            let mut last = None;
            while let Some((_, data)) = stream.next().await {
                last = Some(data);
            }
            last
        })
        .await;
        left.unwrap();
        assert_eq!(last.unwrap()["line"], "stopped: it has left the cluster");
    });
}

#[test]
fn there_are_only_so_many_streams_of_events() {
    Network::new(1).run(async |network| {
        let cluster = network.cluster(1).await;
        for most in [1, 3] {
            let router = Settings::new().event_streams(most).router(ClusterHandle::clone(&cluster.node("node-a")));
            let mut open = Vec::new();
            for _ in 0..most {
                open.push(Stream::open(&router, "/events", None).await);
            }
            assert_eq!(get(&router, "/events").await.0, StatusCode::SERVICE_UNAVAILABLE);
            open.pop();
            Stream::open(&router, "/events", None).await;
        }
    });
}

#[test]
fn the_history_is_as_long_as_the_limits_say() {
    let limits = Limits::new().with_event_history(2);
    Network::new(1).configure(move |_, config| config.limits(limits.clone())).run(async |network| {
        let cluster = network.cluster(3).await;
        let events = Stream::open(&of(&cluster, "node-a"), "/events", None).await.present().await;
        assert_eq!(events.len(), 2, "{events:?}");
    });
}

/// A stream goes on after the event that the address names, unless a header names a newer one.
#[test]
fn a_stream_goes_on_after_the_event_in_its_address() {
    Network::new(1).run(async |network| {
        let cluster = network.cluster(3).await;
        let router = of(&cluster, "node-b");
        let first = async |path: &str, last| Stream::open(&router, path, last).await.present().await[0].0.clone();
        assert_eq!(first("/events?after=1-2", None).await, "1-3");
        assert_eq!(first("/events?after=1-2", Some("1-3")).await, "1-4");
        assert_eq!(first("/events?after=7-2", None).await, "1-1", "that is another run");
    });
}

#[test]
fn members_that_a_client_has_are_not_sent_again() {
    Network::new(1).run(async |network| {
        let cluster = network.cluster(3).await;
        let router = of(&cluster, "node-c");
        let whole = json(&router, "/cluster").await;
        let path = format!("/cluster?have={}", whole["members"].as_str().unwrap());
        let (short, long) = (get(&router, &path).await.1, get(&router, "/cluster").await.1);
        assert_eq!(json(&router, &path).await["view"], Value::Null);
        assert!(short.len() + 200 < long.len(), "{short} {long}");
        let master = cluster.assert_one_master().node.id;
        let other = cluster.ids().into_iter().find(|id| master.as_str() != id && id != "node-c");
        cluster.node(other.unwrap()).leave().await.unwrap();
        cluster.wait_for_members(2).await;
        assert_eq!(json(&router, &path).await["view"]["members"].as_array().unwrap().len(), 2);
    });
}

#[test]
fn an_explanation_serves_all_requests_until_something_changes() {
    Network::new(1).run(async |network| {
        let cluster = network.cluster(3).await;
        let (master, timing) = (cluster.assert_one_master(), Timing::lan());
        let router = of(&cluster, master.node.id.as_str());
        let served = async || serde_json::from_value::<Explanation>(json(&router, "/explain").await).unwrap();
        let fresh = async || cluster.node(&master.node.id).explain().await.unwrap();
        let first = served().await;
        cluster.advance(Duration::from_millis(10)).await;
        metrics(&router).await;
        assert_ne!(fresh().await, first);
        assert_eq!(served().await, first, "the driver was not asked again");
        cluster.advance(Duration::from_millis(100)).await;
        assert_eq!(served().await, fresh().await);
        // It is not used for another master, however new it is.
        let (other, node) = cluster
            .ids()
            .into_iter()
            .filter(|id| *id != master.node.id.as_str())
            .map(|id| (of(&cluster, &id), cluster.node(&id)))
            .next()
            .unwrap();
        let term = async || json(&other, "/explain").await["term"].as_u64().unwrap();
        cluster.kill(&master.node.id);
        while node.status().term == master.term {
            assert_eq!(term().await, master.term.0);
            cluster.advance(timing.lease / 100).await;
        }
        assert_eq!(term().await, node.status().term.0);
    });
}

async fn post(router: &Router, path: &str, authorization: Option<&str>) -> StatusCode {
    let mut request = Request::post(path);
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
}

#[test]
fn only_the_token_lets_a_node_resign_or_leave() {
    const SECRET: &str = "9f2c7d1e5a804b6c";
    assert!(Token::new(&SECRET[1..]).is_err());
    Network::new(1).run(async |network| {
        let cluster = network.cluster(3).await;
        let master = cluster.assert_one_master();
        let node = cluster.node(&master.node.id);
        let handle = || ClusterHandle::clone(&node);
        let right = format!("Bearer {SECRET}");
        for path in ["/resign", "/leave"] {
            assert_eq!(post(&router(handle()), path, Some(&right)).await, StatusCode::NOT_FOUND);
        }
        let router = Settings::new().control(Token::new(SECRET).unwrap()).router(handle());
        let wrong = [
            None,
            Some("Bearer "),
            Some("Bearer 9f2c7d1e5a804b6d"),
            Some("Bearer 9f2c7d1e5a804b6"),
            Some("Bearer 9f2c7d1e5a804b6cc"),
            Some(SECRET),
            Some("Basic 9f2c7d1e5a804b6c"),
        ];
        for path in ["/resign", "/leave"] {
            for wrong in wrong {
                assert_eq!(post(&router, path, wrong).await, StatusCode::UNAUTHORIZED, "{wrong:?}");
            }
            assert_eq!(get(&router, path).await.0, StatusCode::METHOD_NOT_ALLOWED);
        }
        assert_eq!(node.master().as_ref(), Some(&master), "nothing has changed");
        assert_eq!(post(&router, "/voters", wrong[1]).await, StatusCode::UNAUTHORIZED);

        assert_eq!(post(&router, "/resign", Some(&right)).await, StatusCode::OK);
        assert_ne!(cluster.wait_for_new_master(master.term).await.node, master.node);
        assert_eq!(post(&router, "/leave", Some(&right)).await, StatusCode::OK);
        assert_eq!(readiness(&router).await, (503, "this node is stopped\n".to_owned()));
        assert_eq!(post(&router, "/leave", Some(&right)).await, StatusCode::SERVICE_UNAVAILABLE);
    });
}

/// Asks a node to change the voters.
async fn change(handle: ClusterHandle, body: &str) -> (u16, String) {
    const SECRET: &str = "9f2c7d1e5a804b6c";
    let router = Settings::new().control(Token::new(SECRET).unwrap()).router(handle);
    let request = Request::post("/voters").header("authorization", format!("Bearer {SECRET}"));
    let request = request.header("content-type", "application/json").body(Body::from(body.to_owned()));
    let answer = router.oneshot(request.unwrap()).await.unwrap();
    let (status, body) = (answer.status().as_u16(), answer.into_body());
    let bytes = to_bytes(body, 1 << 16).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn the_voters_change_on_the_master_and_others_name_it() {
    Network::new(1).run(async |network| {
        let cluster = network.cluster(3).await;
        let master = cluster.assert_one_master();
        let ids = ["node-a", "node-b", "node-c"];
        let handle = |id: &str| ClusterHandle::clone(&cluster.node(id));
        let other = ids.into_iter().find(|id| *id != master.node.id.as_str()).unwrap();
        let removed = handle(other).config().address().to_string();
        let remove = format!(r#"{{"remove":"{removed}"}}"#);
        let (status, why) = change(handle(other), &remove).await;
        assert_eq!(
            (status, why.contains(&format!("ask {} at {}", master.node.id, master.address))),
            (409, true),
            "{why}"
        );
        let on_master = || handle(master.node.id.as_str());
        let (status, why) = change(on_master(), r#"{"set":[]}"#).await;
        assert_eq!((status, why.starts_with("0 voters were asked for")), (422, true), "{why}");
        assert_eq!(change(on_master(), "{}").await.0, 400, "no change");
        let (status, done) = change(on_master(), &remove).await;
        assert_eq!((status, done.starts_with("the voters have changed, version ")), (200, true), "{done}");
        assert_eq!((on_master().voters().voters.len(), done.contains(&removed)), (2, false), "{done}");
        let (status, _) = change(on_master(), &format!(r#"{{"add":"{removed}"}}"#)).await;
        assert_eq!((status, on_master().voters().voters.len()), (200, 3));
        // Nobody is there.
        let (status, why) = change(on_master(), r#"{"add":"10.9.9.9:1"}"#).await;
        assert_eq!((status, why.contains("waits for the members 10.9.9.9:1")), (202, true), "{why}");
    });
}

#[test]
fn a_node_told_to_leave_keeps_its_limit() {
    const LIMIT: Duration = Duration::from_secs(1);
    const SECRET: &str = "9f2c7d1e5a804b6c";
    let right = format!("Bearer {SECRET}");
    Network::new(1).run(async |network| {
        let cluster = network.cluster(3).await;
        let settings = Settings::new().control(Token::new(SECRET).unwrap());
        for (id, settings, status) in [
            ("node-b", settings.clone().leave_within(LIMIT), StatusCode::SERVICE_UNAVAILABLE),
            ("node-c", settings, StatusCode::OK),
        ] {
            // Without a master, a node waits for `down_after` until it gives up.
            cluster.partition([id]);
            let (start, node) = (cluster.now(), cluster.node(id));
            assert!(node.config().timing().down_after > LIMIT);
            let router = settings.router(ClusterHandle::clone(&node));
            assert_eq!(post(&router, "/leave", Some(&right)).await, status, "{id}");
            assert_eq!(cluster.now() - start <= LIMIT + STEP, status != StatusCode::OK, "{id}");
        }
    });
}

#[test]
fn a_driver_that_hangs_is_named() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config::builder("test", "node-a", address).seeds([address]).single().build().unwrap();
        Cluster::start(config, listener).unwrap()
    });
    // The runtime of the node runs no further.
    let router = router(ClusterHandle::clone(&cluster));
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
        let (status, body) = get(&router, "/explain").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("the driver of the node has not answered for 2s"), "{body}");
        let why = json(&router, "/cluster").await["no_master"].as_str().unwrap().to_owned();
        assert!(why.contains("the driver of the node"), "{why}");
        assert!(metrics(&router).await.contains_key("formation_is_master"));
    });
}

#[test]
fn the_page_loads_nothing_from_elsewhere_and_changes_nothing() {
    Network::new(1).run(async |network| {
        let cluster = network.cluster(1).await;
        let router = Router::new().nest_service("/formation", of(&cluster, "node-a"));
        let request =
            |method: &str, path: &str| Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let slash = router.clone().oneshot(request("GET", "/formation/")).await.unwrap();
        assert_eq!(slash.status(), StatusCode::OK);
        let response = router.clone().oneshot(request("GET", "/formation")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        let page = String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap();
        for outside in ["http:", "https:", "src=", "@import", "url(", "innerHTML"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for path in ["cluster", "events", "explain", "livez", "metrics", "readyz"] {
            for method in ["POST", "PUT", "DELETE", "PATCH"] {
                let response = router.clone().oneshot(request(method, &format!("/formation/{path}"))).await.unwrap();
                assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            }
        }
    });
}
