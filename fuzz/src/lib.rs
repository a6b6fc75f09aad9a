//! Every parser of bytes from outside, as a function that takes any bytes and
//! panics when a promise is broken. The tests of this crate feed each with its
//! corpus; `cargo xtask fuzz` lets libFuzzer look for more.

mod agent;
mod bus;
mod callback;
mod config;
mod disk;
mod head;
mod queue;
mod socket;
mod submission;
mod topic;
mod values;

/// Takes any bytes; panics when a promise is broken.
pub type Target = fn(&[u8]);

/// What can be fuzzed: the name, which is also the corpus's folder, and the function.
pub const TARGETS: [(&str, Target); 13] = [
    ("agent_stream", agent::stream),
    ("agent_answer", agent::answer),
    ("submission", submission::submission),
    ("publication", topic::publication),
    ("queue_request", queue::queue_request),
    ("bus_request", bus::bus_request),
    ("web_socket", socket::web_socket),
    ("values", values::values),
    ("request_head", head::request_head),
    ("callback", callback::callback),
    ("config", config::config),
    ("store_record", disk::store_record),
    ("turn_record", disk::turn_record),
];

/// The first byte, which chooses, and the rest.
fn choice(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, input), |(first, rest)| (*first, rest))
}

#[cfg(test)]
mod tests {
    use super::TARGETS;
    use std::path::Path;

    #[test]
    fn every_target_takes_its_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        for (name, target) in TARGETS {
            let files = std::fs::read_dir(corpus.join(name)).expect("every target has a corpus");
            let mut count = 0;
            for file in files {
                let path = file.expect("the corpus can be listed").path();
                let input = std::fs::read(&path).expect("the corpus can be read");
                println!("{}", path.display());
                target(&input);
                count += 1;
            }
            assert!(count > 0, "the corpus of {name} is empty");
            target(b"");
        }
    }
}
