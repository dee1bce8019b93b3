//! pingora: sockets, bodies, paths, replies, drain.
