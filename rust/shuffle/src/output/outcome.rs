//! A run whose output is complete and not yet published.

use std::path::PathBuf;
use std::time::Instant;

use crate::error::Result;
use crate::options::Job;
use crate::order::ALGORITHM;
use crate::output::destination::Destination;
use crate::output::pattern::{Field, Pattern};
use crate::output::sections::OutputFile;
use crate::output::shard_set::{Manifest, ManifestFile};
use crate::report::{FileReport, Report};
use crate::run::Run;

pub(crate) struct Outcome {
    destination: Destination,
    report: Report,
    manifest: Manifest,
}

impl Outcome {
    /// `per_file` are the bytes of a file's prefix and of a delimiter.
    pub fn new(
        job: &Job,
        destination: Destination,
        pattern: Option<Pattern>,
        mut report: Report,
        files: Vec<OutputFile>,
        (prefix, delimiter): (u64, u64),
    ) -> Self {
        let mut manifest = Manifest {
            corekit: env!("CARGO_PKG_VERSION").into(),
            algorithm: ALGORITHM,
            seed: job.seed.to_string(),
            records: report.written.records,
            bytes: report.output_bytes,
            digest: hex(report.written.digest),
            compression: job.compression.map(|c| c.name().to_owned()),
            files: Vec::new(),
        };
        if let Some(pattern) = pattern {
            for (number, file) in files.into_iter().enumerate() {
                let (epoch, index) = (file.group.epoch, file.index);
                let split = job.splits.get(file.group.split).map(|split| &split.name);
                let name = pattern.name(index, split.map_or("", |name| name), epoch);
                let report_of_file = FileReport {
                    path: pattern.dir().join(&name),
                    records: file.tally.records,
                    bytes: prefix + file.tally.bytes + file.tally.records * delimiter,
                    size: destination.size(number as u64),
                    digest: file.tally.digest,
                    index: pattern.has(Field::Index).then_some(index),
                    split: split.cloned(),
                    epoch: pattern.has(Field::Epoch).then_some(epoch),
                };
                manifest.files.push(ManifestFile {
                    name: name.to_string_lossy().into_owned(),
                    records: report_of_file.records,
                    bytes: report_of_file.bytes,
                    size: report_of_file.size,
                    digest: hex(report_of_file.digest),
                    index: report_of_file.index,
                    split: report_of_file.split.clone(),
                    epoch: report_of_file.epoch,
                });
                report.files.push(report_of_file);
            }
        }
        Self {
            destination,
            report,
            manifest,
        }
    }

    /// Records that were read.
    pub fn records(&self) -> u64 {
        self.report.read.records
    }

    /// Whether both would be published to one place.
    pub fn is_same_file(&self, other: &Self) -> bool {
        let places = |outcome: &Self| -> Vec<PathBuf> {
            match outcome.destination.target() {
                Some(target) => vec![target.to_owned()],
                None => outcome
                    .report
                    .files
                    .iter()
                    .map(|f| f.path.clone())
                    .collect(),
            }
        };
        let mine = places(self);
        places(other).iter().any(|place| mine.contains(place))
    }

    pub fn publish(mut self, run: &Run) -> Result<Report> {
        let start = Instant::now();
        self.destination.publish(&self.manifest, run)?;
        self.report.seconds.publish = start.elapsed().as_secs_f64();
        Ok(self.report)
    }
}

fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}
