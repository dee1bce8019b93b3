//! Text to tokens and back.

use std::path::Path;

use tokenizers::Tokenizer;

use crate::local::LocalError;

/// The model's tokenizer.
#[derive(Debug)]
pub(crate) struct Tokens(Tokenizer);

/// Tokens on their way to text: characters come out only when they are whole.
#[derive(Debug)]
pub(crate) struct TextStream<'a> {
    tokens: &'a Tokenizer,
    pending: Vec<u32>,
    given: usize,
}

impl Tokens {
    pub(crate) fn load(folder: &Path) -> Result<Self, LocalError> {
        let path = folder.join("tokenizer.json");
        Tokenizer::from_file(&path)
            .map(Self)
            .map_err(|fault| LocalError::Unavailable { reason: format!("tokenizer: {fault}") })
    }

    /// The tokens of a rendered prompt; the template has written the special ones.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, LocalError> {
        let encoded = self.0.encode(text, false).map_err(failed)?;
        Ok(encoded.get_ids().to_vec())
    }

    pub(crate) fn stream(&self) -> TextStream<'_> {
        TextStream { tokens: &self.0, pending: Vec::new(), given: 0 }
    }
}

/// Tokens after which the text so far is taken as settled, so that decoding stays short.
const SETTLED_TOKENS: usize = 16;

impl TextStream<'_> {
    /// Takes one token and gives the text that has become whole.
    pub(crate) fn push(&mut self, token: u32) -> Result<String, LocalError> {
        self.pending.push(token);
        let text = self.tokens.decode(&self.pending, true).map_err(failed)?;
        if text.ends_with('\u{fffd}') {
            return Ok(String::new());
        }
        let fresh = text.get(self.given..).unwrap_or_default().to_owned();
        self.given = text.len();
        if self.pending.len() >= SETTLED_TOKENS {
            self.pending.clear();
            self.given = 0;
        }
        Ok(fresh)
    }

    /// What is left at the end, even if a character is not whole.
    pub(crate) fn rest(&mut self) -> String {
        let text = self.tokens.decode(&self.pending, true).unwrap_or_default();
        text.get(self.given..).unwrap_or_default().to_owned()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape `map_err` asks for")]
fn failed(fault: tokenizers::Error) -> LocalError {
    LocalError::Failed { reason: fault.to_string() }
}
