//! Reading a stream as it grows, up to its durable mark.
