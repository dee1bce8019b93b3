//! OpenAI chat completions: requests, answers, chunks and errors.
