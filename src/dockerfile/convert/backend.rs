//! The cache in a registry, as the engine asks it.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::remote::Remote;
use crate::engine::{Backend, Entry, LayerRecord, StepKind};
use crate::error::Result;

impl Backend for Remote {
    fn keeps(&self, kind: StepKind) -> bool {
        Remote::keeps(self, kind)
    }

    fn find<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Entry>> {
        Remote::find(self, key).boxed()
    }

    fn find_defined<'a>(&'a self, definition: &'a str) -> BoxFuture<'a, Option<Entry>> {
        self.find_asked(definition).boxed()
    }

    fn fetch<'a>(&'a self, key: &'a str, layer: &'a LayerRecord) -> BoxFuture<'a, Result<()>> {
        Remote::fetch(self, key, layer).boxed()
    }

    fn put<'a>(&'a self, entry: &'a Entry, definition: Option<&'a str>) -> BoxFuture<'a, ()> {
        Remote::put(self, entry, definition).boxed()
    }

    fn put_defined<'a>(&'a self, key: &'a str, definition: &'a str) -> BoxFuture<'a, ()> {
        self.put_asked(key, definition).boxed()
    }
}
