//! A service that sends its log and its traces to OpenTelemetry: the events of the node as log records, and one span for each mastership, with
//! the work of the master below it.
//!
//! ```sh
//! cargo run -p formation-recipes --bin telemetry -- --id a --address 127.0.0.1:7001 --state-dir /tmp/telemetry-a \
//!     --seed 127.0.0.1:7001 --seed 127.0.0.1:7002 --seed 127.0.0.1:7003
//! ```
//!
//! It prints what it would send. In your service, take the exporters of `opentelemetry-otlp` in place of those of `opentelemetry-stdout`, and
//! `with_batch_exporter` in place of `with_simple_exporter`, so that no task waits for the collector.
//!
//! # What the node gives
//!
//! - **Log records.** Each event of the node is one, with the target `formation::event`, and the fields `node`, `term` and those of the event.
//!   Everything else that the node says has the target `formation`.
//! - **A span** called `formation`, of all tasks of the node. It ends with the node, so it is no use in a trace, which is shown once its spans have
//!   ended. This service leaves it out, and has spans of its own.
//! - **Metrics.** Let the collector scrape `/metrics` of `formation-http`, by its receiver for Prometheus. Or use the feature `metrics` of the
//!   adapter, with an exporter of the crate `metrics`.

use std::{error::Error, io, path::PathBuf, time::Duration};

use clap::Parser;
use formation_tokio::{Cluster, Config, Lease};
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::{Resource, logs::SdkLoggerProvider, trace::SdkTracerProvider};
use tokio::{
    net::TcpListener,
    select,
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tracing::{Instrument, Level, info_span};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

#[derive(Parser)]
struct Args {
    /// The name of this node
    #[arg(long)]
    id: String,
    /// Where the other nodes reach it
    #[arg(long)]
    address: String,
    /// A directory of its own, for its votes
    #[arg(long)]
    state_dir: PathBuf,
    /// The addresses of the voters, the same on all nodes
    #[arg(long = "seed")]
    seeds: Vec<String>,
}

/// What is left to send at the end.
struct Telemetry {
    logs: SdkLoggerProvider,
    traces: SdkTracerProvider,
}

impl Telemetry {
    /// Everything that is logged and traced from now on is sent.
    fn start(id: &str) -> Self {
        let resource = || Resource::builder().with_service_name("orders").with_attribute(instance(id)).build();
        let logs = SdkLoggerProvider::builder()
            .with_resource(resource())
            .with_simple_exporter(opentelemetry_stdout::LogExporter::default())
            .build();
        let traces = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_simple_exporter(opentelemetry_stdout::SpanExporter::default())
            .build();
        // The node's own lines, and those of this service.
        let logged = Targets::new().with_target("formation", Level::INFO).with_target("telemetry", Level::INFO);
        // Not the span of the node.
        let traced = Targets::new().with_target("telemetry", Level::INFO);
        let spans = tracing_opentelemetry::layer().with_tracer(traces.tracer("orders"));
        tracing_subscriber::registry()
            .with(OpenTelemetryTracingBridge::new(&logs).with_filter(logged))
            .with(spans.with_filter(traced))
            .init();
        Self { logs, traces }
    }

    /// Sends the rest.
    fn end(self) -> Result<(), Box<dyn Error>> {
        self.traces.shutdown()?;
        self.logs.shutdown()?;
        Ok(())
    }
}

/// Which replica it is, by the name that OpenTelemetry has for that.
fn instance(id: &str) -> opentelemetry::KeyValue {
    opentelemetry::KeyValue::new("service.instance.id", id.to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let telemetry = Telemetry::start(&args.id);
    let config =
        Config::builder("telemetry", &args.id, &args.address).seeds(args.seeds).state_dir(args.state_dir).build()?;
    let cluster = Cluster::start(config, TcpListener::bind(&args.address).await?)?;
    let work = cluster.run_while_master(async |lease: Lease| {
        let mastership = info_span!("mastership", term = %lease.term());
        // The span ends with the work, also where the work is dropped because the lease ends.
        work().instrument(mastership).await;
    });
    let leave = async {
        terminate.recv().await;
        cluster.leave().await.map_err(io::Error::other)
    };
    select! {
        _ = work => {}
        left = leave => left?,
    }
    cluster.stopped().await;
    telemetry.end()
}

/// The work of the master, in steps.
async fn work() {
    for number in 0_u64.. {
        step(number).await;
        sleep(Duration::from_secs(1)).await;
    }
}

/// One step, in a span below that of the mastership.
#[tracing::instrument]
async fn step(number: u64) {
    tracing::info!("a step of the master");
}
