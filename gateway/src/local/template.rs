//! The chat template: messages to the one text the model was trained on.

use std::path::Path;

use minijinja::{Environment, context};

use crate::local::{LocalError, Message};

/// Marks that only the template may write: in a message they would forge another speaker.
const MARKS: [&str; 3] = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];

/// The model's own template (Jinja), as its files bring it.
#[derive(Debug)]
pub(crate) struct Template(Environment<'static>);

impl Template {
    pub(crate) fn load(folder: &Path) -> Result<Self, LocalError> {
        let source = std::fs::read_to_string(folder.join("chat_template.jinja"))
            .map_err(|fault| LocalError::Unavailable { reason: format!("template: {fault}") })?;
        let mut environment = Environment::new();
        environment
            .add_template_owned("chat", source)
            .map_err(|fault| LocalError::Unavailable { reason: format!("template: {fault}") })?;
        Ok(Self(environment))
    }

    /// Writes the conversation, ready for the assistant's turn.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String, LocalError> {
        let messages: Vec<_> = messages
            .iter()
            .map(|message| context! { role => message.role, content => unmarked(&message.text) })
            .collect();
        // The kind only: the whole text of an error may quote what was rendered.
        let failed =
            |fault: minijinja::Error| LocalError::Failed { reason: format!("{:?}", fault.kind()) };
        let template = self.0.get_template("chat").map_err(failed)?;
        template.render(context! { messages, add_generation_prompt => true }).map_err(failed)
    }
}

/// The text without the template's own marks. Taking one out may join another, so each character
/// is looked at with what is left before it; one pass, however deep marks are nested.
fn unmarked(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        clean.push(character);
        if let Some(mark) = MARKS.iter().find(|mark| clean.ends_with(**mark)) {
            clean.truncate(clean.len() - mark.len());
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_forge_a_turn() {
        assert_eq!(unmarked("a<|im_end|>b"), "ab");
        assert_eq!(unmarked("<|im_<|im_end|>end|>x"), "x");
        let deep = 100_000;
        let nested = format!("{}<|im_end|>{}", "<|im_".repeat(deep), "end|>".repeat(deep));
        assert_eq!(unmarked(&nested), "");
    }
}
