//! What it costs to start.

use std::time::Instant;

use fs_err as fs;
use gondola::sandbox::{Isolation, Streams};

use super::context::Context;

type Row = (&'static str, &'static [Isolation], fn(&Context));

pub const CASES: &[Row] =
    &[("starting_true_takes_ten_milliseconds_of_processor_at_most", super::NAMESPACES, start_up)];

/// An unoptimised build computes its filter of system calls slowly.
const LIMIT_MILLISECONDS: u64 = if cfg!(debug_assertions) { 30 } else { 10 };

const STARTS: u64 = 50;

/// Processor time, because on a busy machine the time that passes says little; both are printed.
fn start_up(context: &Context) {
    let spec = context.spec(&["true"]);
    let once = || {
        let begin = Instant::now();
        let streams = Streams::null().unwrap();
        let mut child = context.launcher.spawn(&spec, context.isolation, streams).unwrap();
        assert!(child.wait().unwrap().is_success());
        begin.elapsed()
    };
    let before = processor_milliseconds();
    let mut times: Vec<_> = (0..STARTS).map(|_| once()).collect();
    let mean = (processor_milliseconds() - before) / STARTS;
    times.sort();
    let (least, median) = (times[0], times[times.len() / 2]);
    println!("{}: processor {mean} ms, passed min {least:?} median {median:?}", context.isolation);
    assert!(mean <= LIMIT_MILLISECONDS, "{mean} ms");
}

/// What this process and its ended children used.
fn processor_milliseconds() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // utime, stime, cutime and cstime, in hundredths of a second.
    fields[11..15].iter().map(|field| field.parse::<u64>().unwrap() * 10).sum()
}
