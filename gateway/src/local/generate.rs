//! Sampling and the loop that generates tokens.
