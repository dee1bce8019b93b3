//! The local model as an upstream: the outbound bytes read back, the answer in OpenAI's format.

use std::convert::Infallible;

use bytes::Bytes;

use crate::{
    local::LocalModel,
    providers::{Attempt, Cause, Failure, Side, Traffic, Until},
    record::Clearance,
};

/// A running answer of the local model.
#[derive(Debug)]
pub(crate) struct LocalAnswer(Infallible);

pub(crate) async fn attempt(
    _model: Option<&LocalModel>,
    _clearance: &Clearance,
    _answer: Until,
) -> Result<Attempt, Failure> {
    let failure = Failure::new(Side::Gateway, Cause::LocalUnavailable, Traffic::default());
    Err(Failure { processed: false, ..failure })
}

impl LocalAnswer {
    pub(crate) async fn next(&mut self, _until: Until) -> Result<Option<Bytes>, Cause> {
        match self.0 {}
    }
}
