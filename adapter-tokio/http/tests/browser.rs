//! The page in a real browser: Chromium without a window, driven by its protocol over pipes.
//!
//! With `FORMATION_PICTURES=DIR`, it leaves pictures of the page there.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write, stderr},
    path::Path,
    process::{Child, Command, Stdio},
};

use formation_http::router;
use formation_tokio::{Cluster, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle};

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The width of a phone.
const PHONE: u32 = 390;

struct Browser {
    process: Child,
    to: File,
    from: BufReader<File>,
    calls: u64,
    session: Option<String>,
    _dir: TempDir,
}

impl Browser {
    /// `None`: there is none.
    fn start() -> Option<Self> {
        let is_there = |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|it| it.status.success());
        let name = NAMES.iter().find(is_there)?;
        let dir = tempfile::tempdir().unwrap();
        let pipes = ["to", "from"].map(|pipe| dir.path().join(pipe));
        assert!(Command::new("mkfifo").args(&pipes).status().unwrap().success());
        // The browser reads from the file 3 and writes to the file 4. One that hangs is ended.
        let process = Command::new("sh")
            .args(["-c", "exec timeout 120 \"$@\" 3<\"$TO\" 4>\"$FROM\"", "sh", name])
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
            .env("TO", &pipes[0])
            .env("FROM", &pipes[1])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = OpenOptions::new().write(true).open(&pipes[0]).unwrap();
        let from = BufReader::new(File::open(&pipes[1]).unwrap());
        let mut browser = Self { process, to, from, calls: 0, session: None, _dir: dir };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        Some(browser)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut request = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            request["sessionId"] = session.as_str().into();
        }
        write!(self.to, "{request}\0").unwrap();
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "the browser has ended");
            let mut answer: Value = serde_json::from_slice(&bytes).unwrap();
            // Everything else is an event.
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }

    fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// Evaluates JavaScript. A promise is waited for.
    fn eval(&mut self, code: &str) -> Value {
        let params = json!({ "expression": code, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{code}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until the text of an element has all of these words. An element that is hidden has none.
    fn wait_for(&mut self, id: &str, words: &[&str]) {
        self.wait(id, &format!("{}.every(word => text().includes(word))", json!(words)));
    }

    /// Waits until the text of an element does not have this any more.
    fn wait_without(&mut self, id: &str, words: &str) {
        self.wait(id, &format!("!text().includes({})", json!(words)));
    }

    fn wait(&mut self, id: &str, condition: &str) {
        let code = format!(
            "new Promise((done, fail) => {{
                const text = () => document.getElementById('{id}')?.innerText ?? '';
                const look = () => {condition} && done();
                new MutationObserver(look).observe(document, {{
                    subtree: true, childList: true, characterData: true, attributes: true,
                }});
                setTimeout(() => fail(new Error('{id} is: ' + text() + ' in: ' + document.body.innerText)), 20000);
                look();
            }})"
        );
        self.eval(&code);
    }

    fn look_like(&mut self, width: u32, scheme: &str) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Looks at the page on a phone and on a desk, in light and dark.
    fn look(&mut self, name: &str) {
        for (width, scheme) in [(PHONE, "light"), (PHONE, "dark"), (1200, "light"), (1200, "dark")] {
            self.look_like(width, scheme);
            let fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
            assert_eq!(self.eval(fits), true, "{name} is wider than {width}");
            // As WCAG counts the contrast, for each text on the colour behind it.
            let least = self.eval(
                "(() => {
                    const parts = color => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
                    const linear = part => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
                    const light = color => {
                        const [r, g, b] = parts(color).map(linear);
                        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
                    };
                    const style = node => getComputedStyle(node);
                    const behind = node => {
                        while (style(node).backgroundColor === 'rgba(0, 0, 0, 0)') node = node.parentElement;
                        return light(style(node).backgroundColor);
                    };
                    const contrasts = [...document.querySelectorAll('h1, h2, p, th, td, time, li span')].map(node => {
                        const [dark, bright] = [light(style(node).color), behind(node)].sort((a, b) => a - b);
                        return (bright + 0.05) / (dark + 0.05);
                    });
                    return Math.min(...contrasts);
                })()",
            );
            assert!(least.as_f64().unwrap() >= 4.5, "{name}, {scheme}: {least}");
            if let Some(dir) = env::var_os("FORMATION_PICTURES") {
                self.picture(&Path::new(&dir).join(format!("{name}-{width}-{scheme}.png")));
            }
        }
    }

    fn picture(&mut self, path: &Path) {
        let taken = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let encoded = path.with_extension("base64");
        fs::write(&encoded, taken["data"].as_str().unwrap()).unwrap();
        let decoded = Command::new("base64").arg("-d").arg(&encoded).stdout(File::create(path).unwrap()).status();
        assert!(decoded.unwrap().success());
        fs::remove_file(encoded).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = write!(self.to, "{}\0", json!({ "id": 0, "method": "Browser.close" }));
        let _ = self.process.wait();
    }
}

/// A node with its page.
struct Served {
    cluster: Cluster,
    server: JoinHandle<()>,
}

/// Where a node and its page are.
#[derive(Clone)]
struct Place {
    id: String,
    address: String,
    http: String,
}

impl Place {
    /// The ports are free again at once: nobody has connected to them.
    async fn free(id: &str) -> Self {
        let any = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (node, http) = (any().await, any().await);
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        Self { id: id.to_owned(), address: address(&node), http: address(&http) }
    }

    async fn start(&self, seeds: &[Self]) -> Served {
        let seeds = seeds.iter().map(|seed| &seed.address);
        let config = Config::builder("shop", &self.id, &self.address).seeds(seeds).lan().build().unwrap();
        let http = TcpListener::bind(&self.http).await.unwrap();
        let cluster = Cluster::start(config, TcpListener::bind(&self.address).await.unwrap()).unwrap();
        let page = router(cluster.clone());
        let server = tokio::spawn(async move { axum::serve(http, page).await.unwrap() });
        Served { cluster, server }
    }
}

impl Served {
    /// Ends everything, as the end of the process does.
    async fn kill(self) {
        self.cluster.shutdown().await;
        self.server.abort();
        assert!(self.server.await.unwrap_err().is_cancelled());
    }
}

#[test]
fn the_page_shows_the_masters_their_loss_and_a_restart() {
    let Some(mut browser) = Browser::start() else {
        // Not captured, so that the run of all tests shows it.
        let _ = writeln!(stderr(), "\n####\n#### NO BROWSER IS TESTED: there is none of {NAMES:?}\n####");
        return;
    };
    let runtime = Runtime::new().unwrap();
    let run = |future| runtime.block_on(future);
    let mut places = Vec::new();
    let mut nodes = Vec::new();
    runtime.block_on(async {
        for id in ["node-a", "node-b", "node-c"] {
            places.push(Place::free(id).await);
        }
        for place in &places {
            nodes.push(place.start(&places).await);
        }
        for node in &nodes {
            node.cluster.wait_for_members(3).await.unwrap();
        }
    });
    let first = nodes[0].cluster.master().unwrap().node.id.to_string();
    let at = |id: &str| places.iter().position(|place| place.id == id).unwrap();
    let shown = (at(&first) + 1) % 3;
    let (other, place) = ((at(&first) + 2) % 3, places[shown].clone());
    let mut nodes: Vec<_> = nodes.into_iter().map(Some).collect();

    browser.open(&format!("http://{}/", place.http));
    browser.wait_for("title", &[&place.id, "shop"]);
    browser.wait_for("master", &[&first]);
    browser.wait_for("lease", &["This voter is bound to", &first]);
    browser.wait_for("members", &["node-a", "node-b", "node-c"]);
    browser.wait_for("voters-title", &["3 of 3"]);
    browser.look("follower");
    // Only the master measures.
    assert_eq!(browser.eval("document.getElementById('delays-section').hidden"), true);

    // A page that nobody sees leaves its place to others, and goes on where it was.
    let look = |hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});
            document.dispatchEvent(new Event('visibilitychange'));
            [source.readyState === EventSource.CLOSED, source.url.split('?after=')[1] === seen]"
        )
    };
    assert_eq!(browser.eval(&look(true))[0], true);
    assert_eq!(browser.eval(&look(false)), json!([false, true]));
    run(nodes[at(&first)].take().unwrap().kill());
    browser.wait_for("events", &[&format!("lost master {first}")]);
    browser.wait_without("master", &first);
    browser.wait_for("master", &["★"]);
    run(nodes[other].take().unwrap().kill());
    browser.wait_for("master", &["There is no master"]);
    browser.wait_for("why", &["1 of 3 voters reachable, need 2"]);
    browser.wait_for("voters", &["not reached, refused"]);
    browser.look("no-master");

    run(nodes[shown].take().unwrap().kill());
    browser.wait_for("lost", &["has not answered since"]);
    let again = runtime.block_on(async { [place.start(&places).await, places[other].start(&places).await] });
    browser.wait_for("master", &["★"]);
    browser.wait_without("lost", "has not answered");
    // The events are those of the new run.
    browser.wait_without("events", "lost master");
    browser.wait_for("events", &["view "]);
    browser.look("again");

    let master = runtime.block_on(async {
        let node = &again[0].cluster;
        node.wait_for_members(2).await.unwrap();
        node.wait_for_master().await.unwrap().node.id.to_string()
    });
    browser.open(&format!("http://{}/", places[at(&master)].http));
    browser.wait_for("master", &["(this node)"]);
    browser.wait_for("delays", &[" ms"]);
    browser.look("master");

    // The master of fifty members.
    let _crowd = runtime.block_on(async {
        let mut crowd = Vec::new();
        for number in 3..=50 {
            let place = Place::free(&format!("worker-{number:02}.rack-{}", number % 5)).await;
            crowd.push(place.start(&places).await);
        }
        crowd
    });
    browser.wait_for("members", &["worker-03", "worker-50"]);
    browser.wait_for("delays", &["worker-03", "worker-50"]);
    browser.look("fifty");
}
