//! Work that waits for files or processes, on a thread of its own.

use crate::error::{Error, ErrorKind, Result};

/// Runs work on a thread where it may wait; a panic in it is passed on.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    blocking_or(work).await
}

/// The same for work whose errors may be others.
pub async fn blocking_or<T: Send + 'static, E: From<Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    joined(tokio::task::spawn_blocking(work).await)
}

/// What a task that has ended gives; a panic in it is passed on. Errs with
/// [`ErrorKind::Interrupted`] where the task was not let run to its end.
pub fn joined<T, E: From<Error>>(
    ended: Result<Result<T, E>, tokio::task::JoinError>,
) -> Result<T, E> {
    match ended {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::new(ErrorKind::Interrupted, "finish what was begun")
                .caused_by(error)
                .into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_goes_on_where_the_work_is_waited_for() {
        let waiting = tokio::spawn(blocking(|| -> Result<()> { panic!("of the work") }));
        let panic = waiting.await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"of the work"));
    }

    #[tokio::test]
    async fn an_error_is_the_work_s_own() {
        let failed = blocking(|| Err::<(), _>(Error::new(ErrorKind::Invalid, "do it"))).await;
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[tokio::test]
    async fn work_that_was_ended_early_is_an_interruption() {
        let task = tokio::spawn(std::future::pending::<Result<()>>());
        task.abort();
        assert_eq!(joined(task.await).unwrap_err().kind(), ErrorKind::Interrupted);
    }
}
