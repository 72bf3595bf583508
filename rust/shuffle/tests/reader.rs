//! A reader gets its slice of the published order, whatever the plan.

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use corekit_base::philox::Stream;
use corekit_shuffle::{Error, Input, Job, Output, RecordReader, Slice, Tuning, Wait};
use proptest::prelude::*;

fn job(seed: u128, slice: Slice) -> Job {
    common::job(seed, Output::Reader(slice))
}

/// The common sizes, with enough blocks for several workers and buckets.
fn tiny() -> Tuning {
    Tuning {
        blocks: Some(60),
        bits: Some(3),
        ..common::tiny()
    }
}

/// Lines, each by itself and without its delimiter.
fn lines(n: usize, len: impl Fn(usize) -> usize) -> Vec<Vec<u8>> {
    let text = common::lines(n, len);
    let lines = text.split_inclusive(|&byte| byte == b'\n');
    lines.map(|line| line[..line.len() - 1].to_vec()).collect()
}

fn order(records: &[Vec<u8>], seed: u128, epoch: u32) -> Vec<Vec<u8>> {
    let keys = Stream::new(seed, 0, u64::from(epoch));
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by_key(|&i| keys.word(i as u64));
    order.into_iter().map(|i| records[i].clone()).collect()
}

/// Everything that a reader gives, in batches of `n`.
fn read(records: &[Vec<u8>], mut job: Job, n: usize) -> Result<Vec<Vec<u8>>, Error> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("input");
    let bytes: Vec<u8> = records
        .iter()
        .flat_map(|r| [&r[..], b"\n"].concat())
        .collect();
    fs::write(&path, bytes).expect("written");
    job.inputs = vec![Input::Path(path.into())];
    job.scratch = job.scratch.map(|_| dir.path().to_owned());
    let mut reader = RecordReader::start(job).expect("a thread");
    let mut found = Vec::new();
    loop {
        match reader.batch(n, Duration::from_millis(20))? {
            Wait::Pending => {}
            Wait::End => break,
            Wait::Ready(batch) => {
                assert_eq!(batch.offsets[0], 0);
                assert_eq!(
                    *batch.offsets.last().expect("one") as usize,
                    batch.data.len()
                );
                let ends = batch.offsets.windows(2);
                found.extend(ends.map(|w| batch.data[w[0] as usize..w[1] as usize].to_vec()));
                assert!(batch.offsets.len() - 1 <= n);
            }
        }
    }
    assert_eq!(reader.records(), Some(records.len() as u64));
    Ok(found)
}

#[test]
fn all_records_in_order() {
    let records = lines(3000, |i| if i % 500 == 7 { 20_000 } else { i % 60 });
    for (spill, scratch) in [(None, true), (Some(true), true), (Some(false), false)] {
        for n in [1, 7, 1000, 10_000] {
            let job = Job {
                scratch: scratch.then(PathBuf::new),
                tuning: Tuning { spill, ..tiny() },
                ..job(1, Slice::default())
            };
            assert!(
                read(&records, job, n).expect("read") == order(&records, 1, 0),
                "{n}"
            );
        }
    }
}

#[test]
fn a_wrong_guess_of_the_share_is_mended() {
    // As if there were so many records that a share's keys are known to the last bit.
    let records = lines(900, |i| i % 40);
    for seed in 0..10 {
        let expected = order(&records, seed, 0);
        for rank in 0..3 {
            for (spill, scratch) in [(None, true), (Some(true), true), (Some(false), false)] {
                let slice = Slice {
                    rank,
                    world: 3,
                    ..Slice::default()
                };
                let tuning = Tuning {
                    spill,
                    bits: Some(6),
                    blocks: Some(120),
                    records: Some(1 << 40),
                    ..tiny()
                };
                let job = Job {
                    scratch: scratch.then(PathBuf::new),
                    tuning,
                    ..job(seed, slice)
                };
                let share = slice.share(900);
                let wanted = &expected[share.start as usize..share.end as usize];
                assert!(
                    read(&records, job, 100).expect("read") == wanted,
                    "{seed} {rank}"
                );
            }
        }
    }
}

#[test]
fn nothing_is_the_end() {
    assert_eq!(
        read(&[], job(1, Slice::default()), 10).expect("read"),
        Vec::<Vec<u8>>::new()
    );
    let empty = vec![Vec::new(); 100];
    let tuning = Tuning {
        page: Some(64),
        ..tiny()
    };
    let job = Job {
        tuning,
        ..job(1, Slice::default())
    };
    assert_eq!(read(&empty, job, 9).expect("read"), empty);
}

#[test]
fn a_start_beyond_the_share_is_refused() {
    let slice = Slice {
        start: 11,
        ..Slice::default()
    };
    let error = read(&lines(10, |_| 3), job(1, slice), 5).expect_err("refused");
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    let slice = Slice {
        start: 10,
        ..Slice::default()
    };
    assert!(
        read(&lines(10, |_| 3), job(1, slice), 5)
            .expect("the end")
            .is_empty()
    );
}

#[test]
fn a_reader_that_is_dropped_stops_its_engine() {
    for taken in [0, 1, 3] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("input");
        fs::write(&path, b"a record\n".repeat(200_000)).expect("written");
        let job = Job {
            inputs: vec![Input::Path(path.into())],
            scratch: Some(dir.path().to_owned()),
            tuning: Tuning {
                page: Some(4096),
                ..Tuning::default()
            },
            ..job(1, Slice::default())
        };
        let mut reader = RecordReader::start(job).expect("a thread");
        for _ in 0..taken {
            while reader.batch(10, Duration::from_millis(20)).expect("read") == Wait::Pending {}
        }
        drop(reader);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn slices_are_what_they_should_be(
        (n, len, seed, epoch) in (0usize..900, 1usize..90, any::<u128>(), 0u32..3),
        (world, workers, batch) in (1u64..5, 1u64..4, 1usize..400),
        start in 0.0f64..1.0,
        (spill, scratch, engines) in (any::<Option<bool>>(), any::<bool>(), 1usize..4),
        guess in proptest::option::of(prop_oneof![Just(1u64), Just(1_000_000), Just(1 << 40)]),
        (bits, blocks, page) in (0u32..6, 20usize..90, 100usize..5000),
    ) {
        let records = lines(n, |i| (i * 7) % len);
        let expected = order(&records, seed, epoch);
        let rank = seed as u64 % world;
        let worker = (seed >> 64) as u64 % workers;
        let slice = Slice { rank, world, worker, workers, start: 0 };
        let share = slice.share(n as u64);
        let start = ((share.end - share.start) as f64 * start) as u64;
        let job = Job {
            epoch,
            scratch: scratch.then(PathBuf::new),
            tuning: Tuning {
                spill,
                records: guess,
                workers: Some(engines),
                bits: Some(bits),
                blocks: Some(blocks + (1 << bits) + engines),
                page: Some(page.next_multiple_of(64)),
                ..tiny()
            },
            ..job(seed, Slice { start, ..slice })
        };
        let found = read(&records, job, batch).expect("read");
        let wanted = &expected[(share.start + start) as usize..share.end as usize];
        prop_assert!(found == wanted, "{} records, {} wanted", found.len(), wanted.len());
    }
}
