//! One binary: every conversation in order, one turn at a time.

mod child;
mod cli;
mod client;
mod config;
mod failure;
mod node;
#[cfg_attr(not(feature = "otel"), path = "otel_left_out.rs")]
mod otel;
mod process;
mod reload;
mod rlimits;
mod telemetry;

fn main() -> std::process::ExitCode {
    cli::main()
}
