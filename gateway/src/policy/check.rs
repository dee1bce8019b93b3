//! What the host checks of every decision before it believes it.
