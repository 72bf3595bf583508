//! The engine: one run from its inputs to its destination.

use std::ops::Range;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use corekit_base::control::Control;
use corekit_base::sync::lock;

use crate::check::{Checked, check};
use crate::digest::Tally;
use crate::error::{Error, Result};
use crate::input::decode::Expansion;
use crate::input::header::Header;
use crate::input::sequence::Decoders;
use crate::input::split::Splitter;
use crate::input::survey::Survey;
use crate::input::{InputFile, Look};
use crate::levels::Totals;
use crate::levels::gather::Sink;
use crate::options::{Job, Output};
use crate::order::ALGORITHM;
use crate::output::append::Appender;
use crate::output::destination::Destination;
use crate::output::encode::Encoder;
use crate::output::feed::{Feed, page_bytes};
use crate::output::frames::Frames;
use crate::output::layout::{Group, Layout};
use crate::output::outcome::Outcome;
use crate::output::sections::{Prefix, Sections};
use crate::plan::sizes::Sizes;
use crate::plan::space::check_space;
use crate::plan::{Plan, smallest_limit};
use crate::report::{PUBLISH, Report};
use crate::run::Run;
use crate::store::pool::{Part, Pool};
use crate::store::spool::Spool;
use crate::store::{Level, Store};
use crate::work::Work;

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
    let mut reports = shuffle_aligned(std::slice::from_ref(job), control)?;
    let none = || Error::Internal("a run without a report".into());
    reports.pop().ok_or_else(none)
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
    run_plan(job, control, company, checked, &header, &inputs, plan)
        .map_err(|error| explained(error, job, &survey))
}

/// How many of an epoch's records are written: `counts` are those of the key space's parts.
fn wanted(job: &Job, read: &Tally, counts: &[u64]) -> u64 {
    match job.fraction {
        Some(_) => counts[0],
        None => job.sample.unwrap_or(u64::MAX).min(read.records),
    }
}

/// The layout of an output of which `wanted` records of every epoch are written.
fn layout(job: &Job, checked: &Checked, wanted: u64, counts: &[u64]) -> Layout {
    let n_epochs = job.epochs.unwrap_or(1);
    let one = [wanted];
    let of_epoch = match job.splits.is_empty() {
        true => &one[..],
        false => counts,
    };
    let group = |epoch, split, records| Group {
        epoch,
        split,
        records,
    };
    let groups = match checked.epochs_apart || !job.splits.is_empty() {
        true => (job.epoch..job.epoch + n_epochs)
            .flat_map(|epoch| {
                let splits = of_epoch.iter().enumerate();
                splits.map(move |(split, &records)| group(epoch, split, records))
            })
            .collect(),
        false => vec![group(job.epoch, 0, wanted * u64::from(n_epochs))],
    };
    let record = checked.splitter.fixed().map(|bytes| bytes as u64);
    Layout::new(job.shards, groups, record)
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
    let run = Run::new(control);
    let splitter = &checked.splitter;
    let destination = Destination::open(&job.output, checked.pattern.clone(), &job.tuning, &run)?;
    if company.others && destination.is_stream() {
        return Err(Error::InvalidArgument(
            "output must be a file for each input of an aligned shuffle".into(),
        ));
    }
    check_space(&plan, job.scratch.as_deref(), destination.dir())?;

    let sizes = plan.sizes;
    // Declared before its parts, so that it is dropped after them.
    let mut pool = Pool::new(sizes.pool())?;
    let parts_of_workers = carve_workers(&mut pool, &sizes);
    let window = pool.carve(sizes.frames * sizes.frame);
    let appender = (sizes.append > 0).then(|| Appender::new(pool.carve(sizes.append)));
    let mut encoders = Vec::new();
    if let Some(compression) = job.compression {
        for _ in 0..sizes.writers {
            encoders.push((Encoder::new(compression)?, pool.carve(sizes.encoded)));
        }
    }
    let in_order = destination.is_stream() && job.compression.is_none();
    let writers = if in_order { 1 } else { sizes.writers };
    let frames = Frames::new(window, sizes.frame, appender, writers, &run, &destination);
    let sections = Sections::new(&frames, &run);
    let store = make_store(&mut pool, &plan)?;
    let spool = make_spool(job, &plan, &store, &run);
    let decoders = make_decoders(job, &plan);
    let n_epochs = job.epochs.unwrap_or(1);
    let delimiter = splitter.delimiter().len() as u64;

    // What the first epoch saw, and what it made of it.
    let known = Mutex::new(None::<(Tally, Vec<u64>, u64)>);
    let counted = |read: &Tally, counts: &[u64]| -> Result<Range<u64>> {
        let mut known = lock(&known);
        if let Some((before, counts_before, wanted)) = &*known {
            if before != read || counts_before != counts {
                return Err(Error::Integrity("two epochs saw different records".into()));
            }
            return Ok(0..*wanted);
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
        let wanted = wanted(job, read, counts);
        if wanted == read.records && job.compression.is_none() {
            let bytes = read.bytes + read.records * delimiter;
            destination.reserve(bytes * u64::from(n_epochs))?;
        }
        *known = Some((*read, counts.to_vec(), wanted));
        drop(known);
        let prefix = match &job.npy {
            Some(npy) => Prefix::Npy(npy.clone()),
            None => Prefix::Bytes(header.bytes().to_vec()),
        };
        sections.fix(layout(job, &checked, wanted, counts), prefix)?;
        Ok(0..wanted)
    };

    let mut work = Work {
        job,
        plan: &plan,
        run: &run,
        inputs,
        splitter,
        header,
        parts: checked.parts.as_ref(),
        store: &store,
        spool: &spool,
        decoders: &decoders,
        parts_of_workers: &parts_of_workers,
        longest_index: 0,
    };
    let sink = Sink::Files {
        frames: &frames,
        sections: &sections,
    };
    let mut totals = Totals::default();
    let outcome = thread::scope(|scope| -> Result<Instant> {
        let mut encoders = encoders.iter_mut();
        for _ in 0..writers {
            let encoder = encoders
                .next()
                .map(|(encoder, out)| (encoder, out.as_mut()));
            let frames = &frames;
            run.spawn(scope, "write", move || frames.write(encoder))?;
        }
        let mut epochs = || -> Result<()> {
            for epoch in job.epoch..job.epoch + n_epochs {
                totals = work.epoch(epoch, std::mem::take(&mut totals), sink, &counted)?;
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
    let wanted = lock(&known).take().map_or(0, |(_, _, wanted)| wanted);
    prove(&read, &progress.written, wanted, n_epochs)?;
    let peak_memory = sizes.peak(
        splitter,
        work.longest_index,
        decoders.bytes(),
        &store,
        progress.position,
    );
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
    Ok(Outcome::new(
        job,
        destination,
        checked.pattern,
        report,
        files,
        per_file,
    ))
}

/// Shuffles the records of the job's inputs into a feed, of which the job's output is a slice.
pub(crate) fn feed(job: &Job, control: &Control, feed: &Feed) -> Result<()> {
    let Output::Reader(slice) = &job.output else {
        return Err(Error::Internal("a feed without a reader".into()));
    };
    let checked = check(job)?;
    let header = Header::new(job.header);
    let inputs = look(job, &checked.splitter, &header)?;
    let survey = Survey::of(&inputs, &checked.splitter)?;
    let plan = Plan::make(job, &survey)?;
    check_space(&plan, job.scratch.as_deref(), None)?;
    let run = Run::new(control);
    let mut pool = Pool::new(plan.sizes.pool())?;
    let parts_of_workers = carve_workers(&mut pool, &plan.sizes);
    let Sizes { pages, page, .. } = plan.sizes;
    feed.open(&pool.carve(pages * page_bytes(page)), page);
    let store = make_store(&mut pool, &plan)?;
    let spool = make_spool(job, &plan, &store, &run);
    let decoders = make_decoders(job, &plan);
    let counted = |read: &Tally, counts: &[u64]| -> Result<Range<u64>> {
        let n = wanted(job, read, counts);
        feed.count(n);
        let share = slice.share(n);
        if slice.start > share.end - share.start {
            return Err(Error::InvalidArgument(format!(
                "position must be at most {} in this share of {n} records, got {}",
                share.end - share.start,
                slice.start
            )));
        }
        Ok(share.start + slice.start..share.end)
    };
    let mut work = Work {
        job,
        plan: &plan,
        run: &run,
        inputs: &inputs,
        splitter: &checked.splitter,
        header: &header,
        parts: checked.parts.as_ref(),
        store: &store,
        spool: &spool,
        decoders: &decoders,
        parts_of_workers: &parts_of_workers,
        longest_index: 0,
    };
    run.guard(|| {
        work.epoch(job.epoch, Totals::default(), Sink::Feed(feed), &counted)?;
        feed.drain(&run)
    });
    // Here, and not later: the pages lie in the pool.
    let outcome = run.outcome();
    feed.end(outcome.err().map(|error| explained(error, job, &survey)));
    Ok(())
}

fn carve_workers(pool: &mut Pool, sizes: &Sizes) -> Vec<Mutex<Part>> {
    (0..sizes.workers)
        .map(|_| Mutex::new(pool.carve(sizes.part)))
        .collect()
}

fn make_store(pool: &mut Pool, plan: &Plan) -> Result<Store> {
    let Sizes {
        n_blocks,
        block,
        bits,
        ..
    } = plan.sizes;
    let level = Level::new(0, 0, bits, plan.on_full)?;
    Store::new(pool.carve(n_blocks * block), block, level)
}

fn make_spool<'a>(job: &Job, plan: &Plan, store: &'a Store, run: &'a Run) -> Spool<'a> {
    let dir = job.scratch.clone().filter(|_| plan.scratch_on_disk);
    Spool::new(dir, store, job.memory_limit, run)
}

fn make_decoders(job: &Job, plan: &Plan) -> Decoders {
    let expansion = Expansion {
        floor: job.tuning.expansion.unwrap_or(EXPANSION.floor),
        ..EXPANSION
    };
    Decoders::new(plan.sizes.window, (!job.any_expansion).then_some(expansion))
}

/// An error with what only the plan knows.
fn explained(error: Error, job: &Job, survey: &Survey) -> Error {
    match error {
        Error::Window { path, window } => Error::MemoryLimit(format!(
            "memory_limit must be at least {} bytes to decode {} with its window of {window} \
                 bytes, got {}",
            smallest_limit(job, survey, window),
            path.display(),
            job.memory_limit
        )),
        other => other,
    }
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
