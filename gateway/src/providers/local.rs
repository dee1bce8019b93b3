//! The local model as an upstream: outbound bytes in, OpenAI chat bytes out.
