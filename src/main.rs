//! The `tsae` command.

fn main() {}
