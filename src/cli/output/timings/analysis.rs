//! What the timings say: which tasks the total was made of, and what each kind cost.

use std::time::Duration;

use super::{Row, Standing};
use crate::progress::TaskKind;

/// Every kind, in the order of a build.
pub(super) const KINDS: [TaskKind; 7] = [
    TaskKind::Resolve,
    TaskKind::Compile,
    TaskKind::Download,
    TaskKind::Step,
    TaskKind::Layer,
    TaskKind::Upload,
    TaskKind::Export,
];

/// Two tasks are taken as one after the other when the second began this soon.
const HANDOVER: Duration = Duration::from_millis(2);

/// The tasks that one kind had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KindSummary {
    pub tasks: usize,
    pub skipped: usize,
    pub bytes: u64,
    /// The spans during which at least one task ran, in order and apart.
    pub spans: Vec<(Duration, Duration)>,
}

impl KindSummary {
    /// The time during which at least one task ran.
    pub fn busy(&self) -> Duration {
        self.spans.iter().map(|(began, ended)| ended.saturating_sub(*began)).sum()
    }
}

/// Sums up the tasks of `kind`.
pub(super) fn summarize(rows: &[Row], kind: TaskKind) -> KindSummary {
    let mut summary = KindSummary::default();
    // The rows come in the order in which they began, so spans only grow at the end.
    for row in rows.iter().filter(|row| row.task.kind == kind) {
        summary.tasks += 1;
        summary.bytes = summary.bytes.saturating_add(row.task.bytes);
        if matches!(row.standing, Standing::Skipped(_)) {
            summary.skipped += 1;
            continue;
        }
        match summary.spans.last_mut() {
            Some((_, ended)) if row.task.began <= *ended => *ended = row.ended.max(*ended),
            _ => summary.spans.push((row.task.began, row.ended)),
        }
    }
    summary
}

/// The chain of tasks that led to the end, the first one first, as indexes of `rows`.
///
/// Events do not say what waited for what. The chain goes back from the task that ended last,
/// each time to the one that ended last before the next began: shortening a task off the chain
/// cannot have made the build end sooner.
pub(super) fn critical_chain(rows: &[Row]) -> Vec<usize> {
    let counts = |row: &Row| !matches!(row.standing, Standing::Skipped(_));
    let mut chain = Vec::new();
    let mut limit = (Duration::MAX, Duration::MAX);
    loop {
        let (ended_by, began_before) = limit;
        let before = rows.iter().enumerate().filter(|(_, row)| {
            counts(row) && row.ended <= ended_by && row.task.began < began_before
        });
        let Some((index, row)) =
            before.max_by_key(|(index, row)| (row.ended, row.time(), std::cmp::Reverse(*index)))
        else {
            break;
        };
        chain.push(index);
        limit = (row.task.began.saturating_add(HANDOVER), row.task.began);
    }
    chain.reverse();
    chain
}

/// A round distance between marks on an axis of length `total`, for about eight of them.
pub(super) fn axis_step(total: Duration) -> Duration {
    const SECONDS: [u64; 11] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900];
    let wanted = total / 8;
    let mut micros = 1000_u64;
    while micros < 1_000_000 {
        for factor in [1, 2, 5] {
            let step = Duration::from_micros(micros * factor);
            if step >= wanted {
                return step;
            }
        }
        micros *= 10;
    }
    let listed = SECONDS.iter().map(|seconds| Duration::from_secs(*seconds));
    let hours = wanted.as_secs().div_ceil(1800).max(1);
    listed.into_iter().find(|step| *step >= wanted).unwrap_or(Duration::from_secs(hours * 1800))
}

#[cfg(test)]
mod tests {
    use super::super::super::ledger::Running;
    use super::*;

    fn row(kind: TaskKind, began: u64, ended: u64, standing: Standing) -> Row {
        let (began, ended) = (Duration::from_millis(began), Duration::from_millis(ended));
        let name = String::new();
        let task = Running { kind, name, total_bytes: None, bytes: 7, began, moved: None };
        Row { task, ended, standing }
    }

    #[test]
    fn the_chain_goes_back_from_the_last_end_through_what_ended_just_before() {
        use TaskKind::{Compile, Layer, Resolve, Upload};
        let rows = [
            row(Resolve, 0, 240, Standing::Done),
            row(Compile, 5, 1900, Standing::Done),
            row(Compile, 5, 2650, Standing::Done),
            row(Layer, 1900, 2080, Standing::Done),
            row(Upload, 2080, 2700, Standing::Done),
            row(Layer, 2651, 2810, Standing::Done),
            row(Upload, 2810, 2810, Standing::Skipped("mounted")),
            row(Upload, 2811, 3300, Standing::Failed),
        ];
        assert_eq!(critical_chain(&rows), [2, 5, 7]);
        assert_eq!(critical_chain(&[]), [0; 0]);
    }

    #[test]
    fn tasks_that_overlap_at_their_ends_do_not_hold_up_the_chain() {
        let rows = [
            row(TaskKind::Layer, 0, 10, Standing::Done),
            row(TaskKind::Layer, 9, 11, Standing::Done),
            row(TaskKind::Layer, 9, 11, Standing::Done),
            row(TaskKind::Layer, 10, 10, Standing::Done),
        ];
        assert_eq!(critical_chain(&rows), [0, 1]);
    }

    #[test]
    fn overlapping_tasks_are_busy_once() {
        let rows = [
            row(TaskKind::Upload, 0, 10, Standing::Done),
            row(TaskKind::Upload, 5, 8, Standing::Done),
            row(TaskKind::Upload, 9, 20, Standing::Done),
            row(TaskKind::Upload, 25, 25, Standing::Skipped("exists")),
            row(TaskKind::Layer, 0, 100, Standing::Done),
            row(TaskKind::Upload, 30, 31, Standing::Failed),
        ];
        let summary = summarize(&rows, TaskKind::Upload);
        assert_eq!((summary.tasks, summary.skipped, summary.bytes), (5, 1, 35));
        assert_eq!(summary.busy(), Duration::from_millis(21));
    }

    #[test]
    fn an_axis_has_a_handful_of_round_marks() {
        for (millis, expect) in [
            (0, 1),
            (8, 1),
            (70, 10),
            (3_400, 500),
            (9_000, 2_000),
            (70_000, 10_000),
            (100_000, 15_000),
            (3_600_000, 600_000),
            (36_000_000, 5_400_000),
        ] {
            let step = axis_step(Duration::from_millis(millis));
            assert_eq!(step, Duration::from_millis(expect), "{millis}");
        }
    }
}
