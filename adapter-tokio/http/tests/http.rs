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
use formation_core::{Event, Explanation};
use formation_host::ClusterHandle;
use formation_http::{EVENT_STREAMS, router};
use formation_testing::{
    TestNode,
    tokio::{Network, TestCluster},
};
use futures_lite::{StreamExt, future};
use serde_json::Value;
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

/// The samples of `/metrics`, by their names with labels. The format is checked on the way.
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
            let name = sample.split('{').next().unwrap();
            assert!(matches!(family, Some((known, Some(_))) if known == name), "{line}");
            assert!(samples.insert(sample.to_owned(), value.parse().unwrap()).is_none(), "{line}");
        }
    }
    samples
}

/// An open stream of events.
struct Stream(BodyDataStream, String);

impl Stream {
    async fn open(router: &Router, last: Option<&str>) -> Self {
        let mut request = Request::get("/events");
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
            assert!(info.contains(&format!("node=\"{id}\",incarnation=\"1\",address=\"{id}:")), "{info}");
        }
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
        let mut stream = Stream::open(&router, None).await;
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
        let next = Stream::open(&router, ids.last().map(String::as_str)).await.present().await;
        assert_eq!(next[0].0, format!("1-{}", ids.len() + 1));
        assert!(
            next.iter().any(|(_, data)| data["line"].as_str().is_some_and(|line| line.starts_with("lost master"))),
            "{next:?}"
        );
        // The ids of another run, and what is none, say nothing.
        for other in ["7-3", "nonsense", "1-"] {
            assert_eq!(Stream::open(&router, Some(other)).await.present().await[0].0, "1-1");
        }

        let mut stream = Stream::open(&router, next.last().map(|(id, _)| id.as_str())).await;
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
        let router = of(&cluster, "node-a");
        let mut open = Vec::new();
        for _ in 0..EVENT_STREAMS {
            open.push(Stream::open(&router, None).await);
        }
        assert_eq!(get(&router, "/events").await.0, StatusCode::SERVICE_UNAVAILABLE);
        open.pop();
        Stream::open(&router, None).await;
    });
}

#[test]
fn the_page_loads_nothing_from_elsewhere_and_changes_nothing() {
    Network::new(1).run(async |network| {
        let cluster = network.cluster(1).await;
        let router = Router::new().nest("/formation", of(&cluster, "node-a"));
        let request =
            |method: &str, path: &str| Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
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
