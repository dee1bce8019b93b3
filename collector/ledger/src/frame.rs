//! Frames as they stand on disk.
