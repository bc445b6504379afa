//! Times. Each figure of the core stands beside that of a baseline in the same run.

use divan::{Bencher, black_box};
use formation_benches::{
    Names,
    follower::Follower,
    frames::{Stream, plain, plain_page},
    master::Master,
};

fn main() {
    divan::main();
}

/// How many heartbeats a stream has. Divide by it.
const HEARTBEATS: u64 = 1_000;
const CHUNKS: [usize; 3] = [64 << 10, 100, 1];

#[divan::bench(args = CHUNKS)]
fn decode_1000_heartbeats(bencher: Bencher<'_, '_>, chunk: usize) {
    let mut stream = Stream::of_heartbeats(HEARTBEATS, chunk);
    bencher.bench_local(|| stream.read());
}

#[divan::bench(args = CHUNKS)]
fn decode_1000_heartbeats_codec_and_postcard(bencher: Bencher<'_, '_>, chunk: usize) {
    let mut stream = Stream::of_heartbeats(HEARTBEATS, chunk);
    bencher.bench_local(|| stream.read_baseline());
}

#[divan::bench(args = [Names::Short, Names::Long])]
fn decode_page_of_100(bencher: Bencher<'_, '_>, names: Names) {
    let mut stream = Stream::of_page(100, names, 64 << 10);
    bencher.bench_local(|| stream.read());
}

#[divan::bench(args = [Names::Short, Names::Long])]
fn decode_page_of_100_postcard_owned(bencher: Bencher<'_, '_>, names: Names) {
    let body = plain_page(100, names);
    bencher.bench_local(|| postcard::from_bytes::<plain::Page<plain::Owned>>(black_box(&body)));
}

#[divan::bench(args = [Names::Short, Names::Long])]
fn decode_page_of_100_postcard_borrowed(bencher: Bencher<'_, '_>, names: Names) {
    let body = plain_page(100, names);
    bencher.bench_local(|| drop(postcard::from_bytes::<plain::Page<plain::Borrowed<'_>>>(black_box(&body))));
}

#[divan::bench]
fn heartbeat_and_flush(bencher: Bencher<'_, '_>) {
    let mut follower = Follower::new(3, Names::Short, false);
    bencher.bench_local(|| {
        let heartbeat = follower.heartbeat();
        follower.beat(heartbeat);
    });
}

#[divan::bench(args = [100, 1_000], sample_count = 20)]
fn round_of_a_master(bencher: Bencher<'_, '_>, members: usize) {
    let mut master = Master::with_members(members, Names::Short, true);
    bencher.bench_local(|| master.round());
}
