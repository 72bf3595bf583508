//! The engine: one run from its inputs to its destination.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Instant;

use corekit_base::control::Control;

use crate::destination::Destination;
use crate::error::{Error, Result};
use crate::frames::Frames;
use crate::gather::Gather;
use crate::input::InputFile;
use crate::levels::{Context, Levels};
use crate::options::Job;
use crate::order::{ALGORITHM, Keys};
use crate::plan::Plan;
use crate::pool::{Part, Pool};
use crate::report::{PUBLISH, Report};
use crate::run::Run;
use crate::sample::Sample;
use crate::sizes::{FRAME_WRITERS, Sizes};
use crate::space::check_space;
use crate::split::Splitter;
use crate::spool::Spool;
use crate::store::{Level, OnFull, Store};
use crate::survey::Survey;

/// The longest delimiter.
const DELIMITER_MAX: usize = 1024;

/// The plan for a job, which is not run; nothing is consumed or created.
///
/// # Errors
/// Those of [`shuffle`] that can be known beforehand.
pub fn plan(job: &Job) -> Result<Plan> {
    let splitter = check(job)?;
    let inputs = look(job)?;
    Plan::make(job, &Survey::of(&inputs, &splitter)?)
}

/// Shuffles the records of the job's inputs into its output.
///
/// # Errors
/// [`Error`], one variant for each thing that a caller can do about it. On an error the destination
/// is untouched; a stream ends early.
pub fn shuffle(job: &Job, control: &Control) -> Result<Report> {
    let splitter = check(job)?;
    let inputs = look(job)?;
    let plan = Plan::make(job, &Survey::of(&inputs, &splitter)?)?;
    let run = Run::new(control);
    let destination = Destination::open(&job.output, &job.tuning, &run)?;
    let output_dir = match &destination {
        Destination::File(file) => Some(file.dir()),
        Destination::Stream(_) => None,
    };
    check_space(&plan, job.scratch.as_deref(), output_dir)?;

    let Sizes {
        workers,
        part,
        frame,
        frames,
        block,
        n_blocks,
        ..
    } = plan.sizes;
    // Declared before its parts, so that it is dropped after them.
    let mut pool = Pool::new(plan.sizes.pool())?;
    let parts: Vec<Mutex<Part>> = (0..workers).map(|_| Mutex::new(pool.carve(part))).collect();
    let frames = Frames::new(pool.carve(frames * frame), frame, &run, &destination);
    let first = Level::new(0, 0, plan.sizes.bits, plan.on_full)?;
    let store = Store::new(pool.carve(n_blocks * block), block, first)?;
    let spool_dir = job.scratch.clone().filter(|_| plan.scratch_on_disk);
    let spool = Spool::new(spool_dir, &store, job.memory_limit, &run);
    let keys = Keys::new(job.seed, job.epoch, job.tuning.key_mask.unwrap_or(u64::MAX));
    let skips = plan.on_full == OnFull::Spill || inputs.iter().any(|i| i.size().is_none());
    let sample = job.sample.map(|n| Sample::new(n, skips)).transpose()?;
    let gather = Gather {
        run: &run,
        longest_index: AtomicUsize::new(0),
        keys,
        delimiter: splitter.delimiter(),
        inputs: &inputs,
        spool: &spool,
        frames: &frames,
    };
    let mut levels = Levels::new(Context {
        job,
        plan: &plan,
        run: &run,
        inputs: &inputs,
        splitter: &splitter,
        keys,
        store: &store,
        spool: &spool,
        sample: sample.as_ref(),
        gather: &gather,
        destination: &destination,
        parts: &parts,
    });
    let outcome = thread::scope(|scope| -> Result<Instant> {
        let n_writers = if destination.is_stream() {
            1
        } else {
            FRAME_WRITERS
        };
        for _ in 0..n_writers {
            run.spawn(scope, "write", || frames.write())?;
        }
        match levels.all_keys() {
            Ok(()) => frames.finish(levels.progress.position),
            Err(error) => run.fail(error),
        }
        Ok(Instant::now())
    });
    run.outcome()?;
    levels.seconds.gather += outcome?.elapsed().as_secs_f64();
    let Levels {
        progress,
        read,
        seconds,
        input_bytes,
        scratch_bytes,
        passes,
        ..
    } = levels;
    let read = read.unwrap_or_default();
    let expected = job.sample.unwrap_or(u64::MAX).min(read.records);
    if progress.written.records != expected
        || (expected == read.records && progress.written != read)
    {
        return Err(Error::Integrity(format!(
            "{} records were read and {} of {expected} written",
            read.records, progress.written.records
        )));
    }
    let mut report = Report {
        read,
        written: progress.written,
        output_bytes: progress.position,
        input_bytes,
        algorithm: ALGORITHM,
        peak_memory: plan
            .sizes
            .peak(&splitter, &gather, &store, progress.position),
        plan: plan.clone(),
        seconds,
        scratch_bytes: scratch_bytes + spool.scratch_bytes(),
        passes,
    };
    control.start_phase(PUBLISH, None);
    let start = Instant::now();
    destination.publish(progress.position, &run)?;
    report.seconds.publish = start.elapsed().as_secs_f64();
    Ok(report)
}

fn check(job: &Job) -> Result<Splitter> {
    let refuse = |message: String| Err(Error::InvalidArgument(message));
    if job.inputs.is_empty() {
        return refuse("inputs must name at least one input, got none".into());
    }
    if u32::try_from(job.inputs.len()).is_err() {
        return refuse(format!(
            "inputs must be fewer than 2^32, got {}",
            job.inputs.len()
        ));
    }
    match job.delimiter.len() {
        1..=DELIMITER_MAX => {}
        len => {
            return refuse(format!(
                "delimiter must have 1 to {DELIMITER_MAX} bytes, got {len}"
            ));
        }
    }
    if job.threads == 0 {
        return refuse("threads must be at least 1, got 0".into());
    }
    Ok(Splitter::new(&job.delimiter))
}

fn look(job: &Job) -> Result<Vec<InputFile>> {
    job.inputs.iter().cloned().map(InputFile::look).collect()
}
