//! Tests of random content, damage and nonsense.

use proptest::prelude::*;

use super::*;

/// Content that compresses more or less: runs of few different bytes, and noise.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        (any::<u8>(), 0usize..5000).prop_map(|(byte, len)| vec![byte; len]),
        proptest::collection::vec(b'a'..b'e', 0..500),
        proptest::collection::vec(any::<u8>(), 0..500),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(prop_oneof![1usize..10, 1usize..3000, Just(1 << 20)], 1..4)
}

proptest! {
    #[test]
    fn archives_round_trip(
        bytes in content(),
        mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
        sized: bool,
        head in 0..=LOOK,
        reads in sizes(),
        outs in sizes(),
    ) {
        cuts.sort_by_key(|cut| cut.index(bytes.len() + 1));
        let ends = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([bytes.len()]);
        let (mut gz, mut zst, mut start) = (Vec::new(), Vec::new(), 0);
        for end in ends {
            gz.extend(gzip(&bytes[start..end]));
            zst.extend(zstd(&bytes[start..end], sized));
            if end % 3 == 0 {
                zst.extend(skippable(end % 50));
            }
            start = end;
        }
        for (encoding, archive) in [
            (Encoding::Raw, &bytes),
            (Encoding::Gzip, &gz),
            (Encoding::Zstd, &zst),
        ] {
            let mut decoder = decoder(encoding);
            for _ in 0..2 {
                let all = decode_by(&mut decoder, archive, head, &reads, &outs);
                prop_assert!(all.expect("whole") == bytes);
            }
        }
    }

    #[test]
    fn damage_anywhere_is_found(
        bytes in content(),
        place: prop::sample::Index,
        change in 1u8..,
        reads in sizes(),
        outs in sizes(),
    ) {
        for (encoding, mut archive) in [
            (Encoding::Gzip, [gzip(&bytes), gzip(&bytes)].concat()),
            (Encoding::Zstd, [zstd(&bytes, true), zstd(&bytes, false)].concat()),
        ] {
            let place = place.index(archive.len());
            archive[place] ^= change;
            match decode_by(&mut decoder(encoding), &archive, 0, &reads, &outs) {
                Ok(all) => prop_assert!(all == bytes.repeat(2)),
                Err(Fault::Corrupt { offset, .. }) => {
                    prop_assert!(offset <= archive.len() as u64);
                }
                Err(Fault::Window { window }) => prop_assert!(window > LIMIT),
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn nonsense_ends(
        start in 0usize..3,
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        reads in sizes(),
        outs in sizes(),
    ) {
        let heads = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &zstd::MAGIC, b""];
        let nonsense = [heads[start], &bytes].concat();
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let expansion = Some(Expansion { ratio: 10, floor: 1 << 20 });
            let mut decoder = Decoder::new(encoding, LIMIT, expansion).expect("memory");
            let _ = decode_by(&mut decoder, &nonsense, 0, &reads, &outs);
        }
    }
}
