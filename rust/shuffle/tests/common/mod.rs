//! What the tests of whole runs share: a job with everything at its default, and input for it.

use std::path::PathBuf;

use corekit_shuffle::{Encoding, InputFormat, Job, Output, Records, Shards, Tuning};

/// A job without inputs, into `output`; its inputs are not looked into, for random bytes may look
/// like anything.
pub fn job(seed: u128, output: Output) -> Job {
    Job {
        inputs: Vec::new(),
        output,
        seed,
        epoch: 0,
        epochs: None,
        memory_limit: 64 << 20,
        threads: 2,
        scratch: Some(PathBuf::new()),
        records: Records::Delimited(b"\n".to_vec()),
        input_format: InputFormat::Is(Encoding::Raw),
        npy: None,
        header: 0,
        any_expansion: false,
        sample: None,
        fraction: None,
        splits: Vec::new(),
        shards: Shards::Whole,
        compression: None,
        tuning: Tuning::default(),
    }
}

/// Sizes at which a few kilobytes cross every boundary.
pub fn tiny() -> Tuning {
    Tuning {
        chunk: Some(100),
        block: Some(4096),
        slab: Some(200),
        blocks: Some(40),
        bits: Some(2),
        inline_max: Some(64),
        frame: Some(4096),
        page: Some(4096),
        entries: Some(300),
        ..Tuning::default()
    }
}

/// Lines that differ; line `i` has `len(i)` bytes.
pub fn lines(n: usize, len: impl Fn(usize) -> usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for i in 0..n {
        let line = format!("{i}-");
        bytes.extend(line.bytes().cycle().take(len(i)));
        bytes.push(b'\n');
    }
    bytes
}
