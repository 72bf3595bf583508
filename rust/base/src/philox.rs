//! Philox4x64-10, bit-equal to `numpy.random.Philox`.
//!
//! Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011
//! (<https://doi.org/10.1145/2063384.2063405>). A counter-based generator: word `i` of a stream is
//! a pure function of (key, counter), so any part of a stream can be computed anywhere, in any
//! order, by any number of threads.
//!
//! NumPy steps the counter *before* the first block. `Philox(key=k, counter=[0, 0, j, e])`
//! therefore yields the blocks at counters `[1, 0, j, e]`, `[2, 0, j, e]`, ..., four words each, and
//! [`Stream::word`] follows it.
//!
//! There is no 64 x 64 -> 128 bit multiply in AVX2 or AVX-512, so the fast path is scalar: blocks
//! are independent, and several of them in flight hide the latency of ten dependent rounds.

const M0: u64 = 0xD2E7_470E_E14C_6C93;
const M1: u64 = 0xCA5A_8263_9512_1157;
const W0: u64 = 0x9E37_79B9_7F4A_7C15;
const W1: u64 = 0xBB67_AE85_84CA_A73B;
const ROUNDS: usize = 10;

/// Blocks computed side by side: enough independent multiplies to fill the pipeline.
pub const LANES: usize = 4;

#[inline(always)]
fn mul_hi_lo(a: u64, b: u64) -> (u64, u64) {
    let wide = u128::from(a) * u128::from(b);
    ((wide >> 64) as u64, wide as u64)
}

/// One block of four words: the ten rounds on one counter.
#[inline]
pub fn block(key: [u64; 2], counter: [u64; 4]) -> [u64; 4] {
    blocks(key, [counter])[0]
}

/// `N` independent blocks, interleaved round by round.
#[inline(always)]
pub fn blocks<const N: usize>(key: [u64; 2], mut counters: [[u64; 4]; N]) -> [[u64; 4]; N] {
    let [mut k0, mut k1] = key;
    for _ in 0..ROUNDS {
        for c in &mut counters {
            let (hi0, lo0) = mul_hi_lo(M0, c[0]);
            let (hi1, lo1) = mul_hi_lo(M1, c[2]);
            *c = [hi1 ^ c[1] ^ k0, lo1, hi0 ^ c[3] ^ k1, lo0];
        }
        k0 = k0.wrapping_add(W0);
        k1 = k1.wrapping_add(W1);
    }
    counters
}

/// The words of `numpy.random.Philox(key=seed, counter=[0, 0, stream, last])`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u64; 2],
    stream: u64,
    last: u64,
}

impl Stream {
    /// The stream `stream` under `seed` (the 128-bit Philox key); `last` is the counter's last
    /// word: the domain times 2^32, plus the epoch for the shuffle.
    pub fn new(seed: u128, stream: u64, last: u64) -> Self {
        Self {
            key: [seed as u64, (seed >> 64) as u64],
            stream,
            last,
        }
    }

    #[inline(always)]
    fn counter(&self, block: u64) -> [u64; 4] {
        // block + 1 fits: word indices are u64, so blocks are below 2^62.
        [block + 1, 0, self.stream, self.last]
    }

    /// Word `index` of the stream.
    #[inline]
    pub fn word(&self, index: u64) -> u64 {
        block(self.key, self.counter(index / 4))[(index % 4) as usize]
    }

    /// `N` words at unrelated positions of the stream, computed side by side.
    #[inline]
    pub fn words<const N: usize>(&self, indices: [u64; N]) -> [u64; N] {
        let out = blocks(self.key, indices.map(|i| self.counter(i / 4)));
        std::array::from_fn(|lane| out[lane][(indices[lane] % 4) as usize])
    }

    /// Fills `out` with the words `first, first + 1, ...` of the stream.
    pub fn fill(&self, first: u64, out: &mut [u64]) {
        // To the next block edge, then whole groups of blocks, then the rest.
        let head = (((4 - first % 4) % 4) as usize).min(out.len());
        let (head, body) = out.split_at_mut(head);
        for (i, word) in head.iter_mut().enumerate() {
            *word = self.word(first + i as u64);
        }
        let mut next = (first + head.len() as u64) / 4;
        let mut groups = body.chunks_exact_mut(4 * LANES);
        for group in &mut groups {
            let counters: [[u64; 4]; LANES] =
                std::array::from_fn(|lane| self.counter(next + lane as u64));
            for (four, words) in group.chunks_exact_mut(4).zip(blocks(self.key, counters)) {
                four.copy_from_slice(&words);
            }
            next += LANES as u64;
        }
        for four in groups.into_remainder().chunks_mut(4) {
            let words = block(self.key, self.counter(next));
            four.copy_from_slice(&words[..four.len()]);
            next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.Philox(key=SEED, counter=[0, 0, 7, 9]).random_raw(9)`, NumPy 2.4.
    const SEED: u128 = 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210;

    #[test]
    fn equals_the_random123_vectors() {
        // kat_vectors of Random123, philox4x64-10.
        assert_eq!(
            block([0; 2], [0; 4]),
            [
                0x16554d9eca36314c,
                0xdb20fe9d672d0fdc,
                0xd7e772cee186176b,
                0x7e68b68aec7ba23b
            ]
        );
        assert_eq!(
            block([u64::MAX; 2], [u64::MAX; 4]),
            [
                0x87b092c3013fe90b,
                0x438c3c67be8d0224,
                0x9cc7d7c69cd777b6,
                0xa09caebf594f0ba0
            ]
        );
    }

    #[test]
    fn fill_words_and_word_agree_at_every_edge() {
        let stream = Stream::new(SEED, 7, 9);
        let all: Vec<u64> = (0..200).map(|i| stream.word(i)).collect();
        for first in 0..20usize {
            for len in 0..70usize {
                let mut out = vec![0; len];
                stream.fill(first as u64, &mut out);
                assert_eq!(out, all[first..first + len], "first {first}, len {len}");
            }
        }
        let at = [3u64, 199, 4, 0, 17, 18, 19, 20];
        assert_eq!(stream.words(at), at.map(|i| all[i as usize]));
    }

    #[test]
    fn every_part_of_the_identity_matters() {
        let word = Stream::new(SEED, 7, 9).word(5);
        assert_ne!(word, Stream::new(SEED ^ 1, 7, 9).word(5));
        assert_ne!(word, Stream::new(SEED ^ (1 << 127), 7, 9).word(5));
        assert_ne!(word, Stream::new(SEED, 8, 9).word(5));
        assert_ne!(word, Stream::new(SEED, 7, 8).word(5));
        assert_ne!(word, Stream::new(SEED, 7, 9).word(6));
    }
}
