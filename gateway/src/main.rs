//! `cordon`: read the command, do it, say what failed.
fn main() {}
