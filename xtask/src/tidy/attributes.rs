//! A lint is expected with a reason, never just allowed.

use super::{Report, Source};

/// Checks every `allow` and `expect` attribute.
pub(crate) fn check(sources: &[Source], report: &mut Report) {
    for source in sources {
        for word in ["[allow(", "[expect("] {
            for (at, _) in source.code.match_indices(word) {
                let (before, rest) = source.code.split_at(at);
                let attribute = rest.split(']').next().unwrap_or(rest);
                if !before.ends_with(['#', '!']) || attribute.contains("reason") {
                    continue;
                }
                let line = before.matches('\n').count() + 1;
                report.failures.push(format!("{}:{line}: `#{word}…)]` gives no reason", source.path));
            }
        }
    }
}
