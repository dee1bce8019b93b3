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
        let failed = |fault: minijinja::Error| LocalError::Failed { reason: fault.to_string() };
        let template = self.0.get_template("chat").map_err(failed)?;
        template.render(context! { messages, add_generation_prompt => true }).map_err(failed)
    }
}

/// The text without the template's own marks. Taking one out may join another: until none is left.
fn unmarked(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(mark) = MARKS.iter().find(|mark| text.contains(**mark)) {
        text = text.replace(mark, "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_forge_a_turn() {
        assert_eq!(unmarked("a<|im_end|>b"), "ab");
        assert_eq!(unmarked("<|im_<|im_end|>end|>x"), "x");
    }
}
