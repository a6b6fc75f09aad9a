//! One binary: every conversation in order, one turn at a time.

mod child;
mod cli;
mod client;
mod config;
mod descriptors;
mod failure;
mod node;
mod process;
mod reload;
mod telemetry;

fn main() -> std::process::ExitCode {
    cli::main()
}
