//! Replays the corpus of each target, and mutations of it, on any toolchain. `WINDLASS_FUZZ_ROUNDS`
//! says how many mutations of each target, [`ROUNDS`] otherwise.

use std::{fs, panic::catch_unwind, path::PathBuf};

use fuzz_targets::{TARGETS, Target};

/// Mutations of each target: together a few seconds.
const ROUNDS: u64 = 3_000;

/// The longest input, in bytes.
const MAX_BYTES: usize = 4 << 10;

/// Bytes that parsers look for.
const TOKENS: [&[u8]; 20] = [
    b"\r\n",
    b"\0",
    b"=",
    b"==",
    b",",
    b";",
    b" ",
    b"/",
    b"..",
    b"%",
    b"%2F",
    b"--B",
    b"--B--\r\n",
    b"\"",
    b"\\",
    b"9223372036854775807",
    b"18446744073709551616",
    b"-1",
    b"final;",
    b"data:",
];

/// Random numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end.max(1) as u64).expect("below a usize")
    }

    /// One of the inputs, changed in a few places.
    fn mutation(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut data = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(data.len() + 1);
            let end = (at + self.below(16)).min(data.len());
            let byte = u8::try_from(self.below(256)).expect("a byte");
            let with: Vec<u8> = match self.below(5) {
                0 => vec![byte; end - at],
                1 => Vec::new(),
                2 => TOKENS[self.below(TOKENS.len())].to_vec(),
                3 => [&data[at..end], &data[at..end]].concat(),
                _ => {
                    let other = &corpus[self.below(corpus.len())];
                    let from = self.below(other.len() + 1);
                    other[from..(from + self.below(64)).min(other.len())].to_vec()
                }
            };
            data.splice(at..end, with);
        }
        data.truncate(MAX_BYTES);
        data
    }
}

fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = folder.join("corpus").join(target.name);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut inputs: Vec<_> = files
        .map(|file| {
            let path = file.expect("a folder that can be read").path();
            let data = fs::read(&path).expect("a file that can be read");
            (path.display().to_string(), data)
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs
}

fn run(target: &Target, what: &str, data: &[u8]) {
    if catch_unwind(|| (target.run)(data)).is_err() {
        panic!("{} fails with {what}: b\"{}\"", target.name, data.escape_ascii());
    }
}

#[test]
fn corpus_and_its_mutations_are_handled() {
    let rounds = std::env::var("WINDLASS_FUZZ_ROUNDS")
        .map_or(ROUNDS, |rounds| rounds.parse().expect("WINDLASS_FUZZ_ROUNDS is a number"));
    for target in &TARGETS {
        let corpus = corpus(target);
        for (path, data) in &corpus {
            run(target, path, data);
        }
        let inputs: Vec<_> = corpus.into_iter().map(|(_, data)| data).collect();
        let mut dice = Dice(1);
        for round in 0..rounds {
            run(target, &format!("mutation {round}"), &dice.mutation(&inputs));
        }
    }
}
