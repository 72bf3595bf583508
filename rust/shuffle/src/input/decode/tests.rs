//! Tests of archives that were made for what they show.

mod random;
mod zstd_headers;

use std::io::Write;

use flate2::{Compression, Crc, GzBuilder};
use zstd_safe::{CCtx, CParameter};

use super::gzip::{FCOMMENT, FEXTRA, FHCRC, FNAME};
use super::*;

const LIMIT: u64 = 8 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A frame with a checksum, and with its length or without.
fn zstd(bytes: &[u8], sized: bool) -> Vec<u8> {
    let mut context = CCtx::create();
    for parameter in [
        CParameter::ChecksumFlag(true),
        CParameter::ContentSizeFlag(sized),
    ] {
        context.set_parameter(parameter).expect("known");
    }
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
    context.compress2(&mut out, bytes).expect("room");
    out
}

fn skippable(len: usize) -> Vec<u8> {
    let mut frame = 0x184d_2a5d_u32.to_le_bytes().to_vec();
    frame.extend((len as u32).to_le_bytes());
    frame.resize(8 + len, 0x28);
    frame
}

fn decoder(encoding: Encoding) -> Decoder {
    Decoder::new(encoding, LIMIT, None).expect("memory")
}

/// Decodes all of `bytes`; reads and writes take turns in the sizes given.
fn decode_by(
    decoder: &mut Decoder,
    bytes: &[u8],
    head: usize,
    reads: &[usize],
    outs: &[usize],
) -> std::result::Result<Vec<u8>, Fault> {
    let head = head.min(bytes.len());
    decoder.begin(&bytes[..head]);
    let (mut at, mut turn, mut over) = (head, 0, false);
    let mut read = |buf: &mut [u8]| {
        assert!(!buf.is_empty() && !over, "a read for something");
        let n = reads[turn % reads.len()]
            .min(buf.len())
            .min(bytes.len() - at);
        buf[..n].copy_from_slice(&bytes[at..at + n]);
        (at, turn, over) = (at + n, turn + 1, n == 0);
        Ok(n)
    };
    let mut all = Vec::new();
    for out in outs.iter().cycle() {
        let start = all.len();
        all.resize(start + out, 0xee);
        let n = decoder.decode(&mut all[start..], &mut read)?;
        all.truncate(start + n);
        if n < *out {
            break;
        }
    }
    assert_eq!(decoder.consumed(), bytes.len() as u64);
    Ok(all)
}

fn decode(encoding: Encoding, bytes: &[u8]) -> std::result::Result<Vec<u8>, Fault> {
    decode_by(&mut decoder(encoding), bytes, 0, &[usize::MAX], &[1 << 16])
}

/// Offset and reason of the damage that must be found, however the bytes come.
fn damage(encoding: Encoding, bytes: &[u8]) -> (u64, String) {
    let mut decoder = decoder(encoding);
    let mut found = Vec::new();
    for (reads, out) in [(usize::MAX, 1 << 16), (1, 1), (3, 7)] {
        match decode_by(&mut decoder, bytes, 0, &[reads], &[out]) {
            Err(Fault::Corrupt { offset, how }) => {
                assert!(offset <= bytes.len() as u64);
                found.push((offset, how));
            }
            other => panic!("damage is found, not {other:?}"),
        }
    }
    found.swap_remove(0)
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn encodings_are_recognised_by_content() {
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        let bytes = match encoding {
            Encoding::Gzip => gzip(b""),
            _ => zstd(b"", true),
        };
        let magic = if encoding == Encoding::Gzip { 3 } else { 4 };
        for len in 0..bytes.len() {
            let expected = if len < magic { Encoding::Raw } else { encoding };
            assert_eq!(Encoding::recognise(&bytes[..len]), expected);
        }
    }
    for last in 0x4f..=0x60 {
        let skippable = (0x50..0x60).contains(&last);
        assert_eq!(
            Encoding::recognise(&[last, 0x2a, 0x4d, 0x18]) == Encoding::Zstd,
            skippable
        );
    }
    for raw in [
        &b""[..],
        b"{}",
        b"\x1f\x8b\x07",
        b"\x28\xb5\x2f\xfe",
        b"\0\0\0\0",
    ] {
        assert_eq!(Encoding::recognise(raw), Encoding::Raw);
    }
}

#[test]
fn raw_bytes_pass() {
    let bytes = noise(1000);
    let mut decoder = decoder(Encoding::Raw);
    for (head, reads, outs) in [(0, 1, 1), (18, 1, 1001), (18, 300, 7), (5, 2000, 1000)] {
        let all = decode_by(&mut decoder, &bytes, head, &[reads], &[outs]).expect("whole");
        assert_eq!(all, bytes);
    }
    assert_eq!(decode(Encoding::Raw, b"").expect("whole"), b"");
}

#[test]
fn buffers_are_refilled() {
    let mut bytes = noise(1 << 20);
    bytes.extend(b"some text".repeat(200_000));
    for (encoding, archive) in [
        (Encoding::Gzip, gzip(&bytes)),
        (Encoding::Zstd, zstd(&bytes, true)),
        (Encoding::Zstd, zstd(&bytes, false)),
    ] {
        let archive = archive.repeat(2);
        let mut decoder = decoder(encoding);
        for out in [100_000, 4 << 20, bytes.len(), bytes.len() * 2] {
            let all = decode_by(&mut decoder, &archive, LOOK, &[usize::MAX], &[out]);
            assert!(all.expect("whole") == bytes.repeat(2));
        }
    }
}

#[test]
fn gzip_headers_of_every_kind_are_read() {
    let extra = noise(65_535);
    for fields in 0..16 {
        let mut header = vec![0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 0, 255];
        for (bit, flag) in [1, FHCRC, FEXTRA, FNAME].into_iter().enumerate() {
            header[3] |= if fields >> bit & 1 != 0 { flag } else { 0 };
        }
        if header[3] & FEXTRA != 0 {
            header.extend([255, 255]);
            header.extend(&extra);
        }
        if header[3] & FNAME != 0 {
            header[3] |= FCOMMENT;
            header.extend(b"name".repeat(20_000));
            header.extend(b"\0\0");
        }
        if header[3] & FHCRC != 0 {
            let mut crc = Crc::new();
            crc.update(&header);
            header.extend((crc.sum() as u16).to_le_bytes());
        }
        let plain = gzip(b"content");
        let archive = [&plain, &header[..], &plain[10..]].concat();
        let mut decoder = decoder(Encoding::Gzip);
        for reads in [1, 1000, usize::MAX] {
            let all = decode_by(&mut decoder, &archive, 0, &[reads], &[5]).expect("whole");
            assert_eq!(all, b"contentcontent");
        }
        if header[3] & FHCRC != 0 {
            let mut archive = archive.clone();
            archive[plain.len() + 4] ^= 1;
            let (offset, how) = damage(Encoding::Gzip, &archive);
            assert_eq!(offset, plain.len() as u64);
            assert_eq!(how, "gzip data is corrupt: the header's checksum differs");
        }
    }
}

#[test]
fn members_of_every_level_with_flushes_are_read() {
    // As BGZF has them: many, with an extra field, and an empty one at the end.
    for level in [0, 1, 6, 9] {
        let bytes = [noise(70_000), b"{\"a\": 1}\n".repeat(30_000)].concat();
        let mut archive = Vec::new();
        for part in bytes.chunks(65_280) {
            let mut encoder = GzBuilder::new()
                .extra(b"BC\x02\0\0\0".to_vec())
                .write(Vec::new(), Compression::new(level));
            for piece in part.chunks(20_000) {
                encoder.write_all(piece).expect("memory");
                encoder.flush().expect("memory");
            }
            archive.extend(encoder.finish().expect("memory"));
        }
        archive.extend(gzip(b""));
        let mut theirs = Vec::new();
        std::io::Read::read_to_end(
            &mut flate2::read::MultiGzDecoder::new(&archive[..]),
            &mut theirs,
        )
        .expect("whole");
        assert!(theirs == bytes);
        assert!(decode(Encoding::Gzip, &archive).expect("whole") == bytes);
    }
}

/// An encoding, an archive, its content, and where it may be cut.
type Archive = (Encoding, Vec<u8>, Vec<u8>, Vec<usize>);

/// Small archives of several members or frames.
fn archives() -> Vec<Archive> {
    let parts = [&b"a first part, a first part, a first part\n"[..], b"{}\n"];
    let content = parts.concat();
    let zip = parts.map(gzip);
    let sized = parts.map(|part| zstd(part, true));
    // Nothing protects this length: made longer by just the next frame, it would hide that frame
    // from any decoder. No flip of one bit makes this one so.
    let skip = skippable(21);
    let open = parts.map(|part| zstd(part, false));
    let mixed = [&open[0], &skip[..], &open[1]].concat();
    let cut = open[0].len();
    vec![
        (
            Encoding::Gzip,
            zip.concat(),
            content.clone(),
            vec![zip[0].len()],
        ),
        (
            Encoding::Zstd,
            sized.concat(),
            content.clone(),
            vec![sized[0].len()],
        ),
        (Encoding::Zstd, mixed, content, vec![cut, cut + skip.len()]),
    ]
}

#[test]
fn truncation_anywhere_is_found() {
    for (encoding, archive, content, cuts) in archives() {
        assert_eq!(decode(encoding, &archive).expect("whole"), content);
        for len in 0..archive.len() {
            let archive = &archive[..len];
            if cuts.contains(&len) {
                let all = decode(encoding, archive).expect("whole");
                assert!(content.starts_with(&all) && all.len() > 4);
                continue;
            }
            let (offset, how) = damage(encoding, archive);
            assert_eq!(offset, len as u64);
            let name = encoding.name();
            let expected = if len == 0 {
                format!("holds no {name} data")
            } else {
                format!("{name} data ends early")
            };
            assert_eq!(how, expected);
        }
    }
}

#[test]
fn no_flipped_bit_passes_for_other_content() {
    for (encoding, archive, content, _) in archives() {
        let mut decoder = decoder(encoding);
        for bit in 0..archive.len() * 8 {
            let mut archive = archive.clone();
            archive[bit / 8] ^= 1 << (bit % 8);
            for (reads, out) in [(usize::MAX, 1 << 16), (1, 1), (5, 3)] {
                match decode_by(&mut decoder, &archive, 0, &[reads], &[out]) {
                    Ok(all) => assert_eq!(all, content, "bit {bit}"),
                    Err(Fault::Corrupt { offset, .. }) => {
                        assert!(offset <= archive.len() as u64);
                    }
                    Err(Fault::Window { window }) => assert!(window > LIMIT),
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn what_follows_the_end_is_named() {
    for (encoding, archive, content, _) in archives() {
        let len = archive.len() as u64;
        let name = encoding.name();
        for garbage in [&b"x"[..], b"{\"some\": \"text\", \"and\": 1}\n"] {
            let (offset, how) = damage(encoding, &[&archive, garbage].concat());
            assert_eq!(offset, len);
            assert_eq!(how, format!("is followed by bytes that are not {name}"));
            let (offset, how) = damage(encoding, garbage);
            assert_eq!((offset, how), (0, format!("is not {name} data")));
        }
        for zeros in [1, 2, 511, 200_000] {
            let mut padded = archive.clone();
            padded.resize(archive.len() + zeros, 0);
            if encoding == Encoding::Zstd {
                assert_eq!(damage(encoding, &padded).0, len);
                continue;
            }
            assert_eq!(decode(encoding, &padded).expect("whole"), content);
            padded.extend(&archive);
            let (offset, how) = damage(encoding, &padded);
            assert_eq!(offset, len + zeros as u64);
            assert_eq!(how, "is followed by bytes that are not gzip");
        }
    }
    assert_eq!(damage(Encoding::Gzip, &[0; 512]).1, "is not gzip data");
}

#[test]
fn frames_of_any_kind_may_follow_one_another() {
    for archive in [
        skippable(0),
        skippable(300_000),
        [
            zstd(b"", true),
            skippable(1),
            zstd(b"", false),
            skippable(0),
        ]
        .concat(),
    ] {
        assert_eq!(decode(Encoding::Zstd, &archive).expect("whole"), b"");
    }
    assert_eq!(
        decode(Encoding::Gzip, &gzip(b"").repeat(3)).expect("whole"),
        b""
    );
    let (offset, how) = damage(Encoding::Zstd, &skippable(300_000)[..200_000]);
    assert_eq!((offset, &how[..]), (200_000, "zstd data ends early"));
}

#[test]
fn expansion_is_refused_above_its_floor() {
    let bytes = vec![b'x'; 4 << 20];
    for (encoding, archive) in [
        (Encoding::Gzip, gzip(&bytes)),
        (Encoding::Zstd, zstd(&bytes, true)),
    ] {
        for (ratio, floor, refused) in [
            (100, 1 << 20, true),
            (100, 4 << 20, false),
            (100_000, 1 << 20, false),
            (u64::MAX, 0, false),
        ] {
            let expansion = Some(Expansion { ratio, floor });
            let mut decoder = Decoder::new(encoding, LIMIT, expansion).expect("memory");
            for out in [1 << 16, 8 << 20] {
                match decode_by(&mut decoder, &archive, 0, &[usize::MAX], &[out]) {
                    Ok(all) => assert!(!refused && all == bytes),
                    Err(Fault::Expansion { input, output }) => {
                        assert!(refused && output > floor && output > ratio * input);
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_decoder_goes_on_after_faults() {
    for (encoding, archive, content, _) in archives() {
        let mut decoder = decoder(encoding);
        for len in 0..archive.len() {
            let mut broken = archive.clone();
            broken[len] ^= 0xff;
            let _ = decode_by(&mut decoder, &broken, 4, &[usize::MAX], &[2]);
            // Left in the middle, too.
            decoder.begin(&archive[..LOOK]);
            let mut sick = |_: &mut [u8]| Err(Error::Cancelled);
            let stopped = decoder.decode(&mut [0; 100], &mut sick);
            assert!(matches!(stopped, Err(Fault::Source(Error::Cancelled))));
            let all = decode_by(&mut decoder, &archive, LOOK, &[usize::MAX], &[2]);
            assert_eq!(all.expect("whole"), content);
        }
    }
}

#[test]
fn decoders_may_change_threads() {
    fn send<T: Send>() {}
    send::<Decoder>();
}
