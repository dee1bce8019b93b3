//! Labels a client declares (RFC 8941 list), and regions.
