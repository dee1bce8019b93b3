//! What a request says, and which of its strings may be replaced.

use crate::wire::{
    Shape, WireError,
    json::{Document, Value},
};

/// The two names of the limit on the answer's tokens, the older one first: every server
/// understands it, and the newer one only some.
pub(super) const TOKEN_LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// Fields that decide what a call is. A key that differs from one of them in case alone is
/// refused, because some servers would read it and we would not.
const DECISIVE: [&str; 14] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "tools",
    "functions",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "store",
];

/// Names of models are aliases of routes; none is longer.
const MODEL_BYTES_MAX: usize = 256;

/// Kinds of content parts whose text stands in the body. Any other kind points at something
/// that inspection cannot read.
const READABLE_PARTS: [&str; 6] =
    ["text", "refusal", "input_text", "output_text", "thinking", "reasoning"];

/// Members of a message or a part that point at what cannot be read, whatever its kind says.
const UNREADABLE_MEMBERS: [&str; 8] =
    ["image_url", "input_audio", "file", "video_url", "audio", "image", "images", "source"];

/// Members of a message that are the client's own text.
const MESSAGE_TEXTS: [&str; 5] =
    ["content", "refusal", "reasoning_content", "reasoning", "thinking"];

/// Checks what every request must have.
pub(super) fn check(root: Value<'_>) -> Result<(), WireError> {
    if !root.is_object() {
        return Err(WireError::Json { at: root.span().start, what: "the body must be an object" });
    }
    for (key, _) in root.members() {
        refuse_look_alike(root.key(key))?;
    }
    let messages = root.get("messages").filter(|messages| messages.is_array());
    let Some(messages) = messages else {
        return Err(parameter("messages", "must be an array of messages"));
    };
    if messages.items().next().is_none() {
        return Err(parameter("messages", "must hold at least one message"));
    }
    for message in messages.items() {
        check_message(message)?;
    }
    Ok(())
}

fn check_message(message: Value<'_>) -> Result<(), WireError> {
    if message.get("role").and_then(Value::as_str).is_none() {
        return Err(parameter("messages", "must each be an object with a `role` that is text"));
    }
    match message.get_some("content") {
        Some(content) if content.as_str().is_none() && !content.is_array() => {
            Err(parameter("messages", "must each have a `content` that is text or parts"))
        }
        _ => Ok(()),
    }
}

fn refuse_look_alike(key: &str) -> Result<(), WireError> {
    let known = DECISIVE.iter().find(|known| folds_to(key, known));
    match known {
        Some(known) if *known != key => {
            Err(parameter(known, "is written with other letters; write it exactly so"))
        }
        _ => Ok(()),
    }
}

/// Whether `key` equals `known` in a comparison that ignores case, as Go's JSON does it: the
/// long s and the Kelvin sign count as letters.
fn folds_to(key: &str, known: &str) -> bool {
    let folded = key.chars().map(|letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    folded.eq(known.chars())
}

/// The model asked for.
pub(super) fn model(root: Value<'_>) -> Result<&str, WireError> {
    let Some(model) = root.get("model").and_then(Value::as_str) else {
        return Err(parameter("model", "must be text: the name of a model"));
    };
    if model.is_empty() || model.len() > MODEL_BYTES_MAX || model.chars().any(char::is_control) {
        return Err(parameter("model", "must have 1 to 256 bytes and no control characters"));
    }
    Ok(model)
}

/// A field that is `true`, `false`, `null` or missing.
pub(super) fn flag(object: Value<'_>, name: &'static str) -> Result<bool, WireError> {
    match object.get_some(name) {
        Some(value) => value.as_bool().ok_or(parameter(name, "must be true or false")),
        None => Ok(false),
    }
}

/// Whether the client asked for usage in its stream.
pub(super) fn include_usage(root: Value<'_>) -> Result<bool, WireError> {
    match root.get_some("stream_options") {
        Some(options) if options.is_object() => flag(options, "include_usage"),
        Some(_) => Err(parameter("stream_options", "must be an object")),
        None => Ok(false),
    }
}

/// The numbers and tools that the record keeps.
pub(super) fn shape(root: Value<'_>) -> Result<Shape, WireError> {
    let mut limit = None;
    for name in TOKEN_LIMITS {
        limit = limit.max(optional(root, name, Value::as_u64, "must be a whole number")?);
    }
    let count = |value: Value<'_>| value.as_u64().and_then(|n| u32::try_from(n).ok());
    Ok(Shape {
        temperature: optional(root, "temperature", Value::as_f64, "must be a number")?,
        top_p: optional(root, "top_p", Value::as_f64, "must be a number")?,
        max_tokens: limit,
        seed: optional(root, "seed", Value::as_i64, "must be a whole number")?,
        choice_count: optional(root, "n", count, "must be a small whole number")?,
        tools_offered: tools(root)?,
    })
}

/// A member that is missing, `null`, or what `read` understands.
pub(super) fn optional<'a, T>(
    object: Value<'a>,
    name: &'static str,
    read: impl Fn(Value<'a>) -> Option<T>,
    what: &'static str,
) -> Result<Option<T>, WireError> {
    match object.get_some(name) {
        Some(value) => read(value).map(Some).ok_or(parameter(name, what)),
        None => Ok(None),
    }
}

/// Names of the tools on offer, in both ways to write them.
fn tools(root: Value<'_>) -> Result<Vec<String>, WireError> {
    let mut names = Vec::new();
    for field in ["tools", "functions"] {
        let Some(offered) = root.get_some(field) else { continue };
        if !offered.is_array() {
            return Err(parameter(field, "must be an array"));
        }
        for tool in offered.items() {
            let named = ["function", "custom"].iter().find_map(|kind| tool.get(kind));
            let name = named.unwrap_or(tool).get("name").and_then(Value::as_str);
            names.extend(name.map(str::to_owned));
        }
    }
    Ok(names)
}

/// For each string of the document whether a redaction may replace it, and how many parts
/// inspection cannot read.
pub(super) fn inspectable(document: &Document) -> (Vec<bool>, u32) {
    let mut marks = Marks { replaceable: vec![false; document.string_count()], unscannable: 0 };
    for (key, value) in document.root().members() {
        match document.string(key) {
            "messages" => value.items().for_each(|message| marks.message(message)),
            "prediction" => marks.message(value),
            "tools" | "functions" | "response_format" => marks.descriptions(value),
            "user" | "safety_identifier" => marks.text(value),
            "metadata" => value.items().for_each(|entry| marks.text(entry)),
            _ => {}
        }
    }
    (marks.replaceable, marks.unscannable)
}

/// What was marked so far.
struct Marks {
    replaceable: Vec<bool>,
    unscannable: u32,
}

// === impl Marks ===

impl Marks {
    /// Marks a value as the client's own text, where it is text at all.
    fn text(&mut self, value: Value<'_>) {
        if let Some(index) = value.string_index() {
            self.replaceable[index] = true;
        }
    }

    fn message(&mut self, message: Value<'_>) {
        if points_elsewhere(message) {
            self.unscannable = self.unscannable.saturating_add(1);
        }
        for name in MESSAGE_TEXTS {
            if let Some(content) = message.get(name) {
                self.content(content);
            }
        }
        if let Some(calls) = message.get("tool_calls") {
            for call in calls.items() {
                self.arguments(call.get("function"), "arguments");
                self.arguments(call.get("custom"), "input");
            }
        }
        self.arguments(message.get("function_call"), "arguments");
    }

    fn arguments(&mut self, call: Option<Value<'_>>, name: &str) {
        if let Some(arguments) = call.and_then(|call| call.get(name)) {
            self.text(arguments);
        }
    }

    /// Text, or an array of parts of which each is text or something that cannot be read.
    fn content(&mut self, content: Value<'_>) {
        self.text(content);
        if !content.is_array() {
            return;
        }
        for part in content.items() {
            self.text(part);
            let kind = part.get("type").and_then(Value::as_str).unwrap_or("");
            let readable = READABLE_PARTS.contains(&kind) || part.string_index().is_some();
            if !readable || points_elsewhere(part) {
                self.unscannable = self.unscannable.saturating_add(1);
            }
            if readable {
                [part.get("text"), part.get(kind)].into_iter().flatten().for_each(|t| self.text(t));
            }
        }
    }

    /// Every `description` at any depth: prose for the model, never a selector.
    fn descriptions(&mut self, value: Value<'_>) {
        for (key, member) in value.members() {
            match value.key(key) {
                "description" => self.text(member),
                _ => self.descriptions(member),
            }
        }
        if value.is_array() {
            value.items().for_each(|item| self.descriptions(item));
        }
    }
}

/// Whether a message or part holds something beside text that the model would read.
fn points_elsewhere(value: Value<'_>) -> bool {
    UNREADABLE_MEMBERS.iter().any(|name| value.get_some(name).is_some())
}

/// A complaint about one field.
pub(super) fn parameter(param: &'static str, what: &'static str) -> WireError {
    WireError::Parameter { param, what }
}
