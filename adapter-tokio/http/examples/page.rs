//! A node with its page.
//!
//! ```sh
//! cargo run -p formation-http --example page -- ID ADDRESS HTTP SEED...
//! cargo run -p formation-http --example page -- a 127.0.0.1:7001 127.0.0.1:8001 127.0.0.1:7001 127.0.0.1:7002 127.0.0.1:7003
//! ```
//!
//! Then open `http://127.0.0.1:8001` in a browser. Ctrl-C makes the node leave.

use std::{env, error::Error, io};

use formation_http::Settings;
use formation_tokio::{Cluster, Config, StopReason};
use tokio::{net::TcpListener, select, signal::ctrl_c};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(id), Some(address), Some(http)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: page ID ADDRESS HTTP SEED...".into());
    };
    let config = Config::builder("pages", &id, &address).seeds(args).build()?;
    let http = TcpListener::bind(&http).await?;
    let cluster = Cluster::start(config, TcpListener::bind(&address).await?)?;
    println!("{id}: http://{}", http.local_addr()?);

    let serve = Settings::new().serve(cluster.clone(), http);
    let leave = async {
        ctrl_c().await?;
        cluster.leave().await.map_err(io::Error::other)
    };
    select! {
        served = serve => served?,
        left = leave => left?,
        _ = cluster.stopped() => {}
    }
    match cluster.stopped().await {
        StopReason::Left => Ok(()),
        reason => Err(reason.into()),
    }
}
