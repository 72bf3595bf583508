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
//! There is no 64 x 64 -> 128 bit multiply in AVX2 or AVX-512, so the one form is scalar: twenty
//! multiplies a block, and the processor issues one a cycle. Blocks are independent, and it overlaps
//! them by itself; blocks interleaved by hand need more registers than there are, and were measured
//! to be slower (2 to 8 side by side: 10 to 17 ns a block, one after the other: 9 to 14).

const M0: u64 = 0xD2E7_470E_E14C_6C93;
const M1: u64 = 0xCA5A_8263_9512_1157;
const W0: u64 = 0x9E37_79B9_7F4A_7C15;
const W1: u64 = 0xBB67_AE85_84CA_A73B;
const ROUNDS: usize = 10;

#[inline(always)]
fn mul_hi_lo(a: u64, b: u64) -> (u64, u64) {
    let wide = u128::from(a) * u128::from(b);
    ((wide >> 64) as u64, wide as u64)
}

/// One block of four words: the ten rounds on one counter.
#[inline(always)]
pub fn block(key: [u64; 2], counter: [u64; 4]) -> [u64; 4] {
    let ([mut k0, mut k1], mut c) = (key, counter);
    for _ in 0..ROUNDS {
        let (hi0, lo0) = mul_hi_lo(M0, c[0]);
        let (hi1, lo1) = mul_hi_lo(M1, c[2]);
        c = [hi1 ^ c[1] ^ k0, lo1, hi0 ^ c[3] ^ k1, lo0];
        k0 = k0.wrapping_add(W0);
        k1 = k1.wrapping_add(W1);
    }
    c
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
    #[inline(always)]
    pub fn word(&self, index: u64) -> u64 {
        block(self.key, self.counter(index / 4))[(index % 4) as usize]
    }

    /// Fills `out` with the words `first, first + 1, ...` of the stream.
    pub fn fill(&self, first: u64, out: &mut [u64]) {
        // To the next block edge, then by whole blocks.
        let head = (((4 - first % 4) % 4) as usize).min(out.len());
        let (head, body) = out.split_at_mut(head);
        for (word, index) in head.iter_mut().zip(first..) {
            *word = self.word(index);
        }
        let next = (first + head.len() as u64) / 4;
        for (four, number) in body.chunks_mut(4).zip(next..) {
            let words = block(self.key, self.counter(number));
            four.copy_from_slice(&words[..four.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn fill_and_word_agree_at_every_edge() {
        let stream = Stream::new(SEED, 7, 9);
        let all: Vec<u64> = (0..200).map(|i| stream.word(i)).collect();
        for first in 0..20usize {
            for len in 0..70usize {
                let mut out = vec![0; len];
                stream.fill(first as u64, &mut out);
                assert_eq!(out, all[first..first + len], "first {first}, len {len}");
            }
        }
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
