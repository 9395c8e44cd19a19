//! Ops that the files which they work on have a say in.
//!
//! Such a program gets a variable where its files ask for it. They say so for ever, for equal keys mean
//! equal files: the answer is an alias from the key without the variable to the one that counts. So files
//! are looked at once, when the program is about to run on them anyway.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::look_up::ALIASES;
use super::{Job, Solver};
use crate::engine::basis::Basis;
use crate::engine::execute::{Inputs, OpError, Prepared};
use crate::engine::op::{Op, StepKind};
use crate::engine::output::StepOutput;
use crate::error::Result;

/// Whether an op gets the variable that its files may ask for.
pub(super) struct Question {
    /// Its key without the variable.
    pub plain: String,
    /// Its key with it.
    pub other: String,
    /// What the store remembers the answer by, where it does.
    record: Option<String>,
}

impl Question {
    pub(super) fn new(plain: &Op, other: &Op, digests: &[Vec<u8>], inputs: &Inputs) -> Self {
        let (plain, other) = (plain.key(digests), other.key(digests));
        let record = inputs.base.record_key(&plain);
        Self { plain, other, record }
    }
}

impl Solver {
    /// The op with the variable that its files ask for; none where they do not.
    pub(super) async fn settled(
        &self,
        job: &Job<'_>,
        prepared: &dyn Prepared,
    ) -> Result<Option<Arc<Op>>, OpError> {
        let Some(other) = job.op.with_alternative() else { return Ok(None) };
        let digests = prepared.digests();
        let question = Question::new(&job.op, &other, &digests, job.inputs);
        // Other files may give another answer.
        let known = if job.on_others {
            None
        } else {
            self.answer(&question, job.passed_over.is_none()).await?
        };
        let takes_other = if let Some(known) = known {
            known
        } else {
            self.began.send_replace(true);
            let takes_other = prepared.wants_alternative().await?;
            self.put_answer(&question, takes_other)?;
            takes_other
        };
        if !takes_other {
            return Ok(None);
        }
        self.say_once(job.inputs);
        Ok(Some(Arc::new(other)))
    }

    /// Whether an op gets the variable, as far as that is known without a look at files.
    pub(super) async fn answer(
        &self,
        question: &Question,
        use_cache: bool,
    ) -> Result<Option<bool>> {
        let Question { plain, other, record } = question;
        let store = &self.options.transport.store;
        let noted = record.as_ref().and_then(|record| store.get_record::<String>(ALIASES, record));
        if let Some(noted) = noted {
            return Ok(Some(noted == *other));
        }
        if use_cache && self.has_output(other).await? {
            return Ok(Some(true));
        }
        Ok((use_cache && self.has_output(plain).await?).then_some(false))
    }

    /// Takes note of what files say.
    fn put_answer(&self, question: &Question, takes_other: bool) -> Result<()> {
        let Question { plain, other, record } = question;
        let Some(record) = record else { return Ok(()) };
        let key = if takes_other { other } else { plain };
        self.options.transport.store.put_record(ALIASES, record, key)
    }

    /// Whether the output for a key is known, here or to other machines.
    async fn has_output(&self, key: &str) -> Result<bool> {
        let (store, oldest) = (&self.options.transport.store, self.options.oldest());
        for basis in Basis::known(&self.table.scope) {
            if StepOutput::remembered(store, key, basis, oldest)?.is_some() {
                return Ok(true);
            }
        }
        let Some(backend) = self.backend.as_ref().filter(|it| it.keeps(StepKind::Run)) else {
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
