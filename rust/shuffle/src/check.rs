//! The arguments of a job, checked, and what follows from them alone.

use crate::error::{Error, Result};
use crate::input::split::Splitter;
use crate::options::{Job, Output, Records};
use crate::order::Parts;
use crate::output::layout::Shards;
use crate::output::pattern::{Field, Pattern};

/// The longest delimiter.
const DELIMITER_MAX: usize = 1024;

/// The longest record of a fixed size: several must fit in the smallest pool.
const RECORD_MAX: usize = 1 << 30;

/// What follows from a job's arguments.
pub(crate) struct Checked {
    pub splitter: Splitter,
    /// Names of the output's files; `None` when it is one file or a stream.
    pub pattern: Option<Pattern>,
    /// The parts of the key space that are told apart.
    pub parts: Option<Parts>,
    /// Each epoch has files of its own.
    pub epochs_apart: bool,
}

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::InvalidArgument(message))
}

/// Checks all of a job that can be checked without looking at a file.
pub(crate) fn check(job: &Job) -> Result<Checked> {
    if job.inputs.is_empty() {
        return refuse("inputs must name at least one input, got none".into());
    }
    if u32::try_from(job.inputs.len()).is_err() {
        return refuse(format!(
            "inputs must be fewer than 2^32, got {}",
            job.inputs.len()
        ));
    }
    match &job.records {
        Records::Delimited(delimiter) if !(1..=DELIMITER_MAX).contains(&delimiter.len()) => {
            return refuse(format!(
                "delimiter must have 1 to {DELIMITER_MAX} bytes, got {}",
                delimiter.len()
            ));
        }
        Records::Fixed(bytes) if !(1..=RECORD_MAX).contains(bytes) => {
            return refuse(format!(
                "record_bytes must be 1 to {RECORD_MAX}, got {bytes}"
            ));
        }
        _ => {}
    }
    if job.threads == 0 {
        return refuse("threads must be at least 1, got 0".into());
    }
    let epochs = job.epochs.unwrap_or(1);
    if epochs == 0 || job.epoch.checked_add(epochs - 1).is_none() {
        return refuse(format!("epochs must be 1 to 2^32 - 1, got {epochs}"));
    }
    if let Shards::Count(0) | Shards::Records(0) | Shards::Bytes(0) = job.shards {
        return refuse(
            "shards must be at least 1, or hold at least 1 record or byte, got 0".into(),
        );
    }
    if let Some(compression) = job.compression {
        compression.check()?;
    }
    let parts = parts(job)?;
    let (pattern, epochs_apart) = pattern(job)?;
    Ok(Checked {
        splitter: Splitter::new(&job.records),
        pattern,
        parts,
        epochs_apart,
    })
}

fn parts(job: &Job) -> Result<Option<Parts>> {
    const ALL: u128 = 1 << 64;
    if let Some(cut) = job.fraction {
        if cut > ALL {
            return refuse(format!("fraction must be at most 1, got {cut} / 2^64"));
        }
        if job.sample.is_some() || !job.splits.is_empty() {
            return refuse("fraction cannot be given together with sample or splits".into());
        }
        return Ok(Some(Parts::new(vec![cut, ALL])));
    }
    let Some(last) = job.splits.last() else {
        return Ok(None);
    };
    if job.sample.is_some() {
        return refuse("splits cannot be given together with sample".into());
    }
    if last.end != ALL || !job.splits.is_sorted_by_key(|split| split.end) {
        return refuse("splits must have fractions of at least 0 that sum to 1".into());
    }
    for (number, split) in job.splits.iter().enumerate() {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if split.name.is_empty() || !split.name.bytes().all(allowed) {
            return refuse(format!(
                "splits must have names of letters, digits, _, . and -, got {:?}",
                split.name
            ));
        }
        if job.splits[..number]
            .iter()
            .any(|before| before.name == split.name)
        {
            return refuse(format!(
                "splits must have different names, got {:?} twice",
                split.name
            ));
        }
    }
    Ok(Some(Parts::new(
        job.splits.iter().map(|split| split.end).collect(),
    )))
}

/// The pattern of a set's names, and whether epochs have files of their own.
fn pattern(job: &Job) -> Result<(Option<Pattern>, bool)> {
    let sharded = job.shards != Shards::Whole;
    let split = !job.splits.is_empty();
    let path = match &job.output {
        Output::Path(path) => path,
        Output::Open(_, path) if sharded || split => {
            return refuse(format!(
                "output must be a path with a pattern for shards or splits, got {}",
                path.display()
            ));
        }
        Output::Reader(_) if sharded || split || job.epochs.is_some() => {
            return refuse("a reader takes no shards, splits or epochs".into());
        }
        Output::Open(..) | Output::Reader(_) => return Ok((None, false)),
    };
    let with_epochs = job.epochs.is_some() && path.to_string_lossy().contains("{epoch");
    if !sharded && !split && !with_epochs {
        return Ok((None, false));
    }
    let names = job.splits.iter().map(|split| split.name.clone());
    let pattern = Pattern::parse(path)?.with_splits(names.collect());
    let fields = [
        (Field::Index, "{index}", sharded, "shards"),
        (Field::Split, "{split}", split, "splits"),
        (Field::Epoch, "{epoch}", with_epochs, "epochs"),
    ];
    for (field, name, wanted, option) in fields {
        if pattern.has(field) && !wanted {
            return refuse(format!("output has {name}, and no {option} were asked for"));
        }
        if !pattern.has(field) && wanted {
            return refuse(format!(
                "output must have {name} in its name for {option}, got {}",
                path.display()
            ));
        }
    }
    /// The longest name that file systems take.
    const NAME_MAX: usize = 255;
    let names = job
        .splits
        .iter()
        .map(|split| pattern.name(0, &split.name, 0));
    if let Some(name) = names.into_iter().find(|name| name.len() > NAME_MAX) {
        return refuse(format!(
            "output must have names of at most {NAME_MAX} bytes, got {}",
            name.display()
        ));
    }
    if split && job.epochs.is_some_and(|epochs| epochs > 1) && !with_epochs {
        return refuse(format!(
            "output must have {{epoch}} in its name for splits of several epochs, got {}",
            path.display()
        ));
    }
    Ok((Some(pattern), with_epochs))
}
