//! What differs between two times, for people: names, and no values.

use std::collections::BTreeMap;

/// How many names of one kind are told.
const MOST_NAMES: usize = 10;

/// Names what changed, was added and was removed, a few of each.
pub fn changes<V: PartialEq>(
    before: &BTreeMap<String, V>,
    now: &BTreeMap<String, V>,
) -> Vec<String> {
    let changed = now.iter().filter(|(name, value)| before.get(*name).is_some_and(|b| b != *value));
    let added = now.keys().filter(|name| !before.contains_key(*name));
    let removed = before.keys().filter(|name| !now.contains_key(*name));
    let mut all = Vec::new();
    tell(&mut all, changed.map(|(name, _)| name), "changed");
    tell(&mut all, added, "was added");
    tell(&mut all, removed, "was removed");
    all
}

fn tell<'a>(all: &mut Vec<String>, names: impl Iterator<Item = &'a String>, what: &str) {
    let names: Vec<&String> = names.collect();
    all.extend(names.iter().take(MOST_NAMES).map(|name| format!("{name} {what}")));
    if let Some(more) = names.len().checked_sub(MOST_NAMES).filter(|more| *more > 0) {
        all.push(format!("{more} more like that"));
    }
}

/// How near two times are to each other: what they share counts first, then what only one of them has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nearness {
    shared: usize,
    unlike: std::cmp::Reverse<usize>,
}

impl Nearness {
    /// Takes in one input that both times have.
    #[must_use]
    pub fn and(self, is_same: bool) -> Self {
        let Self { shared, unlike } = self;
        if is_same {
            Self { shared: shared + 1, unlike }
        } else {
            Self { shared, unlike: std::cmp::Reverse(unlike.0 + 1) }
        }
    }

    /// Takes in inputs that have names.
    #[must_use]
    pub fn and_of<V: PartialEq>(
        self,
        before: &BTreeMap<String, V>,
        now: &BTreeMap<String, V>,
    ) -> Self {
        let in_both = now.iter().filter_map(|(name, value)| Some(before.get(name)? == value));
        let (shared, changed) = in_both.fold((0, 0), |(shared, changed), is_same| {
            if is_same { (shared + 1, changed) } else { (shared, changed + 1) }
        });
        let unlike = before.len() + now.len() - 2 * shared - changed;
        let all = (self.shared + shared, self.unlike.0 + unlike);
        Self { shared: all.0, unlike: std::cmp::Reverse(all.1) }
    }
}

/// The nearest of some earlier times, the newest first; of equally near ones the newest.
pub fn nearest<T>(earlier: Vec<T>, nearness: impl Fn(&T) -> Nearness) -> Option<T> {
    let mut all = earlier.into_iter();
    let mut best = all.next()?;
    let mut best_nearness = nearness(&best);
    for other in all {
        let its = nearness(&other);
        if its > best_nearness {
            (best, best_nearness) = (other, its);
        }
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, u8)]) -> BTreeMap<String, u8> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn names_are_told_and_many_are_counted() {
        let (before, now) =
            (map(&[("a", 1), ("b", 1), ("c", 1)]), map(&[("a", 1), ("b", 2), ("d", 1)]));
        assert_eq!(changes(&before, &now), ["b changed", "d was added", "c was removed"]);
        let many: BTreeMap<String, u8> = (0..25).map(|n| (format!("{n:02}"), 0)).collect();
        let told = changes(&BTreeMap::new(), &many);
        assert_eq!((told.len(), told[10].as_str()), (11, "15 more like that"));
    }

    #[test]
    fn the_nearest_shares_most_and_of_equal_ones_it_is_the_newest() {
        let now = map(&[("a", 1), ("b", 1), ("c", 1)]);
        for (earlier, expected) in [
            (vec![map(&[("a", 2), ("b", 2), ("c", 1)]), map(&[("a", 1), ("b", 1), ("c", 2)])], 1),
            (vec![map(&[("a", 1), ("b", 1), ("c", 2)]), map(&[("a", 1), ("b", 2), ("c", 1)])], 0),
            (
                vec![
                    map(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]),
                    map(&[("a", 1), ("b", 1), ("c", 1)]),
                ],
                1,
            ),
            (vec![map(&[("a", 1)]), map(&[("a", 1), ("b", 2), ("c", 2), ("d", 1)])], 0),
        ] {
            let numbered: Vec<_> = earlier.into_iter().enumerate().collect();
            let of = |(_, before): &(usize, _)| Nearness::default().and_of(before, &now);
            assert_eq!(nearest(numbered, of).unwrap().0, expected);
        }
        assert!(nearest(Vec::<u8>::new(), |_| Nearness::default()).is_none());
    }
}
