//! Each recipe runs as it is: three replicas in processes of their own, some of which are killed, paused or told to end. The tests never
//! sleep: they wait for what the replicas print, with a limit.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod cron;
mod fenced_database;
mod postgresql;
mod replicas;
mod sharding;
mod sharding_in_memory;
mod telemetry;
mod web_service;
mod web_service_in_memory;
