//! The Wasm engine: threads that own a store each. The only file that names opa-wasm.
