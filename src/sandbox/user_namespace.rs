//! In which user namespace this process is, by the kernel's own map of ids.

use rustix::thread::CapabilitySet;

/// Whether this process may mount and change owners within a user namespace that holds a range.
pub(super) fn holds_id_range() -> bool {
    let may_mount = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    let map = |file| fs_err::read_to_string(file).unwrap_or_default();
    let holds = |text: &str| is_within_user_namespace(text) && mapped_ids(text) > 1;
    may_mount && holds(&map("/proc/self/uid_map")) && holds(&map("/proc/self/gid_map"))
}

/// Whether no permission of a folder keeps this process out.
pub(super) fn may_look_into_any_folder() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_OVERRIDE))
}

/// Whether this process is in a user namespace other than the machine's first one.
pub(super) fn is_in_user_namespace() -> bool {
    let map = fs_err::read_to_string("/proc/self/uid_map").unwrap_or_default();
    is_within_user_namespace(&map)
}

/// The first user namespace maps every id to itself. A kernel without any has no map.
fn is_within_user_namespace(map: &str) -> bool {
    let all = ["0", "0", "4294967295"];
    !map.trim().is_empty() && !map.split_whitespace().eq(all)
}

fn mapped_ids(map: &str) -> u64 {
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_map_tells_where_a_process_is() {
        let cases = [
            ("         0          0 4294967295\n", false, 4_294_967_295),
            ("         0       1000          1\n", true, 1),
            ("         0       1000          1\n         1     100000      65536\n", true, 65537),
            ("", false, 0),
        ];
        for (map, within, count) in cases {
            assert_eq!((is_within_user_namespace(map), mapped_ids(map)), (within, count), "{map}");
        }
    }
}
