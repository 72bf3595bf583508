//! Headers of `.npy` files, as `numpy.lib.format` specifies them.
//!
//! Magic, version, the header's length, and a Python dictionary padded with spaces to a multiple of
//! 64 bytes. As NumPy does, room is left for the largest number of rows, so a header has the same
//! length for any number of them.

use crate::options::Npy;

const MAGIC: &[u8] = b"\x93NUMPY";
const ALIGN: usize = 64;

/// Digits of the largest number of rows.
const DIGITS: usize = 21;

/// Bytes of a header.
pub(crate) fn header_len(npy: &Npy) -> u64 {
    let text = npy.before.len() + DIGITS + npy.after.len() + "\n".len();
    (preamble(text) + text).next_multiple_of(ALIGN) as u64
}

/// Magic, version and length: the length has two bytes, or four in version 2.
fn preamble(text: usize) -> usize {
    let short = MAGIC.len() + 2 + 2;
    if (short + text).next_multiple_of(ALIGN) - short <= usize::from(u16::MAX) {
        short
    } else {
        short + 2
    }
}

/// The header of an array of `rows` rows.
pub(crate) fn header(npy: &Npy, rows: u64) -> Vec<u8> {
    let len = header_len(npy) as usize;
    let text = npy.before.len() + DIGITS + npy.after.len() + "\n".len();
    let preamble = preamble(text);
    let mut bytes = MAGIC.to_vec();
    let rest = len - preamble;
    match u16::try_from(rest) {
        Ok(rest) if preamble == MAGIC.len() + 4 => {
            bytes.extend([1, 0]);
            bytes.extend(rest.to_le_bytes());
        }
        _ => {
            bytes.extend([2, 0]);
            bytes.extend((rest as u32).to_le_bytes());
        }
    }
    bytes.extend_from_slice(&npy.before);
    bytes.extend(rows.to_string().bytes());
    bytes.extend_from_slice(&npy.after);
    bytes.resize(len - 1, b' ');
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_aligned_and_have_one_length() {
        let npy = Npy {
            starts: Vec::new(),
            before: b"{'descr': '<u2', 'fortran_order': False, 'shape': (".to_vec(),
            after: b", 8), }".to_vec(),
        };
        for rows in [0, 7, u64::MAX] {
            let bytes = header(&npy, rows);
            assert_eq!(bytes.len() as u64, header_len(&npy));
            assert_eq!(bytes.len() % 64, 0);
            assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
            let rest = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
            assert_eq!(rest + 10, bytes.len());
            assert!(bytes.ends_with(b"\n"));
            let text = String::from_utf8_lossy(&bytes[10..]);
            assert!(
                text.contains(&format!("'shape': ({rows}, 8), }} ")),
                "{text}"
            );
        }
        let long = Npy {
            before: vec![b' '; 70_000],
            ..npy
        };
        let bytes = header(&long, 1);
        assert_eq!(&bytes[6..8], [2, 0]);
        assert_eq!(bytes.len() % 64, 0);
    }
}
