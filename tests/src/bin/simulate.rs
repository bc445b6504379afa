//! Runs the scenarios of the simulator, or one of them again.
//!
//! ```text
//! FORMATION_SIM_SEEDS=100000 cargo run --release -p formation-tests --bin simulate
//! FORMATION_SIM_SEED=374 cargo run -p formation-tests --bin simulate
//! FORMATION_SIM_SEEDS=5000 cargo run --release -p formation-tests --bin simulate -- --digest
//! ```
//! `--hostile-member` and `--hostile-voter` have a hostile peer. With `--count` behind them, all scenarios run, and the findings are
//! counted.
//! With `--forget`, voters that die lose their votes. With `--solo`, voters continue without a quorum (E8). With `--voters`, the voters
//! change (E10). With `--digest`, it prints a hash of all outputs of the nodes, for scenarios of every kind and for the kept fuzz corpora:
//! equal hashes mean equal behaviour. `FORMATION_SIM_NODES` sets the number of voters.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use formation_tests::{
    Place, Scenario, Tally, digest, for_each_seed,
    fuzzing::{Body, TARGETS},
};

type Draw = fn(u64) -> Scenario;

const KINDS: [(&str, Draw); 4] = [
    ("", |seed| Scenario::draw(seed, false)),
    ("--forget", |seed| Scenario::draw(seed, true)),
    ("--solo", Scenario::draw_solo),
    ("--voters", Scenario::draw_voters),
];

const HOSTILE: [(&str, Draw); 2] = [
    ("--hostile-member", |seed| Scenario::draw_hostile(seed, Place::Member)),
    ("--hostile-voter", |seed| Scenario::draw_hostile(seed, Place::Voter)),
];

fn main() -> ExitCode {
    let argument = env::args().skip(1).collect::<Vec<_>>().join(" ");
    let start = Instant::now();
    if argument == "--digest" {
        return match digests() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cannot read fuzz/corpus: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if let Some((_, draw)) = HOSTILE.iter().find(|(name, _)| argument.strip_suffix(" --count") == Some(*name)) {
        return count_failures(*draw, start);
    }
    let Some((_, draw)) = KINDS.iter().chain(&HOSTILE).find(|(name, _)| *name == argument) else {
        eprintln!(
            "'{argument}': the only argument is --forget, --solo, --voters, --hostile-member, --hostile-voter (each of these two with or without --count) or --digest; the seeds come from FORMATION_SIM_SEEDS or FORMATION_SIM_SEED"
        );
        return ExitCode::FAILURE;
    };
    let (mut tally, mut ran) = (Tally::default(), 0_u64);
    for_each_seed(1_000, |seed| {
        tally.add(&draw(seed).check());
        ran += 1;
    });
    println!("{}\n{ran} scenarios held in {:.1} s", tally.table(), start.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

/// Runs all scenarios, whether some fail or not. Prints how many failed in each way, with the first seed.
fn count_failures(draw: Draw, start: Instant) -> ExitCode {
    let mut kinds: BTreeMap<String, (u64, u64, String)> = BTreeMap::new();
    let (mut tally, mut ran, mut failed) = (Tally::default(), 0_u64, 0_u64);
    for_each_seed(1_000, |seed| {
        ran += 1;
        match draw(seed).play() {
            Ok(counts) => tally.add(&counts),
            Err(failure) => {
                failed += 1;
                for why in failure.why.split("; ") {
                    let kind = why.split(':').next().unwrap_or(why).to_owned();
                    kinds.entry(kind).or_insert_with(|| (0, seed, why.to_owned())).0 += 1;
                }
            }
        }
    });
    println!("{}\nin the {} that held; in the others:\n", tally.table(), ran - failed);
    for (kind, (count, seed, why)) in &kinds {
        println!("{count:>9}  {kind} (seed {seed}: {})", why.lines().next().unwrap_or_default());
    }
    println!("{failed} of {ran} scenarios failed, in {:.1} s", start.elapsed().as_secs_f64());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One line for each kind of scenario, and one for each kept corpus.
fn digests() -> io::Result<()> {
    for (name, draw) in KINDS {
        let begun = Instant::now();
        let hash = digest(|| {
            for_each_seed(1_000, |seed| {
                draw(seed).check();
            });
        });
        print_line(&hash, &format!("scenarios {name}"), begun.elapsed());
    }
    for (target, body) in TARGETS {
        let begun = Instant::now();
        let hash = corpus_digest(target, *body)?;
        print_line(&hash, &format!("corpus {target}"), begun.elapsed());
    }
    Ok(())
}

fn corpus_digest(target: &str, body: Body) -> io::Result<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    let files = files.iter().map(fs::read).collect::<io::Result<Vec<_>>>()?;
    Ok(digest(|| files.iter().for_each(|data| body(data))))
}

fn print_line(hash: &str, label: &str, took: Duration) {
    println!("{hash} {label} ({:.0} s)", took.as_secs_f64());
}
