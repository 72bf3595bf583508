//! The output is the published formula, for every plan.
//!
//! Sizes are shrunk until tiny inputs cross every boundary: chunks, slabs, blocks, frames, several
//! buckets, eviction, recursion, several passes, records longer than a chunk and than the pool.

mod common;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use common::{lines, tiny};
use corekit_base::control::Control;
use corekit_base::philox::Stream;
use corekit_shuffle::{
    Encoding, Error, Input, InputFormat, Job, Output, Records, Report, Tuning, shuffle,
};
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
    let split = |input: &[u8]| match &job.records {
        Records::Delimited(delimiter) => records(input, delimiter),
        Records::Fixed(bytes) => input.chunks(*bytes).map(<[u8]>::to_vec).collect(),
    };
    let delimiter = match &job.records {
        Records::Delimited(delimiter) => delimiter.clone(),
        Records::Fixed(_) => Vec::new(),
    };
    let header = job.header as usize;
    let mut keyed = Vec::new();
    for (j, input) in inputs.iter().enumerate() {
        let keys = Stream::new(job.seed, j as u64, u64::from(job.epoch));
        for (i, record) in split(input).into_iter().skip(header).enumerate() {
            let key = keys.word(i as u64) & job.tuning.key_mask.unwrap_or(u64::MAX);
            keyed.push((key, j, i, record));
        }
    }
    keyed.sort();
    let wanted = job.sample.unwrap_or(u64::MAX) as usize;
    let first = split(&inputs[0]).into_iter().take(header);
    first
        .chain(keyed.into_iter().take(wanted).map(|(.., record)| record))
        .flat_map(|record| [record, delimiter.clone()].concat())
        .collect()
}

/// The bytes as they are stored in two members or frames.
fn stored(bytes: &[u8], encoding: Encoding) -> Vec<u8> {
    let (one, two) = bytes.split_at(bytes.len() / 3);
    let member = |bytes: &[u8]| match encoding {
        Encoding::Raw => bytes.to_vec(),
        Encoding::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
            encoder.write_all(bytes).expect("written");
            encoder.finish().expect("written")
        }
        Encoding::Zstd => {
            let mut out = vec![0; zstd_safe::compress_bound(bytes.len())];
            let n = zstd_safe::compress(&mut out[..], bytes, 1).expect("compressed");
            out.truncate(n);
            out
        }
    };
    [member(one), member(two)].concat()
}

/// Runs `job` on `inputs` given as files; returns the report after checking the output.
fn check(inputs: &[Vec<u8>], job: Job) -> Report {
    check_stored(inputs, &[], job)
}

/// As `check`; the inputs are stored as told, the rest of them as they are.
fn check_stored(inputs: &[Vec<u8>], encodings: &[Encoding], mut job: Job) -> Report {
    let encoding = |j: usize| encodings.get(j).copied().unwrap_or(Encoding::Raw);
    if encodings.is_empty() {
        // Random bytes may look like anything.
        job.input_format = InputFormat::Is(Encoding::Raw);
    }
    let dir = tempfile::tempdir().expect("a directory");
    job.inputs = (0..inputs.len())
        .map(|j| {
            let path = dir.path().join(format!("in{j}"));
            fs::write(&path, stored(&inputs[j], encoding(j))).expect("written");
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
        input_format: InputFormat::Auto,
        ..common::job(seed, Output::Path(PathBuf::new()))
    }
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

#[test]
fn compressed_inputs_by_every_plan() {
    use Encoding::{Gzip, Raw, Zstd};
    let inputs = [
        lines(3000, |i| i % 50),
        lines(300, |i| if i == 100 { 30_000 } else { i % 90 }),
        vec![],
        lines(2000, |i| i % 70),
    ];
    for (spill, scratch) in [(None, true), (Some(true), true), (Some(false), false)] {
        for workers in [1, 3] {
            let tuning = Tuning {
                spill,
                workers: Some(workers),
                blocks: Some(if spill.is_none() { 200 } else { 40 }),
                ..tiny()
            };
            let job = Job {
                tuning,
                scratch: scratch.then(PathBuf::new),
                ..job(11)
            };
            let report = check_stored(&inputs, &[Gzip, Zstd, Zstd, Raw], job.clone());
            assert_eq!(report.passes > 1, spill == Some(false));
            check_stored(&inputs, &[Gzip, Gzip, Gzip, Zstd], job);
        }
    }
}

#[test]
fn long_records_of_compressed_inputs_give_way_to_each_other() {
    // The front, which is all that a survey sees, says nothing of what follows: what was kept must
    // be dropped, and its memory used again.
    let front = lines(20_000, |_| 27);
    let long = lines(300, |i| if i % 2 == 0 { 20_000 } else { 50 });
    let inputs = [[front, long].concat()];
    for workers in [1, 3] {
        let job = Job {
            scratch: None,
            tuning: Tuning {
                workers: Some(workers),
                bits: Some(5),
                blocks: Some(120),
                ..tiny()
            },
            ..job(15)
        };
        let report = check_stored(&inputs, &[Encoding::Gzip], job);
        if workers == 1 {
            // Kept for nothing, what was dropped would take the room of one pass more.
            assert_eq!(report.passes, 10);
        }
    }
}

#[test]
fn headers_are_kept_once() {
    let head = b"name,text\n-,-\n".to_vec();
    let with = |body: Vec<u8>| [head.clone(), body].concat();
    let inputs = [
        with(lines(200, |i| i % 30)),
        head.clone(),
        with(lines(90, |_| 3)),
    ];
    for encoding in [Encoding::Raw, Encoding::Gzip, Encoding::Zstd] {
        for header in [1, 2] {
            let job = Job {
                header,
                tuning: tiny(),
                ..job(12)
            };
            let report = check_stored(&inputs, &[encoding; 3], job);
            assert_eq!(report.read.records, 290 + 3 * (2 - header));
        }
    }
}

#[test]
fn records_of_one_size() {
    let bytes: Vec<u8> = (0..60_000u32).flat_map(|i| i.to_le_bytes()).collect();
    for size in [1, 2, 4, 12, 100, 4096, 30_000, 60_000] {
        let inputs = [bytes[..180_000].to_vec(), vec![], bytes[..120_000].to_vec()];
        let inputs = inputs.map(|input| input[..input.len() / size * size].to_vec());
        for encoding in [Encoding::Raw, Encoding::Zstd] {
            for spill in [None, Some(true), Some(false)] {
                let job = Job {
                    records: Records::Fixed(size),
                    scratch: (spill != Some(false)).then(PathBuf::new),
                    tuning: Tuning {
                        spill,
                        blocks: Some(120),
                        ..tiny()
                    },
                    ..job(13)
                };
                check_stored(&inputs, &[encoding; 3], job);
            }
        }
    }
}

#[test]
fn sizes_that_do_not_divide_are_refused() {
    for encoding in [Encoding::Raw, Encoding::Gzip] {
        for size in [7, 300, 999] {
            let dir = tempfile::tempdir().expect("a directory");
            let (path, output) = (dir.path().join("in"), dir.path().join("out"));
            fs::write(&path, stored(&[1; 1000], encoding)).expect("written");
            let job = Job {
                inputs: vec![Input::Path(path.clone().into())],
                output: Output::Path(output.clone()),
                records: Records::Fixed(size),
                scratch: None,
                tuning: tiny(),
                ..job(14)
            };
            let error = shuffle(&job, &Control::new()).expect_err("refused");
            let text = error.to_string();
            assert!(matches!(error, Error::Format { .. }), "{text}");
            assert!(text.contains("1000 bytes"), "{text}");
            assert!(!output.exists());
        }
    }
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
                expansion: None,
                page: None,
                records: None,
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
        header in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..3),
        encodings in proptest::collection::vec(
            prop_oneof![Just(Encoding::Gzip), Just(Encoding::Zstd)], 3),
        is_stored: bool,
    ) {
        let scratch = scratch.then(PathBuf::new);
        let mut tuning = tuning;
        if is_stored && scratch.is_none() {
            // A record that cannot be read again by its place must fit somewhere.
            tuning.blocks = tuning.blocks.map(|blocks| blocks + 100);
        }
        let head: Vec<u8> = header
            .iter()
            .filter_map(|line| records(line, &delimiter).into_iter().next())
            .flat_map(|line| [line, delimiter.clone()].concat())
            .collect();
        let header = records(&head, &delimiter).len() as u64;
        let inputs: Vec<_> = inputs
            .into_iter()
            .map(|input| [head.clone(), input].concat())
            .collect();
        let records = Records::Delimited(delimiter);
        let job = Job { tuning, epoch, records, sample, scratch, header, ..job(seed) };
        check_stored(&inputs, if is_stored { &encodings } else { &[] }, job);
    }
}
