//! Takes categories out of a call's texts.
