//! OpenAI-compatible upstreams: request head and error bodies.
