//! Header records: the same at the top of every input, kept once at the top of every output.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::input::split::Splitter;

/// The most bytes of a header: it is held in memory.
const MOST: usize = 256 << 10;

/// The header that all inputs of a run share.
pub(crate) struct Header {
    records: u64,
    /// As the first input had it, each record with its delimiter, and that input.
    found: OnceLock<(Vec<u8>, PathBuf)>,
}

/// Where an input's header ends.
pub(crate) struct Taken {
    /// Bytes of the input that are header.
    pub len: u64,
    /// Bytes that were read behind it.
    pub rest: Vec<u8>,
}

impl Header {
    pub fn new(records: u64) -> Self {
        Self {
            records,
            found: OnceLock::new(),
        }
    }

    /// Whether inputs have one.
    pub fn is_wanted(&self) -> bool {
        self.records > 0
    }

    /// The header as outputs get it; empty when there is none, or before any input was read.
    pub fn bytes(&self) -> &[u8] {
        self.found.get().map_or(&[], |found| &found.0)
    }

    /// Reads the header off the front of an input. `read` gives the input's next bytes, 0 at its end.
    ///
    /// # Errors
    /// The input has fewer records, or others than the first input.
    pub fn take(
        &self,
        path: &Path,
        splitter: &Splitter,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<Taken> {
        const STEP: usize = 4 << 10;
        let refuse = |how: String| {
            Err(Error::Format {
                path: path.to_owned(),
                how,
            })
        };
        let mut bytes = Vec::new();
        let mut taken = None;
        while taken.is_none() {
            if bytes.len() > MOST {
                return refuse(format!("has a header of more than {MOST} bytes"));
            }
            let before = bytes.len();
            bytes.resize(before + STEP, 0);
            let n = read(&mut bytes[before..])?;
            bytes.truncate(before + n);
            taken = self.end(&bytes, splitter, n == 0);
            if n == 0 && taken.is_none() {
                return refuse(format!(
                    "has fewer records than its header of {} should have",
                    self.records
                ));
            }
        }
        let end = taken.unwrap_or(0);
        let rest = bytes.split_off(end);
        let len = bytes.len() as u64;
        let begun = splitter.unfinished(&bytes);
        let delimiter = splitter.delimiter();
        if !bytes.ends_with(delimiter) {
            bytes.extend_from_slice(&delimiter[begun..]);
        }
        let (first, whose) = self.found.get_or_init(|| (bytes.clone(), path.to_owned()));
        if *first != bytes {
            return refuse(format!("has another header than {}", whose.display()));
        }
        Ok(Taken { len, rest })
    }

    /// Where the header ends in `bytes`; at the input's end its last record may lack a delimiter.
    fn end(&self, bytes: &[u8], splitter: &Splitter, last: bool) -> Option<usize> {
        let mut at = 0;
        for record in 1..=self.records {
            match splitter.first(&bytes[at..], 0) {
                Some(end) => at += end + splitter.delimiter().len(),
                None if last && record == self.records && at < bytes.len() => {
                    return splitter.fixed().is_none().then_some(bytes.len());
                }
                None => return None,
            }
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Records;

    fn take(header: &Header, bytes: &[u8], step: usize) -> Result<Taken> {
        let splitter = Splitter::new(&Records::Delimited(b"\r\n".to_vec()));
        let mut at = 0;
        header.take(Path::new("in"), &splitter, &mut |out| {
            let n = step.min(bytes.len() - at).min(out.len());
            out[..n].copy_from_slice(&bytes[at..at + n]);
            at += n;
            Ok(n)
        })
    }

    #[test]
    fn headers_end_after_their_records() {
        for step in [1, 2, 7, 100] {
            let header = Header::new(2);
            let taken = take(&header, b"a\r\nb\r\nc\r\n", step).expect("there");
            assert_eq!(taken.len, 6);
            assert!(b"c\r\n".starts_with(&taken.rest[..]));
            assert_eq!(header.bytes(), b"a\r\nb\r\n");
            // The last record of an input may lack its delimiter, or a part of it.
            assert_eq!(take(&header, b"a\r\nb\r", step).expect("equal").len, 5);
            assert_eq!(take(&header, b"a\r\nb", step).expect("equal").len, 4);
            for other in [&b"a\r\nc\r\n"[..], b"a\r\n", b"", b"a\r\nb\r\r\n"] {
                assert!(matches!(
                    take(&header, other, step),
                    Err(Error::Format { .. })
                ));
            }
        }
    }

    #[test]
    fn endless_headers_are_refused() {
        let header = Header::new(1);
        let long = vec![b'x'; MOST + 10_000];
        assert!(take(&header, &long, 4096).is_err());
    }
}
