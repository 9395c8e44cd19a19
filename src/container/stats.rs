//! What the processes of a container take of the machine, as `/proc` tells everybody.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::entry::{ContainerInfo, Status};
use super::process::Stat;
use crate::error::{Cannot as _, Result};

/// What the processes of a container had taken at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Instant,
    /// The ticks of each process, told apart by its id and its beginning.
    busy: BTreeMap<(i32, u64), u64>,
    processes: u64,
    resident_bytes: u64,
}

/// What a container takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Time on processors in hundredths of the time that went by; two busy processors make 200.
    pub processor_percent: f64,
    /// Memory that its processes hold, shared parts counted for each.
    pub resident_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
}

impl Sample {
    /// Looks at the processes of a running container; `None` where it does not run.
    pub fn take(seen: &ContainerInfo) -> Result<Option<Self>> {
        let Status::Running(running) = &seen.status else { return Ok(None) };
        if running.first.open().is_none() {
            return Ok(None);
        }
        let all = read_all().cannot(|| "look at processes")?;
        // Without process ids of its own, orphans go to the parent of the first process.
        let own_ids = seen.config.isolation.has_namespaces();
        let parent = all.get(&running.first.pid).map(|stat| stat.parent);
        let root = if own_ids { running.first.pid } else { parent.unwrap_or(running.first.pid) };
        let mut sample =
            Self { at: Instant::now(), busy: BTreeMap::new(), processes: 0, resident_bytes: 0 };
        for (&pid, stat) in &all {
            let is_ours = pid != running.first.pid && pid != root && descends(&all, pid, root);
            if is_ours && !stat.zombie {
                sample.busy.insert((pid, stat.began), stat.busy);
                sample.processes += stat.threads;
                sample.resident_bytes += stat.resident_pages * rustix::param::page_size() as u64;
            }
        }
        Ok(Some(sample))
    }

    /// What was taken since an earlier moment.
    pub fn since(&self, earlier: &Self) -> Usage {
        let ticks: u64 = self
            .busy
            .iter()
            .map(|(process, busy)| {
                busy.saturating_sub(earlier.busy.get(process).copied().unwrap_or(0))
            })
            .sum();
        Usage {
            processor_percent: percent(ticks, self.at.duration_since(earlier.at)),
            resident_bytes: self.resident_bytes,
            processes: self.processes,
        }
    }
}

fn percent(ticks: u64, time: Duration) -> f64 {
    let per_second =
        f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100));
    let busy = f64::from(u32::try_from(ticks).unwrap_or(u32::MAX)) / per_second;
    if time.is_zero() { 0.0 } else { 100.0 * busy / time.as_secs_f64() }
}

fn read_all() -> std::io::Result<BTreeMap<i32, Stat>> {
    let entries = fs_err::read_dir("/proc")?;
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    Ok(ids.filter_map(|pid| Some((pid, Stat::read(pid)?))).collect())
}

/// Whether one process was started by another, or by what that one started.
fn descends(all: &BTreeMap<i32, Stat>, mut pid: i32, from: i32) -> bool {
    // A process that ends meanwhile may leave a circle of reused ids: no chain is longer than all.
    for _ in 0..all.len() {
        match all.get(&pid) {
            Some(stat) if stat.parent == from => return true,
            Some(stat) => pid = stat.parent,
            None => return false,
        }
    }
    false
}

/// The memory that the machine has.
pub fn machine_bytes() -> u64 {
    let text = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes =
        line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_counts_from_the_earlier_look_and_for_new_processes_from_their_beginning() {
        let at = Instant::now();
        let sample = |seconds, busy: &[((i32, u64), u64)]| Sample {
            at: at + Duration::from_secs(seconds),
            busy: busy.iter().copied().collect(),
            processes: 2,
            resident_bytes: 7,
        };
        let earlier = sample(0, &[((1, 1), 500), ((2, 1), 90)]);
        let per_second = rustix::param::clock_ticks_per_second();
        let later = sample(2, &[((1, 1), 500 + per_second), ((2, 9), per_second)]);
        let usage = later.since(&earlier);
        assert!((usage.processor_percent - 100.0).abs() < 0.01, "{usage:?}");
        assert_eq!((usage.processes, usage.resident_bytes), (2, 7));
    }

    #[test]
    fn only_what_a_process_started_descends_from_it() {
        let line = |parent| {
            let text = format!("1 (a) S {parent} 0 0 0 0 0 0 0 0 0 1 1 0 0 0 0 1 0 1 0 1");
            Stat::parse(&text).unwrap()
        };
        let all = [(10, line(1)), (11, line(10)), (12, line(11)), (20, line(1)), (30, line(30))]
            .into_iter()
            .collect();
        assert!(descends(&all, 12, 10) && descends(&all, 11, 10));
        assert!(!descends(&all, 20, 10) && !descends(&all, 10, 10) && !descends(&all, 30, 10));
    }
}
