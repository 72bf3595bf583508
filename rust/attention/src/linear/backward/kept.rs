//! What the first sweep keeps for the second.

use std::ops::Range;

use corekit_base::aligned::Aligned;

use super::super::Sequence;
use super::Backward;
use crate::error::Result;
use crate::kernels::Computed;
use crate::tiles::zeros;

/// How much room a piece of a sequence takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    tokens: usize,
    chunks: usize,
    /// Copies of states.
    copies: usize,
}

impl Room {
    /// Room for either.
    pub(super) fn most(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens),
            chunks: self.chunks.max(other.chunks),
            copies: self.copies.max(other.copies),
        }
    }
}

/// Of a key head's piece of a sequence, what the first sweep keeps for the second.
pub(super) struct Kept<T> {
    /// Tokens of a chunk.
    pub(super) chunk: usize,
    /// The chunks of the sequence that are in this piece.
    pub(super) chunks: Range<usize>,
    /// Their tokens.
    pub(super) tokens: Range<usize>,
    /// For each query head and token: what its output is multiplied by, and D.
    pub(super) scale: Aligned<T>,
    pub(super) shift: Aligned<T>,
    /// The state's logarithm before each chunk.
    logs: Vec<T>,
    /// That of the initial state.
    pub(super) log_of_start: T,
    /// That after the last chunk that was looked at, which is the sequence's last when not causal.
    pub(super) log_of_end: T,
    /// For each token, and each feature that decays by itself: what reading within the chunk gives.
    /// (What reading from before it gives is kept where the gradient by decay will be.)
    pub(super) within: Aligned<T>,
    /// The state before every `apart`th chunk, and then before the sequence's last, s and z of each.
    pub(super) states: Aligned<T>,
    apart: usize,
    /// Numbers of such a state.
    state: usize,
    /// The last chunk of the sequence.
    last: usize,
}

impl<T: Computed> Kept<T> {
    /// Room for pieces.
    pub(super) fn new(backward: &Backward<T>, room: Room) -> Result<Self> {
        let (call, sizes) = (&backward.call, backward.call.sizes);
        let Room {
            tokens,
            chunks,
            copies,
        } = room;
        let kept = || zeros("what is kept of a token", tokens.checked_mul(sizes.group));
        let within = zeros("sums", tokens.checked_mul(backward.decaying()))?;
        let state = call.map.count * (sizes.value_dim + 1);
        Ok(Self {
            chunk: 1,
            chunks: 0..0,
            tokens: 0..0,
            scale: kept()?,
            shift: kept()?,
            logs: vec![T::ZERO; chunks],
            log_of_start: T::ZERO,
            log_of_end: T::ZERO,
            within,
            states: zeros("copies of states", copies.checked_mul(state))?,
            apart: 1,
            state,
            last: 0,
        })
    }

    /// Begins with these chunks of a sequence.
    pub(super) fn begin(
        &mut self,
        backward: &Backward<T>,
        sequence: &Sequence,
        chunks: Range<usize>,
    ) {
        let chunk = backward.call.chunk_of(sequence);
        (self.chunk, self.apart) = (chunk, backward.apart(chunk));
        let Range { start, end } = sequence.tokens;
        let edge = |number: usize| end.min(start + number * chunk);
        self.tokens = edge(chunks.start)..edge(chunks.end);
        self.last = (end - start).div_ceil(chunk).saturating_sub(1);
        self.chunks = chunks;
        self.within.fill(T::ZERO);
    }

    /// Chunks with their tokens.
    pub(super) fn chunks(&self) -> impl DoubleEndedIterator<Item = (usize, Range<usize>)> + use<T> {
        let (first, tokens, chunk) = (self.chunks.start, self.tokens.clone(), self.chunk);
        self.chunks.clone().map(move |number| {
            let start = tokens.start + (number - first) * chunk;
            (number, start..tokens.end.min(start + chunk))
        })
    }

    /// Keeps the logarithm of the state before a chunk.
    pub(super) fn set_log(&mut self, number: usize, log: T) {
        self.logs[number - self.chunks.start] = log;
    }

    /// The logarithm of the state before a chunk.
    pub(super) fn log_before(&self, number: usize) -> T {
        self.logs[number - self.chunks.start]
    }

    /// Where the numbers of a query head's tokens are, the head counted among those of its key head.
    pub(super) fn place(&self, query: usize, tokens: &Range<usize>) -> Range<usize> {
        let start = query * self.tokens.len() + tokens.start - self.tokens.start;
        start..start + tokens.len()
    }

    /// Where the copy of the state before a chunk is, if there is one.
    pub(super) fn copy_of(&self, number: usize) -> Option<Range<usize>> {
        let copies = self.states.len().checked_div(self.state)?;
        let place = match number {
            _ if number.is_multiple_of(self.apart) => {
                number / self.apart - self.chunks.start.div_ceil(self.apart)
            }
            _ if number == self.last => copies.checked_sub(1)?,
            _ => return None,
        };
        (place < copies).then_some(place * self.state..(place + 1) * self.state)
    }
}

impl<T: Computed> Backward<'_, T> {
    /// Chunks of `chunk` tokens from one copy of the state to the next: copies take half as much
    /// memory as q, k and v at most.
    pub(super) fn apart(&self, chunk: usize) -> usize {
        let Self { call, .. } = self;
        let (d, v) = (call.map.key_dim, call.sizes.value_dim);
        let state = call.map.count * (v + 1) * size_of::<T>();
        let token = (2 * d + v) * call.arguments.q.dtype().size();
        (2 * state).div_ceil((chunk * token).max(1)).max(1)
    }

    /// Chunks of a sequence.
    pub(super) fn chunks(&self, sequence: &Sequence) -> usize {
        let chunk = self.call.chunk_of(sequence);
        sequence.tokens.len().div_ceil(chunk)
    }

    /// Room for a whole sequence.
    pub(super) fn room(&self, sequence: &Sequence) -> Room {
        self.room_of_piece(sequence, self.chunks(sequence))
    }

    /// Room for some of a sequence's chunks.
    pub(super) fn room_of_piece(&self, sequence: &Sequence, chunks: usize) -> Room {
        let chunk = self.call.chunk_of(sequence);
        let copies = match self.to.decay {
            Some(_) => chunks.div_ceil(self.apart(chunk)) + 1,
            None => 0,
        };
        Room {
            tokens: sequence.tokens.len().min(chunks * chunk),
            chunks,
            copies,
        }
    }

    /// Cuts a sequence's chunks into some `count` pieces. A piece that another one follows ends with
    /// a chunk before which the state is copied, so that decay's gradients need nothing of the
    /// latter.
    pub(super) fn pieces(&self, sequence: &Sequence, count: usize) -> Vec<Range<usize>> {
        let chunks = self.chunks(sequence);
        let apart = self.apart(self.call.chunk_of(sequence));
        let edge = |piece: usize| chunks.min(chunks * piece / count / apart * apart + 1);
        let mut pieces = Vec::new();
        let mut start = 0;
        for piece in 1..=count {
            let end = if piece < count { edge(piece) } else { chunks };
            if end > start || chunks == 0 && piece == count {
                pieces.push(start..end);
                start = end;
            }
        }
        pieces
    }
}
