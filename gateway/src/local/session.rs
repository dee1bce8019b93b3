//! The ONNX session and the one thread that owns it.
