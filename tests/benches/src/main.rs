//! Prints what needs no profiler: allocations, heap, bytes on the wire, and how the work grows.

use std::{hint::black_box, time::Instant};

use allocation_counter::measure;
use formation_benches::{
    Names,
    follower::Follower,
    frames::{Stream, page},
    master::Master,
    recording::Recording,
};

/// How often something is done that is counted on average.
const TIMES: u64 = 1_000;

fn main() {
    let sections: [(&str, fn()); 8] = [
        ("heartbeats", heartbeats),
        ("views", views),
        ("bytes", bytes),
        ("heap", heap),
        ("change", change),
        ("rounds", rounds),
        ("joins", joins),
        ("recording", recording),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for (name, print) in sections {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            print();
        }
    }
}

fn row(what: &str, figure: f64, unit: &str) {
    println!("{what:<72} {figure:>12.2} {unit}");
}

/// The time of one of so many calls, in microseconds: the fastest of some series, since other programs may run.
fn micros(count: u32, mut call: impl FnMut()) -> f64 {
    let series = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..count).for_each(|_| call());
        start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
    };
    (0..7).map(|_| series(&mut call)).fold(f64::INFINITY, f64::min)
}

fn heartbeats() {
    for (chunk, name) in [(64 << 10, "64 KiB"), (100, "100-byte"), (1, "1-byte")] {
        let mut stream = Stream::of_heartbeats(TIMES, chunk);
        stream.read();
        let count = measure(|| stream.read()).count_total;
        row(&format!("decode a heartbeat, {name} chunks"), count as f64 / TIMES as f64, "allocations");
        row(&format!("decode a heartbeat, {name} chunks"), micros(20, || stream.read()) * 1e3 / TIMES as f64, "ns");
        let baseline = micros(20, || stream.read_baseline()) * 1e3 / TIMES as f64;
        row(&format!("  tokio_util's codec and postcard, {name} chunks"), baseline, "ns");
    }
    let mut follower = Follower::new(3, Names::Short, false);
    for _ in 0..100 {
        let heartbeat = follower.heartbeat();
        follower.beat(heartbeat);
    }
    let mut times = Vec::new();
    for _ in 0..20_000 {
        let heartbeat = follower.heartbeat();
        let start = Instant::now();
        follower.receive(heartbeat);
        times.push(start.elapsed().as_secs_f64() * 1e9);
        follower.settle();
    }
    row("handle_input with a heartbeat, with the clock (25 ns)", median(times), "ns");
}

fn views() {
    for names in [Names::Short, Names::Long] {
        let mut stream = Stream::of_page(100, names, 64 << 10);
        row(&format!("decode a page of 100, {names:?}"), measure(|| stream.read()).count_total as f64, "allocations");
        row(&format!("decode a page of 100, {names:?}"), micros(200, || stream.read()), "µs");
        let mut small = Follower::without_view(100, names, true);
        let snapshot = small.snapshot(100);
        let count = measure(|| small.receive(snapshot)).count_total;
        row(&format!("take a page of 100 as the first view, {names:?}"), count as f64, "allocations");
        let taken = micros(1, || {
            small.settle();
            let snapshot = small.snapshot(100);
            black_box(&snapshot);
        });
        let with = micros(1, || {
            small.settle();
            let snapshot = small.snapshot(100);
            small.receive(snapshot);
        });
        row(&format!("take a page of 100 that changes nothing, {names:?}"), with - taken, "µs");
        for members in [100, 1_000] {
            let mut follower = Follower::new(members, names, true);
            let delta = follower.delta(100);
            let count = measure(|| follower.receive(delta)).count_total;
            row(&format!("take a delta of 100 on {members}, {names:?}"), count as f64, "allocations");
            let mut times = Vec::new();
            for _ in 0..200 {
                follower.settle();
                let delta = follower.delta(100);
                let start = Instant::now();
                follower.receive(delta);
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            row(&format!("take a delta of 100 on {members}, {names:?}"), median(times), "µs");
        }
        let mut times = Vec::new();
        for _ in 0..20 {
            let mut follower = Follower::without_view(100, names, true);
            follower.settle();
            let page = follower.snapshot(100);
            let chunks: Vec<_> = (0..page.len()).map(|at| page.slice(at..=at)).collect();
            let start = Instant::now();
            for chunk in chunks {
                follower.receive(chunk);
            }
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        row(&format!("take a page of 100 in 1-byte chunks, {names:?}"), median(times), "µs");
        let mut stream = Stream::of_page(100, names, 1);
        row(&format!("  of it the decoder, {names:?}"), micros(50, || stream.cut()), "µs");
        row(&format!("  tokio_util's codec, {names:?}"), micros(50, || stream.cut_baseline()), "µs");
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn bytes() {
    for names in [Names::Short, Names::Long] {
        let length = page(100, names).to_frame().len();
        row(&format!("MembersUpdate with a page of 100, {names:?}"), length as f64, "B");
    }
}

fn heap() {
    for names in [Names::Short, Names::Long] {
        let mut node = None;
        let info = measure(|| {
            let mut follower = Follower::new(1_000, names, true);
            let heartbeat = follower.heartbeat();
            follower.beat(heartbeat);
            node = Some(follower);
        });
        row(&format!("heap of a member of 1,000, {names:?}"), info.bytes_current as f64 / 1e3, "KB");
        row(&format!("  at its peak, {names:?}"), info.bytes_max as f64 / 1e3, "KB");
        drop(node);
        let mut node = None;
        let info = measure(|| node = Some(Master::with_members(1_000, names, true)));
        row(&format!("heap of a master of 1,000, {names:?}"), info.bytes_current as f64 / 1e3, "KB");
        drop(node);
    }
}

fn change() {
    for members in [1_000, 10_000] {
        for holds in [true, false] {
            let mut follower = Follower::new(members, Names::Short, holds);
            let mut times = Vec::new();
            for _ in 0..400 {
                follower.settle();
                let delta = follower.delta(1);
                let start = Instant::now();
                follower.receive(delta);
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            let held = if holds { "held by the host" } else { "not held" };
            row(&format!("one change seen by a member of {members}, view {held}"), median(times), "µs");
        }
    }
}

fn rounds() {
    for members in [100, 1_000] {
        let mut master = Master::with_members(members, Names::Short, true);
        (0..3).for_each(|_| master.round());
        let allocations = measure(|| master.round()).count_total as f64 / members as f64;
        row(&format!("a round of a master of {members}"), allocations, "allocations a member");
        let time = micros(5, || master.round());
        row(&format!("a round of a master of {members}"), time / 1e3, "ms");
        row(&format!("a round of a master of {members}, of a core at 200 ms"), time / 2e5 * 100.0, "%");
    }
}

fn joins() {
    let mut last: Option<(usize, f64)> = None;
    for members in [500, 1_000, 2_000, 4_000] {
        let once = || {
            let mut master = Master::new(Names::Short, true);
            let start = Instant::now();
            (0..members).for_each(|ix| master.join(ix));
            start.elapsed().as_secs_f64()
        };
        let time = (0..2).map(|_| once()).fold(f64::INFINITY, f64::min);
        row(&format!("{members} members join a master one by one"), time, "s");
        if let Some((fewer, before)) = last {
            let exponent = (time / before).ln() / (members as f64 / fewer as f64).ln();
            row(&format!("  from {fewer} to {members} it grows with the exponent"), exponent, "");
        }
        last = Some((members, time));
    }
}

/// A round of a master with and without a recorder. In a round, each member acknowledges a heartbeat, and each write is flushed.
fn recording() {
    for members in [3, 200, 1_000] {
        let mut master = Master::with_members(members, Names::Short, true);
        (0..3).for_each(|_| master.round());
        let inputs = 2.0 * (members - 1) as f64;
        let count = (20_000 / members) as u32;
        let plain = micros(count, || master.round()) * 1e3 / inputs;
        row(&format!("an input at a master of {members}, not recorded"), plain, "ns");
        let snapshot = micros(5, || drop(black_box(master.formation.snapshot())));
        row(&format!("a snapshot of a master of {members}"), snapshot / 1e3, "ms");
        row("  its size", master.formation.snapshot().len() as f64 / 1e3, "KB");
        master.recording = Some(Recording::of(&master.formation, master.now));
        let recorded = micros(count, || {
            master.round();
            if let Some(recording) = &mut master.recording {
                drop(black_box(recording.take()));
            }
        });
        row("  recorded, an input takes more", recorded * 1e3 / inputs - plain, "ns");
        let mut recording = Recording::of(&master.formation, master.now);
        let begin = recording.take().len();
        master.recording = Some(recording);
        (0..1_000).for_each(|_| master.round());
        let file = master.recording.as_mut().map(Recording::take).unwrap_or_default();
        assert!(begin > 0);
        let seconds = 1_000.0 * 0.2;
        row("  recorded, at 5 rounds in a second", file.len() as f64 / 1e3 / seconds, "KB/s");
        row("  an input takes in the file", file.len() as f64 / 1_000.0 / inputs, "B");
    }
}
