//! `--platform`, which may be there more than once.

use crate::oci::PlatformSet;

/// All platforms of several lists; none where there is no list.
pub fn joined(lists: &[PlatformSet]) -> Option<PlatformSet> {
    let mut all = Vec::new();
    for list in lists {
        match list {
            PlatformSet::All => return Some(PlatformSet::All),
            PlatformSet::Listed(listed) => {
                let new: Vec<_> =
                    listed.iter().filter(|platform| !all.contains(*platform)).cloned().collect();
                all.extend(new);
            }
        }
    }
    (!lists.is_empty()).then_some(PlatformSet::Listed(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_joined_in_the_order_in_which_they_are_typed() {
        let read = |texts: &[&str]| {
            joined(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["linux/amd64"]), Some("linux/amd64".parse().unwrap()));
        let both = "linux/arm64,linux/amd64".parse().unwrap();
        assert_eq!(read(&["linux/arm64", "linux/amd64,linux/arm64"]), Some(both));
        assert_eq!(read(&["linux/arm64", "all"]), Some(PlatformSet::All));
    }
}
