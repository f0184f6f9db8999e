//! Starts the command that the command line names.

fn main() {}
