//! A strict JSON reader that keeps byte spans.
