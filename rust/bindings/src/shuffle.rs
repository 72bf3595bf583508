//! `corekit.shuffle`.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use corekit_base::control::{Control, Progress};
use corekit_shuffle::{
    Compression, Encoding, Error, FileReport, Input, InputFormat, Job, Npy, Output, PHASES, Plan,
    Records, Report, Shards, Slice, Split, Tuning,
};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::arrays::load_numpy;
use crate::enter::enter;
use crate::errors::{Raise, invalid_argument};

/// Shuffles what each job says; several are aligned. Returns a report for each.
#[pyfunction]
pub(crate) fn shuffle_run<'py>(
    py: Python<'py>,
    jobs: Vec<Arguments>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let jobs: Vec<Job> = jobs
        .into_iter()
        .map(Arguments::job)
        .collect::<PyResult<_>>()?;
    let control = Control::new();
    let tell = |py: Python<'_>| match &progress {
        None => Ok(()),
        Some(progress) => {
            let Progress { phase, done, total } = control.progress();
            progress
                .call1(py, (done, total, PHASES[usize::from(phase)]))
                .map(drop)
        }
    };
    let reports = enter(py, &control, tell, || {
        corekit_shuffle::shuffle_aligned(&jobs, &control).map_err(Raise::raise)
    })?;
    reports
        .iter()
        .zip(&jobs)
        .map(|(report, job)| report_dict(py, report, job.seed))
        .collect()
}

/// The plan of a shuffle that is not run.
#[pyfunction]
pub(crate) fn shuffle_plan<'py>(py: Python<'py>, job: Arguments) -> PyResult<Bound<'py, PyDict>> {
    let job = job.job()?;
    let plan = enter(
        py,
        &Control::new(),
        |_| Ok(()),
        || corekit_shuffle::plan(&job).map_err(Raise::raise),
    )?;
    plan_dict(py, &plan)
}

/// The order of `n` records of one input.
#[pyfunction]
#[pyo3(signature = (n, *, seed, stream, epoch, threads))]
pub(crate) fn permutation(
    py: Python<'_>,
    n: u64,
    seed: u128,
    stream: u32,
    epoch: u32,
    threads: usize,
) -> PyResult<Bound<'_, PyArray1<u64>>> {
    load_numpy(py)?;
    let control = Control::new();
    let order = enter(
        py,
        &control,
        |_| Ok(()),
        || {
            corekit_shuffle::permutation(n, seed, stream, epoch, threads, &control)
                .map_err(Raise::raise)
        },
    )?;
    Ok(order.into_pyarray(py))
}

/// A path as the system's bytes.
pub(crate) struct PathBytes(PathBuf);

impl<'py> FromPyObject<'_, 'py> for PathBytes {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let bytes = value.cast::<PyBytes>()?;
        Ok(Self(OsStr::from_bytes(bytes.as_bytes()).into()))
    }
}

/// A path, or an open descriptor.
#[derive(FromPyObject)]
pub(crate) enum Place {
    Path(PathBytes),
    Descriptor(RawFd),
}

/// An own handle to an open descriptor, and its name for messages.
fn open_file(descriptor: RawFd) -> PyResult<(Arc<File>, PathBuf)> {
    let name = match descriptor {
        0 => PathBuf::from("standard input"),
        1 => PathBuf::from("standard output"),
        n => PathBuf::from(format!("/dev/fd/{n}")),
    };
    let refused = |errno: rustix::io::Errno| {
        let error = Error::Io {
            path: name.clone(),
            source: errno.into(),
        };
        error.raise()
    };
    if descriptor < 0 {
        return Err(refused(rustix::io::Errno::BADF));
    }
    #[allow(unsafe_code)]
    // SAFETY: used for one `dup`, which refuses a descriptor that is not open; -1 was refused.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let own = rustix::io::fcntl_dupfd_cloexec(borrowed, 3).map_err(refused)?;
    Ok((Arc::new(File::from(own)), name))
}

/// One job as Python says it: `corekit.shuffle._job.Job`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Arguments {
    inputs: Vec<Place>,
    /// `None` for a reader, which has a slice: rank, world, worker, workers, start.
    output: Option<Place>,
    slice: Option<(u64, u64, u64, u64, u64)>,
    seed: u128,
    epoch: u32,
    epochs: Option<u32>,
    memory_limit: u64,
    threads: usize,
    scratch: Option<PathBytes>,
    delimiter: Vec<u8>,
    record_bytes: Option<usize>,
    input_format: String,
    npy: Option<NpyArguments>,
    header: u64,
    any_expansion: bool,
    sample: Option<u64>,
    fraction: Option<u128>,
    splits: Option<Vec<(String, u128)>>,
    shards: Option<u64>,
    shard_records: Option<u64>,
    shard_bytes: Option<u64>,
    compress: Option<(String, i32)>,
    tuning: Option<Py<PyDict>>,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct NpyArguments {
    starts: Vec<u64>,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Arguments {
    /// Records that a reader passes over.
    pub fn start(&self) -> u64 {
        self.slice.map_or(0, |(.., start)| start)
    }

    pub fn job(self) -> PyResult<Job> {
        let refuse = |what: String| Err(invalid_argument(what));
        let input = |place| {
            Ok(match place {
                Place::Path(path) => Input::Path(path.0.into()),
                Place::Descriptor(descriptor) => {
                    let (file, name) = open_file(descriptor)?;
                    Input::Open(file, name)
                }
            })
        };
        let output = match (self.output, self.slice) {
            (Some(Place::Path(path)), _) => Output::Path(path.0),
            (Some(Place::Descriptor(descriptor)), _) => {
                let (file, name) = open_file(descriptor)?;
                Output::Open(file, name)
            }
            (None, Some((rank, world, worker, workers, start))) => Output::Reader(Slice {
                rank,
                world,
                worker,
                workers,
                start,
            }),
            (None, None) => return refuse("output must be given, got none".into()),
        };
        let input_format = match &self.input_format[..] {
            "auto" => InputFormat::Auto,
            "raw" => InputFormat::Is(Encoding::Raw),
            "gzip" => InputFormat::Is(Encoding::Gzip),
            "zstd" => InputFormat::Is(Encoding::Zstd),
            other => return refuse(format!("input_format has no {other:?}")),
        };
        let compression = match self.compress {
            None => None,
            Some((name, level)) => Some(match (&name[..], u32::try_from(level)) {
                ("gzip", Ok(level)) => Compression::Gzip(level),
                ("zstd", _) => Compression::Zstd(level),
                _ => return refuse(format!("compress has no {name}:{level}")),
            }),
        };
        let splits = self.splits.unwrap_or_default().into_iter();
        Ok(Job {
            inputs: self
                .inputs
                .into_iter()
                .map(input)
                .collect::<PyResult<_>>()?,
            output,
            seed: self.seed,
            epoch: self.epoch,
            epochs: self.epochs,
            memory_limit: self.memory_limit,
            threads: self.threads,
            scratch: self.scratch.map(|path| path.0),
            records: match self.record_bytes {
                Some(bytes) => Records::Fixed(bytes),
                None => Records::Delimited(self.delimiter),
            },
            input_format,
            npy: self.npy.map(|npy| Npy {
                starts: npy.starts,
                before: npy.before,
                after: npy.after,
            }),
            header: self.header,
            any_expansion: self.any_expansion,
            sample: self.sample,
            fraction: self.fraction,
            splits: splits.map(|(name, end)| Split { name, end }).collect(),
            shards: match (self.shards, self.shard_records, self.shard_bytes) {
                (Some(n), ..) => Shards::Count(n),
                (_, Some(n), _) => Shards::Records(n),
                (.., Some(n)) => Shards::Bytes(n),
                _ => Shards::Whole,
            },
            compression,
            tuning: Python::attach(|py| read_tuning(self.tuning.as_ref().map(|t| t.bind(py))))?,
        })
    }
}

/// Reads the private overrides that tests use; an unknown one is an error.
fn read_tuning(given: Option<&Bound<'_, PyDict>>) -> PyResult<Tuning> {
    let mut tuning = Tuning::default();
    let Some(given) = given else {
        return Ok(tuning);
    };
    for (name, value) in given {
        match name.extract::<String>()?.as_str() {
            "chunk" => tuning.chunk = value.extract()?,
            "block" => tuning.block = value.extract()?,
            "slab" => tuning.slab = value.extract()?,
            "blocks" => tuning.blocks = value.extract()?,
            "bits" => tuning.bits = value.extract()?,
            "inline_max" => tuning.inline_max = value.extract()?,
            "frame" => tuning.frame = value.extract()?,
            "entries" => tuning.entries = value.extract()?,
            "workers" => tuning.workers = value.extract()?,
            "page" => tuning.page = value.extract()?,
            "records" => tuning.records = value.extract()?,
            "expansion" => tuning.expansion = value.extract()?,
            "key_mask" => tuning.key_mask = value.extract()?,
            "spill" => tuning.spill = Some(value.extract::<u8>()? != 0),
            "no_direct" => tuning.no_direct = value.extract::<u8>()? != 0,
            "no_tmpfile" => tuning.no_tmpfile = value.extract::<u8>()? != 0,
            "no_fallocate" => tuning.no_fallocate = value.extract::<u8>()? != 0,
            other => {
                return Err(invalid_argument(format!("tuning has no {other}")));
            }
        }
    }
    Ok(tuning)
}

fn plan_dict<'py>(py: Python<'py>, plan: &Plan) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("strategy", plan.strategy.name())?;
    dict.set_item("reason", &plan.reason)?;
    dict.set_item("passes", plan.passes)?;
    dict.set_item("buckets", plan.buckets)?;
    dict.set_item("workers", plan.workers)?;
    dict.set_item("block_bytes", plan.block_bytes)?;
    dict.set_item("chunk_bytes", plan.chunk_bytes)?;
    dict.set_item("memory_limit", plan.memory_limit)?;
    dict.set_item("input_bytes", plan.input_bytes)?;
    dict.set_item("estimated", plan.estimated)?;
    dict.set_item("bytes_read", plan.bytes_read)?;
    dict.set_item("bytes_written", plan.bytes_written)?;
    dict.set_item("memory_bytes", plan.memory_bytes)?;
    dict.set_item("resident_bytes", plan.resident_bytes)?;
    dict.set_item("scratch_bytes", plan.scratch_bytes)?;
    dict.set_item("seconds", plan.seconds)?;
    Ok(dict)
}

fn report_dict<'py>(py: Python<'py>, report: &Report, seed: u128) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("records", report.written.records)?;
    dict.set_item("bytes", report.output_bytes)?;
    dict.set_item("digest", report.written.digest)?;
    dict.set_item("output_size", report.output_size)?;
    let files = report.files.iter().map(|file| file_dict(py, file));
    dict.set_item("files", files.collect::<PyResult<Vec<_>>>()?)?;
    dict.set_item("input_records", report.read.records)?;
    dict.set_item("input_bytes", report.input_bytes)?;
    dict.set_item("input_digest", report.read.digest)?;
    dict.set_item("seed", seed)?;
    dict.set_item("algorithm", report.algorithm)?;
    dict.set_item("passes", report.passes)?;
    dict.set_item("plan", plan_dict(py, &report.plan)?)?;
    let seconds = PyDict::new(py);
    for (phase, spent) in PHASES.iter().zip([
        report.seconds.scatter,
        report.seconds.gather,
        report.seconds.publish,
    ]) {
        seconds.set_item(phase, spent)?;
    }
    dict.set_item("seconds", seconds)?;
    dict.set_item("peak_memory", report.peak_memory)?;
    dict.set_item("scratch_bytes", report.scratch_bytes)?;
    Ok(dict)
}

fn file_dict<'py>(py: Python<'py>, file: &FileReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("path", PyBytes::new(py, file.path.as_os_str().as_bytes()))?;
    dict.set_item("records", file.records)?;
    dict.set_item("bytes", file.bytes)?;
    dict.set_item("size", file.size)?;
    dict.set_item("digest", file.digest)?;
    dict.set_item("index", file.index)?;
    dict.set_item("split", &file.split)?;
    dict.set_item("epoch", file.epoch)?;
    Ok(dict)
}
