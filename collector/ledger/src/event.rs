//! Events: kinds, drafts, and the JSON around a body.
