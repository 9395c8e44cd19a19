//! How much memory `go` takes before it collects garbage.
//!
//! A compiler or linker that lives for a tenth of a second spends a fifth of its time on garbage that its
//! end would take away. Where little is compiled again and there is memory, that is left out. What is
//! compiled does not depend on it.

use std::path::Path;

use super::Builder;
use super::freshness::Recorded;

/// How many percent of what is in use may become garbage before it is collected; 100 where nobody says it.
const PERCENT: &str = "400";

/// The variables with which users say that themselves.
const OWN: [&str; 2] = ["GOGC", "GOMEMLIMIT"];

/// A linker needs a dozen times the size of a program if it never collects garbage.
const LARGEST_PROGRAM: u64 = 64 << 20;

/// What must be free for each process. The compiler takes more than 1 GiB for the largest packages alone.
const NEEDED: u64 = 2 << 30;

/// Where control groups say how much memory there may be.
const LIMITS: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

impl Builder {
    /// The same, which collects garbage seldom where programs of an earlier build are small, and the user
    /// does not say how often.
    pub(super) fn with_room(&self, recorded: Option<&Recorded>) -> Self {
        let mut builder = self.clone();
        let is_own = OWN.iter().any(|name| self.variable(name).is_some());
        let are_small = |recorded: &Recorded| {
            let mut sizes = recorded.programs.values().map(super::Program::size);
            !recorded.programs.is_empty() && sizes.all(|size| size <= LARGEST_PROGRAM)
        };
        if !is_own && recorded.is_some_and(are_small) && has_room() {
            builder.toolchain.set_variable(OWN[0], PERCENT);
        }
        builder
    }
}

/// Whether there is memory for a process on each processor.
fn has_room() -> bool {
    let read = |path: &str| fs_err::read_to_string(Path::new(path)).ok();
    let limits = LIMITS.map(read);
    let processes = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let room = room(&read("/proc/meminfo").unwrap_or_default(), limits.iter().flatten());
    room.is_some_and(|room| room / processes >= NEEDED)
}

/// The memory that is free, by `/proc/meminfo`, and no more than limits allow in all.
fn room<'a>(meminfo: &str, limits: impl Iterator<Item = &'a String>) -> Option<u64> {
    let free = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free: u64 = free.trim().strip_suffix("kB")?.trim().parse().ok()?;
    // One that is no number is no limit.
    let limits = limits.filter_map(|text| text.trim().parse::<u64>().ok());
    limits.chain([free.saturating_mul(1024)]).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_no_more_than_any_limit() {
        let meminfo = "MemTotal:       24689372 kB\nMemAvailable:   4194304 kB\nSwapTotal: 0 kB\n";
        let gib = 1 << 30;
        let unlimited = "9223372036854771712\n";
        for (limits, expected) in [
            (&[][..], 4 * gib),
            (&["max\n"], 4 * gib),
            (&["1073741824\n"], gib),
            (&["max\n", unlimited], 4 * gib),
            (&["8589934592\n", "2147483648\n"], 2 * gib),
        ] {
            let limits: Vec<String> = limits.iter().map(ToString::to_string).collect();
            assert_eq!(room(meminfo, limits.iter()), Some(expected), "{limits:?}");
        }
        assert_eq!(room("MemTotal: 1 kB\n", [].iter()), None);
    }
}
