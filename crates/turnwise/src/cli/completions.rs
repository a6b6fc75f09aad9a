//! `turnwise completions`: a script that teaches a shell this command line.

use super::{Cli, Context, Outcome, print};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell; its manual says where the script belongs
    shell: Shell,
}

pub(crate) fn run(context: &Context, arguments: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "turnwise", &mut script);
    let script = String::from_utf8_lossy(&script);
    if context.json {
        print::json(&json!({ "shell": arguments.shell.to_string(), "script": script }));
    } else {
        print::text(&script);
    }
    Ok(())
}
