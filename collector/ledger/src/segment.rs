//! Segments: files of frames.
