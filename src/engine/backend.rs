//! Where results of steps are shared with other machines.

use futures_util::future::BoxFuture;

use super::op::StepKind;
use super::pack::LayerRecord;
use crate::error::Result;

/// What is known elsewhere of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The step's key.
    pub key: String,
    /// When it was executed, as histories write it.
    pub created: String,
    /// When it really was executed, in seconds since 1970.
    pub executed: i64,
    /// What it added.
    pub layer: LayerRecord,
    /// Which results of programs it was made of, where it was made of some.
    pub made_of: Option<String>,
}

/// A place that holds results of steps. Nothing that goes wrong with it ends a build.
pub trait Backend: Send + Sync {
    /// Whether steps of a kind are kept here.
    fn keeps(&self, kind: StepKind) -> bool;

    /// What is known of the step with a key.
    fn find<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Entry>>;

    /// What is known of a step that was found by its definition.
    fn find_defined<'a>(&'a self, definition: &'a str) -> BoxFuture<'a, Option<Entry>>;

    /// Brings the layer of a step into the store.
    fn fetch<'a>(&'a self, key: &'a str, layer: &'a LayerRecord) -> BoxFuture<'a, Result<()>>;

    /// Puts the result of a step there, also under its definition.
    fn put<'a>(&'a self, entry: &'a Entry, definition: Option<&'a str>) -> BoxFuture<'a, ()>;

    /// Puts a result that is there also under a definition.
    fn put_defined<'a>(&'a self, key: &'a str, definition: &'a str) -> BoxFuture<'a, ()>;
}
