//! The patterns of personal data and secrets.
