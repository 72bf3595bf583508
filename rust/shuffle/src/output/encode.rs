//! Compression of output, frame by frame.
//!
//! A *frame* is a stretch of at most [`FRAME`] bytes that becomes one whole gzip member, or one
//! whole zstd frame. Both formats say that members, or frames, one after the other are the
//! concatenation of what is in them, so frames are encoded on all threads and written side by side,
//! and every decoder reads the file as one stretch.
//!
//! What a frame becomes depends on its bytes, on the format and on the level, and on nothing else:
//! not on what the encoder did before, and not on the machine's instruction set. libdeflate and
//! libzstd have several versions of their inner loops, chosen when they run, but these find the same
//! matches. A new version of either library may find others; the hashes in the tests notice.

use libdeflater::{CompressionLvl, Compressor};
use zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_memory_allocation;
use zstd_safe::{CCtx, CParameter};

use crate::error::{Error, Result};

/// Most bytes of a frame before compression.
pub(crate) const FRAME: usize = 1 << 20;

/// A format, and how hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip by libdeflate: 0 (stored) to 12.
    Gzip(u32),
    /// zstd: 1 to 22, or -7 (fastest) to -1.
    Zstd(i32),
}

impl Compression {
    /// gzip at its default level.
    pub const GZIP: Self = Self::Gzip(6);
    /// zstd at its default level.
    pub const ZSTD: Self = Self::Zstd(3);

    /// An error when there is no such level.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Gzip(0..=12) | Self::Zstd(-7..=-1 | 1..=22) => Ok(()),
            Self::Gzip(level) => Err(Error::InvalidArgument(format!(
                "compress: gzip has levels 0 to 12, not {level}"
            ))),
            Self::Zstd(level) => Err(Error::InvalidArgument(format!(
                "compress: zstd has levels 1 to 22 and -7 to -1, not {level}"
            ))),
        }
    }

    /// What the format is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip(_) => "gzip",
            Self::Zstd(_) => "zstd",
        }
    }

    /// Most bytes that a frame of `len` bytes can become.
    pub(crate) fn bound(self, len: usize) -> usize {
        match self {
            // Stored blocks, of which libdeflate makes none shorter than 5000 bytes but the last,
            // with 5 bytes each; a head of 10 bytes and a tail of 8.
            Self::Gzip(_) => len + 5 * len.div_ceil(5000).max(1) + 18,
            // The checksum is 4 bytes, which libzstd's bound leaves room for.
            Self::Zstd(_) => zstd_safe::compress_bound(len),
        }
    }

    /// Most bytes that one [`Encoder`] allocates for frames of up to [`FRAME`] bytes.
    ///
    /// The tables of zstd are as large as the frame makes useful, because the frame's size is known
    /// when it begins.
    pub(crate) fn memory(self) -> u64 {
        let kib: u64 = match self {
            Self::Gzip(0) => 8,
            Self::Gzip(1) => 204,
            Self::Gzip(2..=9) => 660,
            Self::Gzip(_) => 8808,
            Self::Zstd(..=1) => 640,
            Self::Zstd(2) => 832,
            Self::Zstd(3) => 1344,
            Self::Zstd(4) => 2688,
            Self::Zstd(5..=6) => 3200,
            Self::Zstd(7..=8) => 5760,
            Self::Zstd(9..=12) => 10880,
            Self::Zstd(13..=15) => 17024,
            Self::Zstd(_) => 17792,
        };
        kib << 10
    }
}

/// Turns frames into gzip members or zstd frames.
pub(crate) struct Encoder {
    codec: Codec,
    compression: Compression,
}

enum Codec {
    Gzip(Compressor),
    Zstd(CCtx<'static>),
}

impl Encoder {
    pub fn new(compression: Compression) -> Result<Self> {
        compression.check()?;
        let no_memory = || Error::OutOfMemory {
            what: "compression",
            bytes: compression.memory(),
        };
        let codec = match compression {
            Compression::Gzip(level) => {
                let level = CompressionLvl::new(level as i32)
                    .map_err(|_| Error::Internal(format!("libdeflate has no level {level}")))?;
                // The library's wrapper panics when there is no memory.
                std::panic::catch_unwind(|| Compressor::new(level))
                    .map(Codec::Gzip)
                    .map_err(|_| no_memory())?
            }
            Compression::Zstd(level) => {
                let mut context = CCtx::try_create().ok_or_else(no_memory)?;
                for parameter in [
                    CParameter::CompressionLevel(level),
                    CParameter::ContentSizeFlag(true),
                    CParameter::ChecksumFlag(true),
                ] {
                    context
                        .set_parameter(parameter)
                        .map_err(|code| refused("zstd", code))?;
                }
                Codec::Zstd(context)
            }
        };
        Ok(Self { codec, compression })
    }

    /// Encodes `frame` to the front of `out`, which has room for [`Compression::bound`], and returns
    /// how many bytes it became.
    pub fn encode(&mut self, frame: &[u8], out: &mut [u8]) -> Result<usize> {
        debug_assert!(frame.len() <= FRAME);
        match &mut self.codec {
            Codec::Gzip(compressor) => compressor
                .gzip_compress(frame, out)
                .map_err(|error| Error::Internal(format!("gzip: {error}"))),
            // One call with the whole frame: libzstd takes its length as the pledged size.
            Codec::Zstd(context) => context.compress2(out, frame).map_err(|code| {
                // The tables are allocated at the first frame.
                if zstd_safe::is_error_kind(code, ZSTD_error_memory_allocation) {
                    return Error::OutOfMemory {
                        what: "compression",
                        bytes: self.compression.memory(),
                    };
                }
                refused("zstd", code)
            }),
        }
    }
}

fn refused(what: &str, code: usize) -> Error {
    Error::Internal(format!("{what}: {}", zstd_safe::get_error_name(code)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use xxhash_rust::xxh3::xxh3_128;

    fn all() -> impl Iterator<Item = Compression> {
        let zstd = (-7..=22).filter(|&level| level != 0).map(Compression::Zstd);
        (0..=12).map(Compression::Gzip).chain(zstd)
    }

    /// Lines that compress as records of text do, the same wherever the tests run.
    fn text(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = |n: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        let mut text = Vec::with_capacity(len + 1024);
        while text.len() < len {
            text.extend_from_slice(format!("{{\"id\": {}, \"text\": \"", next(1 << 30)).as_bytes());
            for _ in 0..next(120) {
                let common = next(4000) + 1;
                let word = next(common);
                for i in 0..2 + word % 7 {
                    text.push(b'a' + (((word * 2654435761) >> (3 * i)) % 26) as u8);
                }
                text.push(b' ');
            }
            text.extend_from_slice(b"\"}\n");
        }
        text.truncate(len);
        text
    }

    /// Bytes without any pattern.
    fn noise(len: usize) -> Vec<u8> {
        (0..len.div_ceil(16) as u64)
            .flat_map(|i| xxh3_128(&i.to_le_bytes()).to_le_bytes())
            .take(len)
            .collect()
    }

    fn encode(encoder: &mut Encoder, frame: &[u8]) -> Vec<u8> {
        let mut out = vec![0; encoder.compression.bound(frame.len())];
        let len = encoder.encode(frame, &mut out).expect("encoded");
        out.truncate(len);
        out
    }

    fn decode(compression: Compression, bytes: &[u8], room: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(room);
        match compression {
            Compression::Gzip(_) => {
                let mut decoder = flate2::read::MultiGzDecoder::new(bytes);
                decoder.read_to_end(&mut out).expect("gzip");
            }
            Compression::Zstd(_) => {
                zstd_safe::decompress(&mut out, bytes).expect("zstd");
            }
        }
        out
    }

    #[test]
    fn only_levels_that_exist_are_taken() {
        all().for_each(|compression| compression.check().expect("a level"));
        for compression in [13, u32::MAX]
            .map(Compression::Gzip)
            .into_iter()
            .chain([i32::MIN, -8, 0, 23].map(Compression::Zstd))
        {
            let error = Encoder::new(compression).err().expect("no level");
            assert!(
                matches!(&error, Error::InvalidArgument(text) if text.starts_with("compress:"))
            );
        }
        Compression::GZIP.check().expect("a level");
        Compression::ZSTD.check().expect("a level");
    }

    #[test]
    fn frames_come_back_alone_and_side_by_side() {
        for compression in all() {
            let mut encoder = Encoder::new(compression).expect("made");
            let (mut whole, mut file) = (Vec::new(), Vec::new());
            for frame in [
                vec![],
                text(1, 1),
                text(70_000, 2),
                vec![],
                noise(20_000),
                vec![0; 9999],
            ] {
                let bytes = encode(&mut encoder, &frame);
                assert_eq!(
                    decode(compression, &bytes, frame.len()),
                    frame,
                    "{compression:?}"
                );
                whole.extend_from_slice(&frame);
                file.extend_from_slice(&bytes);
            }
            assert_eq!(
                decode(compression, &file, whole.len()),
                whole,
                "{compression:?}"
            );
        }
    }

    #[test]
    fn the_bound_holds_where_nothing_can_be_saved() {
        let noise = noise(FRAME);
        for compression in [0, 1, 6, 12]
            .map(Compression::Gzip)
            .into_iter()
            .chain([-7, 1, 3, 9, 19].map(Compression::Zstd))
        {
            let mut encoder = Encoder::new(compression).expect("made");
            for len in [
                0,
                1,
                54,
                4999,
                5000,
                5001,
                65_535,
                65_536,
                131_072,
                FRAME - 1,
                FRAME,
            ] {
                let bytes = encode(&mut encoder, &noise[..len]);
                assert_eq!(decode(compression, &bytes, len), &noise[..len]);
                if let Codec::Gzip(compressor) = &mut encoder.codec {
                    assert_eq!(compressor.gzip_compress_bound(len), compression.bound(len));
                }
            }
        }
    }

    #[test]
    fn too_little_room_is_an_error() {
        for compression in [Compression::GZIP, Compression::ZSTD] {
            let mut encoder = Encoder::new(compression).expect("made");
            let frame = noise(10_000);
            let error = encoder.encode(&frame, &mut [0; 100]).expect_err("no room");
            assert!(matches!(error, Error::Internal(_)), "{error}");
            assert_eq!(
                decode(compression, &encode(&mut encoder, &frame), frame.len()),
                frame
            );
        }
    }

    /// What an encoder did before leaves no trace.
    #[test]
    fn bytes_depend_on_the_frame_alone() {
        let lens = [
            300_000, 5, 100_000, 0, 20_000, 262_144, 262_145, 1000, 300_000, 131_072,
        ];
        for compression in all() {
            let slow = matches!(
                compression,
                Compression::Gzip(10..) | Compression::Zstd(13..)
            );
            let mut used = Encoder::new(compression).expect("made");
            for (round, &len) in lens
                .iter()
                .cycle()
                .take(if slow { 5 } else { 30 })
                .enumerate()
            {
                let frame = text(len, round as u64 / 2);
                let mut fresh = Encoder::new(compression).expect("made");
                assert!(
                    encode(&mut used, &frame) == encode(&mut fresh, &frame),
                    "{compression:?} {round}"
                );
            }
        }
    }

    #[test]
    fn heads_say_what_decoders_want_to_know() {
        let frame = text(50_000, 1);
        let gzip = encode(&mut Encoder::new(Compression::GZIP).expect("made"), &frame);
        // No flags (so no name), no time, no system.
        assert_eq!(gzip[..10], [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF]);
        let zstd = encode(&mut Encoder::new(Compression::ZSTD).expect("made"), &frame);
        let size = zstd_safe::get_frame_content_size(&zstd).expect("a frame");
        assert_eq!(size, Some(50_000));
        assert_eq!(zstd[4] & 4, 4, "a checksum");
        let mut broken = zstd;
        *broken.last_mut().expect("bytes") ^= 1;
        let mut out = Vec::with_capacity(frame.len());
        zstd_safe::decompress(&mut out, &broken).expect_err("the checksum is looked at");
    }

    /// A new version of a library that makes other bytes is a new version of this crate's output.
    #[test]
    fn bytes_are_those_of_the_versions_that_are_locked() {
        let frame = text(FRAME, 7);
        assert_eq!(xxh3_128(&frame), 0xc10758ff16c471b2f3f74e524d5e6b87);
        let expected: [(Compression, u128); 9] = [
            (Compression::Gzip(1), 0x5fdade6e7a1498ad4fcc0ccb7d2926d5),
            (Compression::Gzip(6), 0xa77e4fe13de9523f59b7e1ed6e851161),
            (Compression::Gzip(9), 0x18023ac04b2ad86d9ddf91fdbda4cf60),
            (Compression::Gzip(12), 0xe708a84ee3bef01b67bbc49412c78afd),
            (Compression::Zstd(-5), 0x8576a56ea05ee58aa276e48db76a13d4),
            (Compression::Zstd(1), 0x969755a499e5425cc609e958e47045a8),
            (Compression::Zstd(3), 0xabe26f130ba2dcf99d1b7f9d523b1a05),
            (Compression::Zstd(9), 0x240d2ef59efefb89a136addd397fc89d),
            (Compression::Zstd(19), 0x3c149d8615eb200068a1772bf0a827a8),
        ];
        let found = expected.map(|(compression, _)| {
            let mut encoder = Encoder::new(compression).expect("made");
            (compression, xxh3_128(&encode(&mut encoder, &frame)))
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn zstd_contexts_stay_within_what_they_are_counted_as() {
        for compression in all() {
            let mut used = Encoder::new(compression).expect("made");
            let mut most = 0;
            for len in [
                FRAME, 16_384, 16_385, 131_072, 262_144, 262_145, 524_289, FRAME,
            ] {
                let mut fresh = Encoder::new(compression).expect("made");
                for encoder in [&mut used, &mut fresh] {
                    encode(encoder, &vec![b'x'; len]);
                    let Codec::Zstd(context) = &encoder.codec else {
                        continue;
                    };
                    most = most.max(context.sizeof() as u64);
                }
            }
            assert!(most <= compression.memory(), "{compression:?} {most}");
            if matches!(compression, Compression::Zstd(_)) {
                assert!(
                    most * 5 / 4 >= compression.memory(),
                    "{compression:?} {most}"
                );
            }
        }
    }

    /// Libdeflate does not tell what it allocates, so a process of its own is looked at.
    #[test]
    fn processes_grow_by_no_more_than_is_counted() {
        const CHILD: &str = "COREKIT_TEST_ENCODER";
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("proc");
            let line = status.lines().find(|line| line.starts_with("RssAnon:"));
            let kib = line.and_then(|line| line.split_whitespace().nth(1));
            kib.expect("a number").parse::<u64>().expect("a number") << 10
        };
        if let Ok(index) = std::env::var(CHILD) {
            let index: usize = index.parse().expect("a number");
            let compression = all().nth(index).expect("an index");
            let frames = [text(FRAME, 1), noise(FRAME), text(FRAME, 2)];
            let mut out = vec![1; compression.bound(FRAME)];
            let before = resident();
            let mut encoder = Encoder::new(compression).expect("made");
            for frame in &frames {
                encoder.encode(frame, &mut out).expect("encoded");
            }
            let grown = resident().saturating_sub(before);
            // Stack, and the allocator's own.
            let slack = 192 << 10;
            assert!(
                grown <= compression.memory() + slack,
                "{compression:?} {grown}"
            );
            return;
        }
        for (index, compression) in all().enumerate() {
            if !matches!(
                compression,
                Compression::Gzip(_) | Compression::Zstd(1 | 3 | 9 | 19)
            ) {
                continue;
            }
            let name = "output::encode::tests::processes_grow_by_no_more_than_is_counted";
            let child = std::process::Command::new(std::env::current_exe().expect("a path"))
                .args(["--exact", name, "--test-threads=1"])
                .env(CHILD, index.to_string())
                .output()
                .expect("started");
            assert!(
                child.status.success(),
                "{}",
                String::from_utf8_lossy(&child.stdout)
            );
        }
    }

    /// The threads that encode have small stacks.
    #[test]
    fn small_stacks_are_enough() {
        std::thread::scope(|scope| {
            for compression in [1, 6, 12]
                .map(Compression::Gzip)
                .into_iter()
                .chain([-1, 1, 3, 5, 12, 15, 19, 22].map(Compression::Zstd))
            {
                corekit_base::threads::spawn(scope, "encode", move || {
                    let mut encoder = Encoder::new(compression).expect("made");
                    encode(&mut encoder, &text(FRAME / 2, 1));
                })
                .expect("a thread")
                .join()
                .expect("encoded");
            }
        });
    }
}
