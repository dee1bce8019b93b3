//! Which permitted upstreams are tried, in which order, how often. Pure: no clock, no I/O.
