//! What a run works with, whatever its output is, and one epoch of that work.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use crate::error::Result;
use crate::input::InputFile;
use crate::input::header::Header;
use crate::input::reader::Reading;
use crate::input::sequence::Decoders;
use crate::input::split::Splitter;
use crate::levels::gather::{Gather, Sink};
use crate::levels::{Context, Counted, Levels, Totals};
use crate::options::Job;
use crate::order::sample::Sample;
use crate::order::{Keys, Parts};
use crate::plan::Plan;
use crate::run::Run;
use crate::store::pool::Part;
use crate::store::spool::Spool;
use crate::store::{Level, OnFull, Store};

/// What a run works with, whatever its output is.
pub(crate) struct Work<'a> {
    pub job: &'a Job,
    pub plan: &'a Plan,
    pub run: &'a Run<'a>,
    pub inputs: &'a [InputFile],
    pub splitter: &'a Splitter,
    pub header: &'a Header,
    pub parts: Option<&'a Parts>,
    pub store: &'a Store,
    pub spool: &'a Spool<'a>,
    pub decoders: &'a Decoders,
    pub parts_of_workers: &'a [Mutex<Part>],
    /// The longest index that a worker had, in entries.
    pub longest_index: usize,
}

impl Work<'_> {
    /// Shuffles one epoch into `sink`; returns the totals with it added.
    pub fn epoch(
        &mut self,
        epoch: u32,
        totals: Totals,
        sink: Sink,
        counted: &Counted,
    ) -> Result<Totals> {
        let Self {
            job,
            plan,
            run,
            inputs,
            splitter,
            header,
            parts,
            store,
            spool,
            decoders,
            parts_of_workers,
            longest_index,
        } = *self;
        let mask = job.tuning.key_mask.unwrap_or(u64::MAX);
        let keys = Keys::new(job.seed, epoch, mask, parts);
        let skips =
            plan.on_full == OnFull::Spill || !inputs.iter().all(InputFile::can_be_read_again);
        let sample = match (job.sample, job.fraction) {
            (Some(count), _) => Some(Sample::new(count, skips)?),
            (None, Some(cut)) => Some(Sample::below(cut, skips)),
            (None, None) => None,
        };
        let gather = Gather {
            run,
            longest_index: AtomicUsize::new(longest_index),
            keys,
            // A reader gets records, and learns by itself where they end.
            delimiter: match sink {
                Sink::Files { .. } => splitter.delimiter(),
                Sink::Feed(_) => &[],
            },
            inputs,
            spool,
            sink,
        };
        let reading = Reading {
            inputs,
            splitter,
            header,
            spool,
            sizes: plan.sizes.reader,
            decoders,
            lanes: plan.sizes.lanes,
            in_turn: plan.is_cold,
            run,
        };
        if epoch > job.epoch {
            spool.clear();
            store.restart(Level::new(0, 0, plan.sizes.bits, plan.on_full)?);
        }
        let context = Context {
            job,
            plan,
            run,
            inputs,
            splitter,
            keys,
            parts,
            counted,
            expected: plan.expected.clone(),
            store,
            spool,
            reading,
            sample: sample.as_ref(),
            gather: &gather,
            parts_of_workers,
        };
        let mut levels = Levels::new(context, totals);
        levels.all_keys()?;
        let totals = levels.totals;
        self.longest_index = gather.longest_index.into_inner();
        Ok(totals)
    }
}
