//! Files of 100 to 300 lines, functions of at most 70.

use super::{Report, Source};

/// A file this long needs a thought.
const FILE_LINES_WARN: usize = 600;
/// A file longer than this is split.
const FILE_LINES_MAX: usize = 1_000;
/// A function longer than this is split; counted from `fn` to the closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Checks lengths and counts the tree.
pub(crate) fn check(sources: &[Source], report: &mut Report) {
    let mut lengths: Vec<usize> = Vec::new();
    for source in sources {
        let lines = source.text.lines().count();
        lengths.push(lines);
        if lines > FILE_LINES_MAX {
            report.failures.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path));
        } else if lines > FILE_LINES_WARN {
            report.warnings.push(format!("{}: {lines} lines, think above {FILE_LINES_WARN}", source.path));
        }
        for function in functions(&source.code) {
            if function.lines > FUNCTION_LINES_MAX {
                report.failures.push(format!(
                    "{}:{}: fn {} has {} lines, at most {FUNCTION_LINES_MAX}",
                    source.path, function.line, function.name, function.lines
                ));
            }
        }
    }
    lengths.sort_unstable();
    report.files = lengths.len();
    report.lines = lengths.iter().sum();
    report.median_lines = lengths.get(lengths.len() / 2).copied().unwrap_or(0);
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// Every function with a body; `code` is blanked.
fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let (before, rest) = code.split_at(at);
        let name: String = rest.chars().skip(3).take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') || name.is_empty() {
            continue;
        }
        if let Some(body) = text_of_function(rest) {
            let line = before.matches('\n').count() + 1;
            found.push(Function { name, line, lines: body.matches('\n').count() + 1 });
        }
    }
    found
}

/// From `fn` to the brace that closes its body; None for a function without one.
fn text_of_function(rest: &str) -> Option<&str> {
    let (mut round, mut curly) = (0i32, 0i32);
    for (at, c) in rest.char_indices() {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            '{' => curly += 1,
            '}' => {
                curly -= 1;
                if curly == 0 && round == 0 {
                    return rest.get(..=at);
                }
            }
            ';' if round == 0 && curly == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Function, functions};

    #[test]
    fn functions_are_measured_from_fn_to_their_brace() {
        let code = "trait T {\n  fn a(&self, b: [u8; 2]);\n}\npub async fn c(\n  f: fn(u8) -> u8,\n) {\n  if x {\n  }\n}\n";
        assert_eq!(functions(code), [Function { name: "c".to_owned(), line: 4, lines: 6 }]);
    }
}
