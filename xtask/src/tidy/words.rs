//! Words that say nothing, code that is not finished, files without a head.

use super::{Report, Source};

/// No file is named after these: they say that nobody knew what it is.
const FILE_WORDS: [&str; 8] = ["util", "utils", "common", "manager", "managers", "helper", "helpers", "misc"];
/// Macros left behind while working.
const UNFINISHED_MACROS: [&str; 3] = ["dbg", "todo", "unimplemented"];
/// Attributes that leave a test out.
const UNFINISHED_ATTRIBUTES: [&str; 1] = ["ignore"];
/// Lines of a file's head.
const HEAD_LINES_MAX: usize = 20;

/// Checks names and heads.
pub(crate) fn check(sources: &[Source], report: &mut Report) {
    let calls = UNFINISHED_MACROS.iter().map(|name| format!("{name}!("));
    let unfinished: Vec<String> =
        calls.chain(UNFINISHED_ATTRIBUTES.iter().map(|name| format!("#[{name}"))).collect();
    for source in sources {
        check_file_name(&source.path, report);
        check_head(source, report);
        for (number, line) in source.code.lines().enumerate() {
            for word in unfinished.iter().filter(|word| line.contains(word.as_str())) {
                report.failures.push(format!("{}:{}: `{word}` is unfinished work", source.path, number + 1));
            }
        }
        for (number, line) in source.text.lines().enumerate() {
            let comment = line.trim_start().strip_prefix("//").unwrap_or_default().trim_start();
            let open = comment.starts_with("TODO") || comment.starts_with("FIXME");
            if open && !comment.contains('#') {
                report.failures.push(format!("{}:{}: a TODO names its issue", source.path, number + 1));
            }
        }
    }
}

fn check_file_name(path: &str, report: &mut Report) {
    let parts = path.trim_end_matches(".rs").split(['/', '_', '-']);
    for part in parts.filter(|part| FILE_WORDS.contains(part)) {
        report.failures.push(format!("{path}: `{part}` says nothing, name what it is"));
    }
}

fn check_head(source: &Source, report: &mut Report) {
    let head = source.text.lines().take_while(|line| line.starts_with("//!")).count();
    if head == 0 {
        report
            .failures
            .push(format!("{}: opens without `//!`: what it is, what it must not know", source.path));
    } else if head > HEAD_LINES_MAX {
        report.warnings.push(format!("{}: a head of {head} lines belongs into docs/", source.path));
    }
}
