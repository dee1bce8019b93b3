//! Signed heads (C2SP checkpoint text).
