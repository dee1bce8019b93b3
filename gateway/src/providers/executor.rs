//! Our executor over pingora-core's connectors: one HTTP/1.1 exchange.
