//! The output is the published formula, for every plan.
//!
//! Sizes are shrunk until tiny inputs cross every boundary: chunks, slabs, blocks, frames, several
//! buckets, eviction, recursion, several passes, records longer than a chunk and than the pool.

use std::fs;
use std::path::PathBuf;

use corekit_base::control::Control;
use corekit_base::philox::Stream;
use corekit_shuffle::{Input, Job, Output, Report, Tuning, shuffle};
use proptest::prelude::*;

/// `bytes.split(delimiter)` without the empty tail; a tail that ends in a proper prefix of the
/// delimiter ends before it.
fn records(bytes: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
    let (mut found, mut start, mut at) = (Vec::new(), 0, 0);
    while at + delimiter.len() <= bytes.len() {
        if bytes[at..].starts_with(delimiter) {
            found.push(bytes[start..at].to_vec());
            at += delimiter.len();
            start = at;
        } else {
            at += 1;
        }
    }
    if start < bytes.len() {
        let tail = &bytes[start..];
        let begun = (0..delimiter.len())
            .rev()
            .find(|&n| tail.ends_with(&delimiter[..n]));
        found.push(tail[..tail.len() - begun.unwrap_or(0)].to_vec());
    }
    found
}

fn reference(inputs: &[Vec<u8>], job: &Job) -> Vec<u8> {
    let mut keyed = Vec::new();
    for (j, input) in inputs.iter().enumerate() {
        let keys = Stream::new(job.seed, j as u64, u64::from(job.epoch));
        for (i, record) in records(input, &job.delimiter).into_iter().enumerate() {
            let key = keys.word(i as u64) & job.tuning.key_mask.unwrap_or(u64::MAX);
            keyed.push((key, j, i, record));
        }
    }
    keyed.sort();
    let wanted = job.sample.unwrap_or(u64::MAX) as usize;
    keyed
        .into_iter()
        .take(wanted)
        .flat_map(|(.., record)| [record, job.delimiter.clone()].concat())
        .collect()
}

/// Runs `job` on `inputs` given as files; returns the report after checking the output.
fn check(inputs: &[Vec<u8>], mut job: Job) -> Report {
    let dir = tempfile::tempdir().expect("a directory");
    job.inputs = (0..inputs.len())
        .map(|j| {
            let path = dir.path().join(format!("in{j}"));
            fs::write(&path, &inputs[j]).expect("written");
            Input::Path(path.into())
        })
        .collect();
    let output = dir.path().join("out");
    job.output = Output::Path(output.clone());
    if job.scratch.is_some() {
        job.scratch = Some(dir.path().to_owned());
    }
    let report = shuffle(&job, &Control::new()).unwrap_or_else(|e| panic!("{e}: {job:?}"));
    let got = fs::read(&output).expect("there");
    let expected = reference(inputs, &job);
    if got != expected {
        panic!("wrong order: {:?} {job:?}", report.plan.strategy);
    }
    assert_eq!(
        fs::read_dir(dir.path()).expect("readable").count(),
        inputs.len() + 1
    );
    report
}

fn job(seed: u128) -> Job {
    Job {
        inputs: Vec::new(),
        output: Output::Path(PathBuf::new()),
        seed,
        epoch: 0,
        memory_limit: 64 << 20,
        threads: 2,
        scratch: Some(PathBuf::new()),
        delimiter: b"\n".to_vec(),
        sample: None,
        tuning: Tuning::default(),
    }
}

/// Sizes at which a few kilobytes cross every boundary.
fn tiny() -> Tuning {
    Tuning {
        chunk: Some(100),
        block: Some(4096),
        slab: Some(200),
        blocks: Some(40),
        bits: Some(2),
        inline_max: Some(64),
        frame: Some(4096),
        entries: Some(300),
        ..Tuning::default()
    }
}

fn lines(n: usize, len: impl Fn(usize) -> usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for i in 0..n {
        let line = format!("{i}-");
        bytes.extend(line.bytes().cycle().take(len(i)));
        bytes.push(b'\n');
    }
    bytes
}

#[test]
fn everything_in_memory() {
    let report = check(&[lines(5000, |i| i % 40)], job(1));
    assert_eq!(report.plan.strategy.name(), "memory");
    assert_eq!((report.scratch_bytes, report.passes), (0, 1));
}

#[test]
fn empty_inputs_give_empty_output_and_keep_their_number() {
    assert_eq!(check(&[vec![]], job(2)).read.records, 0);
    let text = lines(100, |_| 5);
    check(&[vec![], text.clone(), vec![], text], job(2));
}

#[test]
fn spilled_and_read_back() {
    for workers in [1, 3] {
        let tuning = Tuning {
            spill: Some(true),
            workers: Some(workers),
            blocks: Some(30),
            ..tiny()
        };
        let report = check(&[lines(6000, |i| i % 50)], Job { tuning, ..job(3) });
        assert_eq!(report.plan.strategy.name(), "scratch");
        assert!(report.scratch_bytes > 100_000, "{}", report.scratch_bytes);
    }
}

#[test]
fn partly_resident() {
    let tuning = Tuning {
        blocks: Some(30),
        ..tiny()
    };
    let report = check(&[lines(6000, |i| i % 50)], Job { tuning, ..job(4) });
    assert!(report.plan.strategy.name() != "memory");
}

#[test]
fn read_again_in_several_passes() {
    for bits in [0, 1, 3] {
        let tuning = Tuning {
            spill: Some(false),
            blocks: Some(22),
            bits: Some(bits),
            ..tiny()
        };
        let job = Job {
            tuning,
            scratch: None,
            ..job(5)
        };
        let report = check(&[lines(6000, |i| i % 50), lines(10, |_| 3)], job);
        assert_eq!(report.scratch_bytes, 0);
        assert!(report.passes > 2, "{} passes", report.passes);
    }
}

#[test]
fn recursion_from_scratch() {
    let tuning = Tuning {
        spill: Some(true),
        blocks: Some(12),
        bits: Some(1),
        ..tiny()
    };
    let report = check(&[lines(20_000, |i| i % 60)], Job { tuning, ..job(6) });
    let once = report.read.bytes + 4 * report.read.records;
    assert!(
        report.scratch_bytes > once * 2,
        "{} of {once}",
        report.scratch_bytes
    );
}

#[test]
fn records_longer_than_a_chunk_a_frame_and_the_pool() {
    for spill in [true, false] {
        let tuning = Tuning {
            spill: Some(spill),
            blocks: Some(12),
            ..tiny()
        };
        let long = lines(300, |i| match i {
            100 => 300_000,
            101 => 5000,
            200 => 100_000,
            i => i % 100,
        });
        check(
            &[long.clone(), lines(10, |i| i * 50), long],
            Job { tuning, ..job(7) },
        );
    }
}

#[test]
fn samples_are_prefixes() {
    for n in [0, 1, 7, 999, 1000, 1001] {
        for (spill, scratch) in [
            (Some(true), true),
            (Some(false), false),
            (None, true),
            (None, false),
        ] {
            let tuning = Tuning { spill, ..tiny() };
            let scratch = scratch.then(PathBuf::new);
            let report = check(
                &[lines(1000, |i| i % 30)],
                Job {
                    tuning,
                    scratch,
                    sample: Some(n),
                    ..job(8)
                },
            );
            assert_eq!(report.written.records, n.min(1000));
        }
    }
}

#[test]
fn ties_are_ordered_by_input_and_index() {
    let tuning = Tuning {
        key_mask: Some(0xf << 60),
        ..Tuning::default()
    };
    check(
        &[lines(500, |i| i % 9), lines(400, |_| 2)],
        Job { tuning, ..job(9) },
    );
    let tuning = Tuning {
        key_mask: Some(0xf),
        spill: Some(true),
        entries: Some(2000),
        blocks: Some(40),
        ..tiny()
    };
    check(
        &[lines(500, |i| i % 9), lines(400, |_| 2)],
        Job { tuning, ..job(9) },
    );
}

#[test]
fn every_fallback_of_a_poor_file_system() {
    let tuning = Tuning {
        spill: Some(true),
        no_direct: true,
        no_tmpfile: true,
        no_fallocate: true,
        ..tiny()
    };
    check(&[lines(3000, |i| i % 50)], Job { tuning, ..job(10) });
}

fn any_tuning() -> impl Strategy<Value = Tuning> {
    (
        (10usize..3000, 1usize..4, 50usize..5000, 4usize..60, 0u32..4),
        (8usize..900, 1usize..3, 40usize..500, 1usize..4),
        (
            any::<Option<bool>>(),
            any::<[bool; 3]>(),
            proptest::option::of(Just(0xf << 60)),
        ),
    )
        .prop_map(
            |(
                (chunk, block, slab, blocks, bits),
                (inline_max, frame, entries, workers),
                (spill, off, key_mask),
            )| Tuning {
                chunk: Some(chunk),
                block: Some(block * 4096),
                slab: Some(slab),
                blocks: Some(blocks + (1 << bits) + workers),
                bits: Some(bits),
                inline_max: Some(inline_max),
                frame: Some(frame * 4096),
                // Records with one key cannot be told apart by slices.
                entries: Some(if key_mask.is_some() { 20_000 } else { entries }),
                workers: Some(workers),
                key_mask,
                spill,
                no_direct: off[0],
                no_tmpfile: off[1],
                no_fallocate: off[2],
            },
        )
}

fn any_input() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'\n')], 0..3000),
        (0usize..1500, 0usize..80).prop_map(|(n, len)| lines(n, |i| (i * 7) % (len + 1))),
        (0usize..30, 0usize..9000).prop_map(|(n, len)| lines(n, |i| (i * 991) % (len + 1))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_input_by_any_plan_is_the_formula(
        inputs in proptest::collection::vec(any_input(), 1..4),
        tuning in any_tuning(),
        seed: u128,
        epoch in 0u32..3,
        delimiter in prop_oneof![
            Just(b"\n".to_vec()),
            Just(b"\n\n".to_vec()),
            Just(b"aba".to_vec()),
            Just(b"ab".to_vec()),
            proptest::collection::vec(any::<u8>(), 1..4),
        ],
        sample in proptest::option::of(0u64..2000),
        scratch: bool,
    ) {
        let scratch = scratch.then(PathBuf::new);
        check(&inputs, Job { tuning, epoch, delimiter, sample, scratch, ..job(seed) });
    }
}
