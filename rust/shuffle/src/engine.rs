//! The engine: one run from its inputs to its destination.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Instant;

use corekit_base::control::Control;

use crate::append::Appender;
use crate::check::{Checked, check};
use crate::decode::Expansion;
use crate::destination::Destination;
use crate::digest::Tally;
use crate::encode::Encoder;
use crate::error::{Error, Result};
use crate::frames::Frames;
use crate::gather::Gather;
use crate::header::Header;
use crate::input::{InputFile, Look};
use crate::layout::{Group, Layout};
use crate::levels::{Context, Levels, Totals};
use crate::options::Job;
use crate::order::{ALGORITHM, Keys};
use crate::outcome::Outcome;
use crate::plan::{Plan, smallest_limit};
use crate::pool::{Part, Pool};
use crate::reader::Reading;
use crate::report::{PUBLISH, Report};
use crate::run::{Run, lock};
use crate::sample::Sample;
use crate::sections::{Prefix, Sections};
use crate::sequence::Decoding;
use crate::sizes::Sizes;
use crate::space::check_space;
use crate::split::Splitter;
use crate::spool::Spool;
use crate::store::{Level, OnFull, Store};
use crate::survey::Survey;

/// Compressed inputs may expand so far, whatever their size, and so many times.
const EXPANSION: Expansion = Expansion {
    ratio: 1000,
    floor: 1 << 30,
};

/// The plan for a job, which is not run; nothing is consumed or created.
///
/// # Errors
/// Those of [`shuffle`] that can be known beforehand.
pub fn plan(job: &Job) -> Result<Plan> {
    let Checked { splitter, .. } = check(job)?;
    let header = Header::new(job.header);
    let inputs = look(job, &splitter, &header)?;
    Plan::make(job, &Survey::of(&inputs, &splitter)?)
}

/// Shuffles the records of the job's inputs into its output.
///
/// # Errors
/// [`Error`], one variant for each thing that a caller can do about it. On an error the destination
/// is untouched; a stream ends early.
pub fn shuffle(job: &Job, control: &Control) -> Result<Report> {
    let outcome = run(job, control, &Company::default())?;
    control.start_phase(PUBLISH, None);
    outcome.publish(&Run::new(control))
}

/// Shuffles several files of equal record counts in step: a job for each, in which it is input 0.
///
/// # Errors
/// Those of [`shuffle`]; [`Error::Format`] when the counts differ. Nothing is published before all
/// outputs are complete.
pub fn shuffle_aligned(jobs: &[Job], control: &Control) -> Result<Vec<Report>> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for job in jobs {
        let company = Company {
            others: jobs.len() > 1,
            first: outcomes.first().map(|first| (first.records(), &jobs[0])),
        };
        let outcome = run(job, control, &company)?;
        if outcomes.iter().any(|other| other.is_same_file(&outcome)) {
            return Err(Error::InvalidArgument(
                "output must be another file for each input of an aligned shuffle".into(),
            ));
        }
        outcomes.push(outcome);
    }
    control.start_phase(PUBLISH, None);
    let run = Run::new(control);
    outcomes
        .into_iter()
        .map(|outcome| outcome.publish(&run))
        .collect()
}

/// What a job has to do with others.
#[derive(Default)]
struct Company<'a> {
    /// Its output must wait until all others are complete.
    others: bool,
    /// Its records must be as many as those of the first job.
    first: Option<(u64, &'a Job)>,
}

/// Runs a job up to its publication.
fn run(job: &Job, control: &Control, company: &Company) -> Result<Outcome> {
    let checked = check(job)?;
    let header = Header::new(job.header);
    let inputs = look(job, &checked.splitter, &header)?;
    let survey = Survey::of(&inputs, &checked.splitter)?;
    let plan = Plan::make(job, &survey)?;
    if job.epochs.is_some_and(|epochs| epochs > 1)
        && let Some(stream) = inputs.iter().find(|input| !input.can_be_read_again())
    {
        return Err(Error::InvalidArgument(format!(
            "epochs needs inputs that can be read again, got {}",
            stream.path().display()
        )));
    }
    run_plan(job, control, company, checked, &header, &inputs, plan).map_err(|error| match error {
        Error::Window { path, window } => {
            let survey = Survey { window, ..survey };
            Error::MemoryLimit(format!(
                "memory_limit must be at least {} bytes to decode {} with its window of {window} \
                 bytes, got {}",
                smallest_limit(job, &survey),
                path.display(),
                job.memory_limit
            ))
        }
        other => other,
    })
}

fn run_plan(
    job: &Job,
    control: &Control,
    company: &Company,
    checked: Checked,
    header: &Header,
    inputs: &[InputFile],
    plan: Plan,
) -> Result<Outcome> {
    let Checked {
        splitter,
        pattern,
        parts,
        epochs_apart,
    } = checked;
    let run = Run::new(control);
    let destination = Destination::open(&job.output, pattern.clone(), &job.tuning, &run)?;
    if company.others && destination.is_stream() {
        return Err(Error::InvalidArgument(
            "output must be a file for each input of an aligned shuffle".into(),
        ));
    }
    check_space(&plan, job.scratch.as_deref(), destination.dir())?;

    let Sizes {
        workers,
        part,
        frame,
        frames,
        writers,
        encoded,
        append,
        block,
        n_blocks,
        ..
    } = plan.sizes;
    // Declared before its parts, so that it is dropped after them.
    let mut pool = Pool::new(plan.sizes.pool())?;
    let parts_of_workers: Vec<Mutex<Part>> =
        (0..workers).map(|_| Mutex::new(pool.carve(part))).collect();
    let window = pool.carve(frames * frame);
    let appender = (append > 0).then(|| Appender::new(pool.carve(append)));
    let mut encoders = Vec::new();
    if let Some(compression) = job.compression {
        for _ in 0..writers {
            encoders.push((Encoder::new(compression)?, pool.carve(encoded)));
        }
    }
    let frames = Frames::new(window, frame, appender, &run, &destination);
    let sections = Sections::new(&frames, &run);
    let first_level = || Level::new(0, 0, plan.sizes.bits, plan.on_full);
    let store = Store::new(pool.carve(n_blocks * block), block, first_level()?)?;
    let spool_dir = job.scratch.clone().filter(|_| plan.scratch_on_disk);
    let spool = Spool::new(spool_dir, &store, job.memory_limit, &run);
    let skips = plan.on_full == OnFull::Spill || !inputs.iter().all(InputFile::can_be_read_again);
    let n_epochs = job.epochs.unwrap_or(1);
    let delimiter = splitter.delimiter().len() as u64;

    let fixed_layout = Mutex::new(None::<(Tally, Vec<u64>, u64)>);
    let counted = |read: &Tally, counts: &[u64]| -> Result<u64> {
        let mut fixed = lock(&fixed_layout);
        if let Some((before, counts_before, wanted)) = &*fixed {
            // Another epoch of the same records.
            if before != read || counts_before != counts {
                return Err(Error::Integrity("two epochs saw different records".into()));
            }
            return Ok(*wanted);
        }
        if let Some((records, other)) = company.first
            && records != read.records
        {
            return Err(Error::Format {
                path: inputs[0].path().to_owned(),
                how: format!(
                    "has {} records, and {} has {records}: aligned files must have as many",
                    read.records,
                    other.inputs[0].path().display()
                ),
            });
        }
        let wanted = match job.fraction {
            Some(_) => counts[0],
            None => job.sample.unwrap_or(u64::MAX).min(read.records),
        };
        let of_epoch: &[u64] = if job.splits.is_empty() {
            &[wanted]
        } else {
            counts
        };
        let groups = match epochs_apart || !job.splits.is_empty() {
            true => (0..n_epochs)
                .flat_map(|epoch| {
                    of_epoch
                        .iter()
                        .enumerate()
                        .map(move |(split, &records)| Group {
                            epoch: job.epoch + epoch,
                            split,
                            records,
                        })
                })
                .collect(),
            false => vec![Group {
                epoch: job.epoch,
                split: 0,
                records: wanted * u64::from(n_epochs),
            }],
        };
        let record = splitter.fixed().map(|bytes| bytes as u64);
        let prefix = match &job.npy {
            Some(npy) => Prefix::Npy(npy.clone()),
            None => Prefix::Bytes(header.bytes().to_vec()),
        };
        if wanted == read.records && job.compression.is_none() {
            let bytes = read.bytes + read.records * delimiter;
            destination.reserve(bytes * u64::from(n_epochs))?;
        }
        *fixed = Some((*read, counts.to_vec(), wanted));
        drop(fixed);
        sections.fix(Layout::new(job.shards, groups, record), prefix)?;
        Ok(wanted)
    };

    let mut longest_index = 0;
    let mut totals = Totals::default();
    let outcome = thread::scope(|scope| -> Result<Instant> {
        let mut encoders = encoders.iter_mut();
        let in_order = destination.is_stream() && job.compression.is_none();
        for _ in 0..if in_order { 1 } else { writers } {
            let encoder = encoders
                .next()
                .map(|(encoder, out)| (encoder, out.as_mut()));
            let frames = &frames;
            run.spawn(scope, "write", move || frames.write(encoder))?;
        }
        let mut epochs = || -> Result<()> {
            for epoch in job.epoch..job.epoch + n_epochs {
                let mask = job.tuning.key_mask.unwrap_or(u64::MAX);
                let keys = Keys::new(job.seed, epoch, mask, parts.as_ref());
                let sample = match (job.sample, job.fraction) {
                    (Some(count), _) => Some(Sample::new(count, skips)?),
                    (None, Some(cut)) => Some(Sample::below(cut, skips)),
                    (None, None) => None,
                };
                let gather = Gather {
                    run: &run,
                    longest_index: AtomicUsize::new(longest_index),
                    keys,
                    delimiter: splitter.delimiter(),
                    inputs,
                    spool: &spool,
                    frames: &frames,
                    sections: &sections,
                };
                let reading = Reading {
                    inputs,
                    splitter: &splitter,
                    header,
                    spool: &spool,
                    sizes: plan.sizes.reader,
                    decoding: Decoding {
                        window: plan.sizes.window,
                        expansion: (!job.any_expansion).then_some(Expansion {
                            floor: job.tuning.expansion.unwrap_or(EXPANSION.floor),
                            ..EXPANSION
                        }),
                    },
                    lanes: plan.sizes.lanes,
                    run: &run,
                };
                if epoch > job.epoch {
                    spool.clear();
                    store.restart(first_level()?);
                }
                let context = Context {
                    job,
                    plan: &plan,
                    run: &run,
                    inputs,
                    splitter: &splitter,
                    keys,
                    parts: parts.as_ref(),
                    counted: &counted,
                    store: &store,
                    spool: &spool,
                    reading,
                    sample: sample.as_ref(),
                    gather: &gather,
                    parts_of_workers: &parts_of_workers,
                };
                let mut levels = Levels::new(context, std::mem::take(&mut totals));
                levels.all_keys()?;
                totals = levels.totals;
                longest_index = gather.longest_index.into_inner();
            }
            sections.finish(totals.progress.position)
        };
        if let Err(error) = epochs() {
            run.fail(error);
        }
        Ok(Instant::now())
    });
    run.outcome()?;
    totals.seconds.gather += outcome?.elapsed().as_secs_f64();
    let Totals {
        progress,
        read,
        seconds,
        input_bytes,
        scratch_bytes,
        passes,
    } = totals;
    let read = read.unwrap_or_default();
    let wanted = lock(&fixed_layout)
        .take()
        .map_or(0, |(_, _, wanted)| wanted);
    prove(&read, &progress.written, wanted, n_epochs)?;
    let peak_memory = plan
        .sizes
        .peak(&splitter, longest_index, &store, progress.position);
    let report = Report {
        read,
        written: progress.written,
        output_bytes: frames.written(),
        output_size: frames.stored(),
        files: Vec::new(),
        input_bytes,
        algorithm: ALGORITHM,
        peak_memory,
        plan: plan.clone(),
        seconds,
        scratch_bytes: scratch_bytes + spool.scratch_bytes(),
        passes,
    };
    let files = sections.files();
    let per_file = (sections.prefix_len(), delimiter);
    Outcome::new(job, destination, pattern, report, files, per_file)
}

/// An error when what was written is not what was read, as often as it should be.
fn prove(read: &Tally, written: &Tally, wanted: u64, n_epochs: u32) -> Result<()> {
    let expected = wanted * u64::from(n_epochs);
    let all = (wanted == read.records).then(|| {
        (0..n_epochs).fold(Tally::default(), |mut sum, _| {
            sum.merge(read);
            sum
        })
    });
    if written.records != expected || all.is_some_and(|all| all != *written) {
        return Err(Error::Integrity(format!(
            "{} records were read and {} of {expected} written",
            read.records, written.records
        )));
    }
    Ok(())
}

fn look(job: &Job, splitter: &Splitter, header: &Header) -> Result<Vec<InputFile>> {
    let look = Look {
        format: job.input_format,
        splitter,
        header,
    };
    let skips = job.npy.iter().flat_map(|npy| npy.starts.iter().copied());
    job.inputs
        .iter()
        .cloned()
        .zip(skips.chain(std::iter::repeat(0)))
        .map(|(input, skip)| InputFile::look(input, skip, &look))
        .collect()
}
