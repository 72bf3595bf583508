//! Tests of what the header of a zstd frame asks for: windows and dictionaries.

use super::*;

/// A frame of one block that is not compressed, with this window descriptor.
fn windowed(descriptor: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = zstd::MAGIC.to_vec();
    frame.extend([0, descriptor]);
    frame.extend(&((content.len() as u32) << 3 | 1).to_le_bytes()[..3]);
    frame.extend(content);
    frame
}

fn descriptor_window(descriptor: u8) -> u64 {
    let base = 1u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

#[test]
fn a_dictionary_is_refused() {
    for (flag, id) in [(1, &[9u8][..]), (2, &[9, 0]), (3, &[0, 0, 0, 9])] {
        let first = zstd(b"first", true);
        let mut archive = [&first[..], &zstd::MAGIC, &[0x20 | flag]].concat();
        archive.extend(id);
        archive.extend([1, 9, 0, 0, b'x']);
        let (offset, how) = damage(Encoding::Zstd, &archive);
        assert_eq!(offset, first.len() as u64);
        assert_eq!(how, "needs a dictionary, which is not supported");
        // The number of no dictionary.
        let at = first.len() + 5;
        archive[at..at + id.len()].fill(0);
        assert_eq!(decode(Encoding::Zstd, &archive).expect("whole"), b"firstx");
    }
}

#[test]
fn window_limits_are_exact() {
    for descriptor in 0..=255 {
        let frame = windowed(descriptor, b"content");
        let wanted = descriptor_window(descriptor);
        assert_eq!(window(Encoding::Zstd, &frame), Some(wanted));
        for len in 0..6 {
            assert_eq!(window(Encoding::Zstd, &frame[..len]), None);
        }
        let archive = [zstd(b"", true), skippable(3), frame].concat();
        let mut below = Decoder::new(Encoding::Zstd, wanted - 1, None).expect("memory");
        for (reads, out) in [(usize::MAX, 100), (1, 1)] {
            match decode_by(&mut below, &archive, 0, &[reads], &[out]) {
                Err(Fault::Window { window }) => assert_eq!(window, wanted),
                other => panic!("{other:?}"),
            }
        }
        if wanted <= 64 << 20 {
            let mut at = Decoder::new(Encoding::Zstd, wanted, None).expect("memory");
            let all = decode_by(&mut at, &archive, 0, &[1], &[1]).expect("whole");
            assert_eq!(all, b"content");
            let Codec::Zstd(zstd) = &at.codec else {
                unreachable!("it is zstd");
            };
            let used = (zstd.context.sizeof() + zstd::BUFFER) as u64;
            assert!(used + 8192 <= memory(Encoding::Zstd, wanted), "{used}");
        }
    }
}

#[test]
fn single_segments_are_their_own_window() {
    for (flags, content) in [
        (0x20, &[200][..]),
        (0x60, &[1, 2]),
        (0xa0, &[1, 2, 3, 4]),
        (0xe0, &[1, 2, 3, 4, 5, 6, 7, 8]),
    ] {
        let mut frame = [&zstd::MAGIC[..], &[flags], content].concat();
        let mut value = [0; 8];
        value[..content.len()].copy_from_slice(content);
        let offset = if content.len() == 2 { 256 } else { 0 };
        let wanted = u64::from_le_bytes(value) + offset;
        assert_eq!(window(Encoding::Zstd, &frame), Some(wanted));
        assert_eq!(window(Encoding::Zstd, &frame[..frame.len() - 1]), None);
        frame.extend([0; 20]);
        for limit in [wanted - 1, 0] {
            let mut decoder = Decoder::new(Encoding::Zstd, limit, None).expect("memory");
            match decode_by(&mut decoder, &frame, 0, &[1], &[1]) {
                Err(Fault::Window { window }) => assert_eq!(window, wanted),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(window(Encoding::Zstd, &skippable(100)), None);
    assert_eq!(window(Encoding::Gzip, b""), Some(32 << 10));
    // Whether all fits in one call must make no difference to a limit.
    let bytes = noise(100_000);
    let archive = zstd(&bytes, true);
    let wanted = window(Encoding::Zstd, &archive).expect("a header");
    for out in [10, 1 << 20] {
        let mut decoder = Decoder::new(Encoding::Zstd, wanted, None).expect("memory");
        let all = decode_by(&mut decoder, &archive, 0, &[usize::MAX], &[out]);
        assert!(all.expect("whole") == bytes);
        let mut decoder = Decoder::new(Encoding::Zstd, wanted - 1, None).expect("memory");
        let all = decode_by(&mut decoder, &archive, 0, &[usize::MAX], &[out]);
        assert!(matches!(all, Err(Fault::Window { window }) if window == wanted));
    }
}
