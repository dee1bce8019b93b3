//! Runs facts documents and case files for the command line.
