//! Server-sent events (WHATWG HTML, section 9.2): a byte-wise reader with a limit.
