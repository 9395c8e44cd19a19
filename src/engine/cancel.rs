//! The end of steps that nobody waits for any more: another stage failed, or the build was interrupted.
//!
//! A program is waited for on a thread, which does not hear that its build is gone: so that end is told
//! to the program, and the thread sees it end as it would see any other end.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorKind};
use crate::progress::Task;

/// Whether a step is to end, and how what it started is told.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_cancelled: bool,
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl CancelToken {
    /// Has `stop` called once the step is to end, which may be at once. Only the last counts: a step
    /// runs one program at a time.
    pub fn on_cancel(&self, stop: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_cancelled {
            stop();
        } else {
            state.stop = Some(Box::new(stop));
        }
    }

    /// Errs once the step is to end.
    pub fn check(&self) -> Result<(), Error> {
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_cancelled {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Interrupted, "run a step").because("the build has ended"))
    }

    fn cancel(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_cancelled = true;
        if let Some(stop) = state.stop.take() {
            stop();
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
    pub(super) fn token(&self) -> CancelToken {
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
            self.cancel.cancel();
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
        let stopped = Arc::new(Mutex::new(0));
        for is_over in [false, true] {
            let task = Arc::new(reporter.start(TaskKind::Step, "RUN", None));
            let waiting = Waiting::new(&task);
            let token = waiting.token();
            let count = |token: &CancelToken| {
                let stopped = stopped.clone();
                token.on_cancel(move || *stopped.lock().unwrap() += 1);
            };
            count(&token);
            token.check().unwrap();
            if is_over {
                waiting.finish();
                token.check().unwrap();
            } else {
                drop(waiting);
                assert_eq!(token.check().unwrap_err().kind(), ErrorKind::Interrupted);
                // What is started too late is stopped at once.
                count(&token);
            }
        }
        assert_eq!(*stopped.lock().unwrap(), 2);
        assert_eq!(*outcomes.0.lock().unwrap(), [Outcome::Stopped, Outcome::Failed]);
    }
}
