//! Plays the simulator's scenarios, or one of them again.
//!
//! ```text
//! FORMATION_SIM_SEEDS=100000 cargo run --release -p formation-tests --bin simulate
//! FORMATION_SIM_SEED=374 cargo run -p formation-tests --bin simulate
//! ```
//! With `--forget`, voters that die lose their votes; with `--solo`, they go on without a quorum (E8). `FORMATION_SIM_NODES` sets how many voters there are.

use std::{env, process::ExitCode, time::Instant};

use formation_tests::{Scenario, Tally, for_each_seed};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let draw = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => |seed| Scenario::draw(seed, false),
        ["--forget"] => |seed| Scenario::draw(seed, true),
        ["--solo"] => Scenario::draw_solo,
        _ => {
            eprintln!(
                "{args:?}: the only argument is --forget or --solo; the seeds come from FORMATION_SIM_SEEDS or FORMATION_SIM_SEED"
            );
            return ExitCode::FAILURE;
        }
    };
    let (mut tally, mut ran, start) = (Tally::default(), 0_u64, Instant::now());
    for_each_seed(1_000, |seed| {
        tally.add(&draw(seed).check());
        ran += 1;
    });
    println!("{}\n{ran} scenarios held in {:.1} s", tally.table(), start.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
