//! The system as its users meet it: built programs, real sockets, real clients.
