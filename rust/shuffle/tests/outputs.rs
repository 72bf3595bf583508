//! Every kind of output holds the published order: files, shards, splits, epochs, compressed or not.

mod common;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use common::{lines, tiny};
use corekit_base::control::Control;
use corekit_base::philox::Stream;
use corekit_shuffle::{
    Compression, Error, Input, Job, Output, Report, Shards, Split, Tuning, shuffle, shuffle_aligned,
};
use proptest::prelude::*;

const ALL: u128 = 1 << 64;

fn job(seed: u128) -> Job {
    common::job(seed, Output::Path(PathBuf::new()))
}

/// The files that a job should write: name, and content before compression.
fn reference(
    input: &[u8],
    job: &Job,
    name: impl Fn(u64, &str, u32) -> String,
) -> Vec<(String, Vec<u8>)> {
    let all: Vec<&[u8]> = input.split_inclusive(|&byte| byte == b'\n').collect();
    let (header, records) = all.split_at(job.header as usize);
    let key = |epoch: u32, i: usize| Stream::new(job.seed, 0, u64::from(epoch)).word(i as u64);
    let apart = !job.splits.is_empty() || name(0, "", 0) != name(0, "", 1);
    let splits = match &job.splits[..] {
        [] => vec![Split {
            name: String::new(),
            end: job.fraction.unwrap_or(ALL),
        }],
        splits => splits.to_vec(),
    };
    let mut groups: Vec<(u32, String, Vec<&[u8]>)> = Vec::new();
    for epoch in 0..job.epochs.unwrap_or(1) {
        let mut start = 0;
        for split in &splits {
            let mut chosen: Vec<usize> = (0..records.len())
                .filter(|&i| (start..split.end).contains(&u128::from(key(0, i))))
                .collect();
            start = split.end;
            chosen.sort_by_key(|&i| (key(epoch, i), i));
            chosen.truncate(job.sample.unwrap_or(u64::MAX).min(1 << 40) as usize);
            let chosen = chosen.into_iter().map(|i| records[i]);
            match groups.last_mut().filter(|_| !apart) {
                Some(group) => group.2.extend(chosen),
                None => groups.push((epoch, split.name.clone(), chosen.collect())),
            }
        }
    }
    let mut files = Vec::new();
    for (epoch, split, records) in groups {
        let n = records.len() as u64;
        let mut put = |index: u64, records: &[&[u8]]| {
            let content = [header.concat(), records.concat()].concat();
            files.push((name(index, &split, epoch), content));
        };
        match job.shards {
            Shards::Whole => put(0, &records),
            Shards::Count(k) => (0..k).for_each(|i| {
                put(
                    i,
                    &records[(i * n / k) as usize..((i + 1) * n / k) as usize],
                );
            }),
            Shards::Records(r) => (0..n.div_ceil(r).max(1)).for_each(|i| {
                put(
                    i,
                    &records[(i * r).min(n) as usize..((i + 1) * r).min(n) as usize],
                );
            }),
            Shards::Bytes(s) => {
                let mut shards: Vec<Vec<&[u8]>> = vec![Vec::new()];
                let mut at = 0;
                for record in records {
                    while (shards.len() as u64) <= at / s {
                        shards.push(Vec::new());
                    }
                    shards.last_mut().expect("one").push(record);
                    at += record.len() as u64;
                }
                (0..).zip(&shards).for_each(|(i, shard)| put(i, shard));
            }
        }
    }
    files
}

fn decoded(bytes: &[u8], compression: Option<Compression>) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        None => out.extend_from_slice(bytes),
        Some(Compression::Gzip(_)) => {
            flate2::read::MultiGzDecoder::new(bytes)
                .read_to_end(&mut out)
                .expect("gzip");
        }
        Some(Compression::Zstd(_)) => {
            out.resize(bytes.len() * 200 + (1 << 20), 0);
            let n = zstd_safe::decompress(&mut out[..], bytes).expect("zstd");
            out.truncate(n);
        }
    }
    out
}

fn input(dir: &Path, bytes: &[u8]) -> Vec<Input> {
    let path = dir.join("input");
    fs::write(&path, bytes).expect("written");
    vec![Input::Path(path.into())]
}

/// Runs a job whose output is a set of files and compares all of them.
fn check_set(bytes: &[u8], mut job: Job) -> Report {
    let dir = tempfile::tempdir().expect("a directory");
    let split = !job.splits.is_empty();
    let epochs = job.epochs.is_some();
    let shards = job.shards != Shards::Whole;
    let part = |wanted: bool, text: String| if wanted { text } else { String::new() };
    let pattern = [
        "out",
        &part(split, "-{split}".into()),
        &part(epochs, "-{epoch:02d}".into()),
        &part(shards, "-{index:03d}".into()),
        ".txt",
    ]
    .concat();
    job.inputs = input(dir.path(), bytes);
    job.scratch = job.scratch.map(|_| dir.path().to_owned());
    job.output = Output::Path(dir.path().join(&pattern));
    let report = shuffle(&job, &Control::new()).unwrap_or_else(|e| panic!("{e}: {job:?}"));
    let expected = reference(bytes, &job, |index, name, epoch| {
        [
            "out",
            &part(split, format!("-{name}")),
            &part(epochs, format!("-{epoch:02}")),
            &part(shards, format!("-{index:03}")),
            ".txt",
        ]
        .concat()
    });
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .expect("readable")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    let mut wanted: Vec<String> = expected.iter().map(|(name, _)| name.clone()).collect();
    wanted.extend(["input".into(), "out.manifest.json".into()]);
    wanted.sort();
    assert_eq!(names, wanted, "{job:?}");
    for ((name, content), file) in expected.iter().zip(&report.files) {
        let stored = fs::read(dir.path().join(name)).expect("there");
        assert!(
            decoded(&stored, job.compression) == *content,
            "{name}: {job:?}"
        );
        assert_eq!(file.path, dir.path().join(name));
        assert_eq!(file.size, stored.len() as u64);
        assert_eq!(file.bytes, content.len() as u64);
    }
    assert_eq!(
        report.files.iter().map(|f| f.records).sum::<u64>(),
        report.written.records
    );
    let digests = report
        .files
        .iter()
        .fold(0u128, |sum, f| sum.wrapping_add(f.digest));
    assert_eq!(digests, report.written.digest);
    report
}

/// Runs a job whose output is one file and compares it.
fn check_file(bytes: &[u8], mut job: Job) -> (Report, Vec<u8>) {
    let dir = tempfile::tempdir().expect("a directory");
    job.inputs = input(dir.path(), bytes);
    job.scratch = job.scratch.map(|_| dir.path().to_owned());
    let path = dir.path().join("out");
    job.output = Output::Path(path.clone());
    let report = shuffle(&job, &Control::new()).unwrap_or_else(|e| panic!("{e}: {job:?}"));
    let stored = fs::read(path).expect("there");
    let expected = reference(bytes, &job, |_, _, _| String::new());
    assert!(
        decoded(&stored, job.compression) == expected[0].1,
        "{job:?}"
    );
    assert_eq!(report.output_size, stored.len() as u64);
    assert_eq!(report.output_bytes, expected[0].1.len() as u64);
    (report, stored)
}

#[test]
fn compressed_bytes_depend_on_nothing_but_the_output() {
    let bytes = lines(30_000, |i| i % 150);
    for compression in [Compression::Gzip(1), Compression::Zstd(3)] {
        let stored: Vec<_> = [(1, None, 300), (3, Some(true), 60), (2, Some(false), 200)]
            .into_iter()
            .map(|(workers, spill, blocks)| {
                let job = Job {
                    compression: Some(compression),
                    scratch: (spill != Some(false)).then(PathBuf::new),
                    tuning: Tuning {
                        workers: Some(workers),
                        blocks: Some(blocks),
                        bits: Some(3),
                        block: Some(16384),
                        spill,
                        ..Tuning::default()
                    },
                    ..job(1)
                };
                check_file(&bytes, job).1
            })
            .collect();
        assert!(stored.iter().all(|other| *other == stored[0]));
        assert!(stored[0].len() < bytes.len() / 2);
    }
}

#[test]
fn shards_of_every_kind() {
    let bytes = lines(90, |i| i % 60);
    for shards in [
        Shards::Count(1),
        Shards::Count(7),
        Shards::Count(120),
        Shards::Records(1),
        Shards::Records(33),
        Shards::Records(5000),
        Shards::Bytes(100),
        Shards::Bytes(40),
        Shards::Bytes(1 << 40),
    ] {
        for (compression, header) in [(None, 2), (Some(Compression::Zstd(1)), 0)] {
            let job = Job {
                shards,
                compression,
                header,
                tuning: tiny(),
                ..job(2)
            };
            check_set(&bytes, job);
        }
    }
}

#[test]
fn an_empty_input_has_its_shards() {
    for (shards, n) in [
        (Shards::Count(3), 3),
        (Shards::Records(5), 1),
        (Shards::Bytes(5), 1),
    ] {
        for compression in [None, Some(Compression::Gzip(6))] {
            let report = check_set(
                b"",
                Job {
                    shards,
                    compression,
                    ..job(3)
                },
            );
            assert_eq!(report.files.len(), n);
        }
    }
}

#[test]
fn fractions_splits_and_epochs() {
    let bytes = lines(2000, |i| i % 40);
    let cut = ALL / 10 * 3;
    for epochs in [None, Some(1), Some(3)] {
        for (spill, scratch) in [(None, true), (Some(true), true), (Some(false), false)] {
            let job = Job {
                epochs,
                scratch: scratch.then(PathBuf::new),
                tuning: Tuning { spill, ..tiny() },
                ..job(4)
            };
            check_file(
                &bytes,
                Job {
                    fraction: Some(cut),
                    ..job.clone()
                },
            );
            check_file(
                &bytes,
                Job {
                    sample: Some(123),
                    ..job.clone()
                },
            );
            check_file(
                &bytes,
                Job {
                    fraction: Some(0),
                    ..job.clone()
                },
            );
            check_file(
                &bytes,
                Job {
                    fraction: Some(ALL),
                    ..job.clone()
                },
            );
            let split = |name: &str, end| Split {
                name: name.into(),
                end,
            };
            let splits = vec![
                split("train", cut * 3),
                split("none", cut * 3),
                split("test", ALL),
            ];
            check_set(
                &bytes,
                Job {
                    splits: splits.clone(),
                    ..job.clone()
                },
            );
            check_set(
                &bytes,
                Job {
                    splits,
                    shards: Shards::Count(3),
                    ..job.clone()
                },
            );
            if epochs.is_some() {
                check_set(
                    &bytes,
                    Job {
                        shards: Shards::Bytes(9000),
                        ..job.clone()
                    },
                );
            }
        }
    }
}

#[test]
fn aligned_files_stay_in_step() {
    let dir = tempfile::tempdir().expect("a directory");
    let control = Control::new();
    let make = |name: &str, n: usize| {
        let path = dir.path().join(name);
        fs::write(&path, lines(n, |i| i % 50 + name.len())).expect("written");
        Job {
            inputs: vec![Input::Path(path.into())],
            output: Output::Path(dir.path().join(format!("{name}.out"))),
            scratch: Some(dir.path().to_owned()),
            tuning: tiny(),
            ..job(5)
        }
    };
    let jobs = [make("source", 900), make("target", 900)];
    let reports = shuffle_aligned(&jobs, &control).expect("aligned");
    assert_eq!(reports.len(), 2);
    let numbers = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(dir.path().join(name)).expect("there");
        text.lines()
            .map(|line| line.split('-').next().unwrap_or("").to_owned())
            .collect()
    };
    assert_eq!(numbers("source.out"), numbers("target.out"));
    fs::remove_file(dir.path().join("source.out")).expect("there");
    let unequal = [jobs[0].clone(), make("other", 901)];
    assert!(matches!(
        shuffle_aligned(&unequal, &control),
        Err(Error::Format { .. })
    ));
    assert!(
        !dir.path().join("source.out").exists(),
        "nothing was published"
    );
    let twice = [
        jobs[0].clone(),
        Job {
            output: jobs[0].output.clone(),
            ..jobs[1].clone()
        },
    ];
    assert!(matches!(
        shuffle_aligned(&twice, &control),
        Err(Error::InvalidArgument(_))
    ));
}

fn any_shards() -> impl Strategy<Value = Shards> {
    prop_oneof![
        Just(Shards::Whole),
        (1u64..40).prop_map(Shards::Count),
        (1u64..300).prop_map(Shards::Records),
        (1u64..20_000).prop_map(Shards::Bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_output_by_any_plan_is_the_formula(
        (n, len) in (0usize..900, 1usize..90),
        (shards, seed) in (any_shards(), any::<u128>()),
        compression in prop_oneof![
            Just(None), Just(Some(Compression::Gzip(1))), Just(Some(Compression::Zstd(1))),
        ],
        cuts in proptest::option::of(proptest::collection::vec(any::<u64>(), 0..4)),
        epochs in proptest::option::of(1u32..4),
        header in 0u64..3,
        (workers, bits, blocks, entries) in (1usize..4, 0u32..4, 10usize..90, 60usize..600),
        spill: Option<bool>,
        scratch: bool,
        (sample, fraction) in (proptest::option::of(0u64..1000), proptest::option::of(any::<u64>())),
    ) {
        let bytes = lines(n + 3, |i| (i * 7) % len);
        let mut splits: Vec<u128> = cuts.iter().flatten().map(|&cut| u128::from(cut)).collect();
        splits.sort();
        if cuts.is_some() {
            splits.push(ALL);
        }
        let name = |(i, end)| Split { name: format!("part{i}"), end };
        let splits: Vec<Split> = splits.into_iter().enumerate().map(name).collect();
        let whole = splits.is_empty();
        let job = Job {
            shards,
            compression,
            epochs,
            header,
            scratch: scratch.then(PathBuf::new),
            sample: sample.filter(|_| whole),
            fraction: fraction.filter(|_| whole && sample.is_none()).map(u128::from),
            splits,
            tuning: Tuning {
                workers: Some(workers),
                bits: Some(bits),
                blocks: Some(blocks + (1 << bits) + workers),
                entries: Some(entries),
                spill,
                ..tiny()
            },
            ..job(seed)
        };
        if shards == Shards::Whole && whole {
            check_file(&bytes, job);
        } else {
            check_set(&bytes, job);
        }
    }
}
