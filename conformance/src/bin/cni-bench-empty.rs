//! Does nothing: what it costs to execute a program at all, for the floor of `cni-bench`.

fn main() {}
