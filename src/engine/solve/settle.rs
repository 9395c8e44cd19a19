//! Ops that the files which they work on have a say in.
//!
//! Such a program gets a variable where its files ask for it. They say so for ever, for equal keys mean
//! equal files: the answer is an alias from the key without the variable to the one that counts. So files
//! are looked at once, when the program is about to run on them anyway.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{ALIASES, Job, Solver};
use crate::engine::basis::Basis;
use crate::engine::execute::{Inputs, OpError, Prepared};
use crate::engine::op::Op;
use crate::engine::output::StepOutput;
use crate::error::Result;

impl Solver {
    /// The op with the variable that its files ask for; none where they do not.
    pub(super) async fn settled(
        &self,
        job: &Job<'_>,
        prepared: &dyn Prepared,
    ) -> Result<Option<Arc<Op>>, OpError> {
        let Some(other) = job.op.with_alternative() else { return Ok(None) };
        let digests = prepared.digests();
        let (plain, key) = (job.op.key(&digests), other.key(&digests));
        let record = job.inputs.base.record_key(&plain);
        let store = &self.options.transport.store;
        let noted = record.as_ref().and_then(|record| store.get_record::<String>(ALIASES, record));
        let takes_other = match noted {
            Some(noted) => noted == key,
            None if job.passed_over.is_none() && self.has_output(job, &key).await? => true,
            None if job.passed_over.is_none() && self.has_output(job, &plain).await? => {
                return Ok(None);
            }
            None => {
                self.began.send_replace(true);
                let takes_other = prepared.wants_alternative().await?;
                if let Some(record) = &record {
                    store.put_record(ALIASES, record, if takes_other { &key } else { &plain })?;
                }
                takes_other
            }
        };
        if !takes_other {
            return Ok(None);
        }
        self.say_once(job.inputs);
        Ok(Some(Arc::new(other)))
    }

    /// Whether the output for a key is known, here or to other machines.
    async fn has_output(&self, job: &Job<'_>, key: &str) -> Result<bool> {
        for basis in Basis::known(&self.table.scope) {
            if StepOutput::remembered(&self.options.transport.store, key, basis)?.is_some() {
                return Ok(true);
            }
        }
        let Some(backend) = self.backend.as_ref().filter(|it| it.keeps(job.op.kind())) else {
            return Ok(false);
        };
        Ok(backend.find(key).await.is_some())
    }

    /// Says that the variable is there, where that is worth a line.
    fn say_once(&self, inputs: &Inputs) {
        let Some(note) = &inputs.alternative_note else { return };
        if !self.noted.swap(true, Ordering::Relaxed) {
            self.options.transport.reporter.note(note);
        }
    }
}
