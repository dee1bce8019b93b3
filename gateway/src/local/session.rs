//! The ONNX session: one sequence at a time, its keys and values handed from step to step.

use std::{path::Path, sync::OnceLock};

use ort::{
    environment::Environment,
    session::{Session as OrtSession, SessionInputValue},
    value::{DynValue, Tensor},
};

use crate::local::{LocalError, prepare::Manifest};

/// The process has one ONNX Runtime; the first session's library is the one.
static RUNTIME: OnceLock<Result<Environment, String>> = OnceLock::new();

/// Tokens of a prompt computed in one run, so that a departed client is noticed in between.
const PREFILL_TOKENS_MAX: usize = 256;

/// A loaded model and the sequence it is in.
#[derive(Debug)]
pub(crate) struct Session {
    session: OrtSession,
    /// Keys and values so far, one pair a layer, as the next run's inputs.
    past: Vec<DynValue>,
    length: usize,
    shape: Shape,
    stop_tokens: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    layers: usize,
    kv_heads: usize,
    head_size: usize,
}

impl Session {
    pub(crate) fn load(
        manifest: &Manifest,
        folder: &Path,
        runtime: &Path,
        threads: usize,
    ) -> Result<Self, LocalError> {
        let environment = environment(runtime)?;
        let session = open(environment, &folder.join("model.onnx"), threads)
            .map_err(|fault| LocalError::Unavailable { reason: fault.to_string() })?;
        let shape = Shape {
            layers: manifest.layers,
            kv_heads: manifest.kv_heads,
            head_size: manifest.head_size,
        };
        let stop_tokens = manifest.stop_tokens.clone();
        Ok(Self { session, past: Vec::new(), length: 0, shape, stop_tokens })
    }

    pub(crate) fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// Starts a new sequence with `prompt` and gives the scores of its next token; nothing where
    /// nobody wants them any more.
    pub(crate) fn begin(
        &mut self,
        prompt: &[u32],
        unwanted: impl Fn() -> bool,
    ) -> Result<Option<Vec<f32>>, LocalError> {
        self.past = self.empty_past().map_err(failed)?;
        self.length = 0;
        let mut logits = None;
        for chunk in prompt.chunks(PREFILL_TOKENS_MAX) {
            if unwanted() {
                return Ok(None);
            }
            logits = Some(self.run(chunk).map_err(failed)?);
        }
        Ok(logits)
    }

    /// Adds one token and gives the scores of the next one.
    pub(crate) fn step(&mut self, token: u32) -> Result<Vec<f32>, LocalError> {
        self.run(&[token]).map_err(failed)
    }

    fn empty_past(&self) -> ort::Result<Vec<DynValue>> {
        let shape = [1, self.shape.kv_heads, 0, self.shape.head_size];
        let allocator = self.session.allocator();
        (0..self.shape.layers * 2)
            .map(|_| Ok(Tensor::<f32>::new(allocator, shape)?.into_dyn()))
            .collect()
    }

    fn run(&mut self, tokens: &[u32]) -> ort::Result<Vec<f32>> {
        self.length += tokens.len();
        let ids: Vec<i64> = tokens.iter().map(|token| i64::from(*token)).collect();
        let mask = vec![1_i64; self.length];
        let ids = Tensor::from_array(([1, tokens.len()], ids))?;
        let mask = Tensor::from_array(([1, self.length], mask))?;
        let mut inputs: Vec<(String, SessionInputValue<'_>)> =
            vec![("input_ids".to_owned(), ids.into()), ("attention_mask".to_owned(), mask.into())];
        for (index, value) in self.past.drain(..).enumerate() {
            inputs.push((name("past_key_values", index), value.into()));
        }
        let mut outputs = self.session.run(inputs)?;
        let (_shape, logits) = outputs["logits"].try_extract_tensor::<f32>()?;
        let logits = logits.to_vec();
        for index in 0..self.shape.layers * 2 {
            let present = outputs.remove(name("present", index));
            self.past.extend(present);
        }
        Ok(logits)
    }
}

/// `present.3.key` of the seventh tensor.
fn name(prefix: &str, index: usize) -> String {
    format!("{prefix}.{}.{}", index / 2, ["key", "value"][index % 2])
}

fn environment(runtime: &Path) -> Result<&'static Environment, LocalError> {
    let made = RUNTIME.get_or_init(|| {
        let builder = ort::init_from(runtime).map_err(|fault| fault.to_string())?;
        builder.with_name("cordon").with_telemetry(false).build().map_err(|fault| fault.to_string())
    });
    made.as_ref().map_err(|fault| LocalError::Unavailable {
        reason: format!("ONNX Runtime `{}`: {fault}", runtime.display()),
    })
}

fn open(environment: &Environment, model: &Path, threads: usize) -> ort::Result<OrtSession> {
    OrtSession::builder(environment)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .commit_from_file(model)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape `map_err` asks for")]
fn failed(fault: ort::Error) -> LocalError {
    LocalError::Failed { reason: fault.to_string() }
}
