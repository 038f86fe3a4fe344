//! The binary: all of it is in `lib.rs`.

fn main() -> std::process::ExitCode {
    host_local::main()
}
