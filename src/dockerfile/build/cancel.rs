//! The end of steps that nobody waits for any more: another stage failed, or the build was interrupted.
//!
//! A program is waited for on a thread, which does not hear that its build is gone: so that end is told
//! to the program, and the thread sees it end as it would see any other end.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorKind};
use crate::progress::Task;
use crate::sandbox::{Child, Signaller};

/// Whether a step is to end, and how its program is told.
#[derive(Clone, Default)]
pub(super) struct CancelToken(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_wanted: bool,
    program: Option<Signaller>,
}

impl CancelToken {
    /// Takes a program that has begun; it is killed with all that it started when the end is wanted.
    pub(super) fn concerns(&self, program: &Child) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let program = program.signaller();
        if state.is_wanted {
            program.signal(libc::SIGKILL);
        }
        state.program = Some(program);
    }

    /// Errs once the end is wanted.
    pub(super) fn check(&self) -> Result<(), Error> {
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_wanted {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Interrupted, "run a step").because("the build has ended"))
    }

    fn want(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_wanted = true;
        if let Some(program) = state.program.take() {
            program.signal(libc::SIGKILL);
        }
    }
}

/// Somebody who waits for a step. Dropped before its end, the step is stopped.
pub(super) struct Waiting {
    task: Option<Arc<Task>>,
    cancel: CancelToken,
}

impl Waiting {
    /// Waits for the step that a task tells of.
    pub(super) fn new(task: &Arc<Task>) -> Self {
        Self { task: Some(task.clone()), cancel: CancelToken::default() }
    }

    /// What the step itself looks at.
    pub(super) fn cancel(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// Takes note that the step came to its own end.
    pub(super) fn finish(mut self) {
        self.task = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.stop();
            self.cancel.want();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Event, Outcome, Progress, Reporter, TaskKind};

    #[derive(Default)]
    struct Outcomes(Mutex<Vec<Outcome>>);

    impl Progress for Outcomes {
        fn event(&self, event: Event) {
            if let Event::Finished { outcome, .. } = event {
                self.0.lock().unwrap().push(outcome);
            }
        }
    }

    #[test]
    fn a_step_is_stopped_when_nobody_waits_for_it_and_else_ends_by_itself() {
        let outcomes = Arc::new(Outcomes::default());
        let reporter = Reporter::new(outcomes.clone());
        for is_over in [false, true] {
            let task = Arc::new(reporter.start(TaskKind::Step, "RUN", None));
            let waiting = Waiting::new(&task);
            let cancel = waiting.cancel();
            cancel.check().unwrap();
            if is_over {
                waiting.finish();
                cancel.check().unwrap();
            } else {
                drop(waiting);
                assert_eq!(cancel.check().unwrap_err().kind(), ErrorKind::Interrupted);
            }
        }
        assert_eq!(*outcomes.0.lock().unwrap(), [Outcome::Stopped, Outcome::Failed]);
    }
}
