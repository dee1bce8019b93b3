//! The bytes that leave: redacted, rescanned, in the upstream's format.
