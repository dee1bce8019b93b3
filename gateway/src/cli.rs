//! The command line: reads arguments, hands over, says how it ended.
//!
//! Answers go to standard output, everything else to standard error. Exit code 0: done; 1: the
//! answer is no; 2: wrong usage or configuration.
