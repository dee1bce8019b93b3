//! Every part of the gateway, built once from a checked configuration.
