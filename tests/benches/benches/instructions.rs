//! Instructions, counted by Callgrind. They do not depend on what else runs on the machine.

use std::hint::black_box;

use bytes::Bytes;
use formation_benches::{Names, follower::Follower, frames::Stream, master::Master};
use gungraun::{library_benchmark, library_benchmark_group, main};

/// How many heartbeats a stream has. Divide by it.
const HEARTBEATS: u64 = 1_000;

fn heartbeats(chunk: usize) -> Stream {
    let mut stream = Stream::of_heartbeats(HEARTBEATS, chunk);
    stream.read();
    stream.read_baseline();
    stream
}

#[library_benchmark]
#[bench::chunks_64k(args = (64 << 10), setup = heartbeats)]
#[bench::chunks_100(args = (100), setup = heartbeats)]
#[bench::chunks_1(args = (1), setup = heartbeats)]
fn decode_1000_heartbeats(mut stream: Stream) -> Stream {
    stream.read();
    stream
}

#[library_benchmark]
#[bench::chunks_64k(args = (64 << 10), setup = heartbeats)]
#[bench::chunks_100(args = (100), setup = heartbeats)]
#[bench::chunks_1(args = (1), setup = heartbeats)]
fn decode_1000_heartbeats_baseline(mut stream: Stream) -> Stream {
    stream.read_baseline();
    stream
}

fn page(names: Names) -> Stream {
    Stream::of_page(100, names, 64 << 10)
}

#[library_benchmark]
#[bench::short(args = (Names::Short), setup = page)]
#[bench::long(args = (Names::Long), setup = page)]
fn decode_page_of_100(mut stream: Stream) -> Stream {
    stream.read();
    stream
}

fn with_page(names: Names) -> (Follower, Bytes) {
    let mut follower = Follower::without_view(100, names, true);
    follower.settle();
    let page = follower.snapshot(100);
    (follower, page)
}

#[library_benchmark]
#[bench::short(args = (Names::Short), setup = with_page)]
#[bench::long(args = (Names::Long), setup = with_page)]
fn take_page_of_100((mut follower, page): (Follower, Bytes)) -> Follower {
    follower.receive(page);
    follower
}

fn with_delta(members: usize, count: usize) -> (Follower, Bytes) {
    let mut follower = Follower::new(members, Names::Short, true);
    follower.settle();
    let delta = follower.delta(count);
    (follower, delta)
}

#[library_benchmark]
#[bench::of_100_on_100(args = (100, 100), setup = with_delta)]
#[bench::of_100_on_1000(args = (1_000, 100), setup = with_delta)]
#[bench::of_1_on_1000(args = (1_000, 1), setup = with_delta)]
fn take_delta((mut follower, delta): (Follower, Bytes)) -> Follower {
    follower.receive(delta);
    follower
}

fn with_page_in_bytes(names: Names) -> (Follower, Vec<Bytes>) {
    let (follower, page) = with_page(names);
    let bytes = (0..page.len()).map(|at| page.slice(at..=at)).collect();
    (follower, bytes)
}

#[library_benchmark]
#[bench::short(args = (Names::Short), setup = with_page_in_bytes)]
fn take_page_of_100_in_1_byte_chunks((mut follower, bytes): (Follower, Vec<Bytes>)) -> Follower {
    for chunk in bytes {
        follower.receive(chunk);
    }
    follower
}

fn with_heartbeat(_: ()) -> (Follower, Bytes) {
    let mut follower = Follower::new(3, Names::Short, false);
    for _ in 0..5 {
        let heartbeat = follower.heartbeat();
        follower.beat(heartbeat);
    }
    let heartbeat = follower.heartbeat();
    (follower, heartbeat)
}

#[library_benchmark]
#[bench::one(args = (()), setup = with_heartbeat)]
fn handle_heartbeat((mut follower, heartbeat): (Follower, Bytes)) -> Follower {
    follower.receive(heartbeat);
    follower
}

fn master(members: usize) -> Master {
    Master::with_members(members, Names::Short, true)
}

#[library_benchmark]
#[bench::of_1000(args = (1_000), setup = master)]
fn round_of_a_master(mut master: Master) -> Master {
    black_box(&mut master).round();
    master
}

#[library_benchmark]
#[bench::on_1000(args = (1_000), setup = master)]
fn one_more_joins(mut master: Master) -> Master {
    black_box(&mut master).join(5_000);
    master
}

library_benchmark_group!(
    name = work,
    benchmarks = [
        decode_1000_heartbeats,
        decode_1000_heartbeats_baseline,
        decode_page_of_100,
        take_page_of_100,
        take_delta,
        take_page_of_100_in_1_byte_chunks,
        handle_heartbeat,
        round_of_a_master,
        one_more_joins,
    ]
);

main!(library_benchmark_groups = work);
