//! The inputs: what they are, and that they stay what they were.
//!
//! The [`reader`] takes them chunk by chunk and cuts them into records ([`split`]). What can only be
//! read from front to back is a [`sequence`]: pipes and devices ([`stream`]) and whatever is
//! compressed ([`decode`]). A [`header`] is taken off before the first record. The [`survey`] looks
//! at all inputs before the plan is made.

pub(crate) mod decode;
pub(crate) mod header;
pub(crate) mod reader;
pub(crate) mod sequence;
pub(crate) mod split;
pub(crate) mod stream;
pub(crate) mod survey;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat};
use rustix::io::Errno;

use self::decode::{Encoding, LOOK};
use self::header::Header;
use self::split::Splitter;
use crate::error::{At, Error, Result};
use crate::options::InputFormat;
use crate::run::Run;

/// Where records come from.
#[derive(Clone, Debug)]
pub enum Input {
    /// A path; shared, for there may be very many.
    Path(Arc<Path>),
    /// An open file, and its name for messages. A regular file is read from its present offset.
    Open(Arc<File>, PathBuf),
}

/// An input that was looked at.
#[derive(Debug)]
pub(crate) struct InputFile {
    input: Input,
    pub kind: Kind,
    /// How its bytes are stored; `None` for a stream, which tells when it is read.
    pub encoding: Option<Encoding>,
    /// The window that its decoder needs, as far as its first bytes tell.
    pub window: u64,
}

/// How one looks at inputs.
pub(crate) struct Look<'a> {
    pub format: InputFormat,
    pub splitter: &'a Splitter,
    pub header: &'a Header,
}

/// How an input can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any part, any number of times: `size` bytes from `start`.
    Regular { start: u64, size: u64, stamp: Stamp },
    /// Once, front to back: a pipe, a device, a file of the kernel without a size.
    Stream,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as _,
            inode: stat.st_ino as _,
            size: stat.st_size as _,
            modified: (stat.st_mtime as _, stat.st_mtime_nsec as _),
        }
    }
}

impl InputFile {
    /// Looks at an input without consuming anything of it, and makes sure that it can be read.
    /// Records begin `skip` bytes behind its start.
    pub fn look(input: Input, skip: u64, look: &Look) -> Result<Self> {
        let told = match look.format {
            InputFormat::Auto => None,
            InputFormat::Is(encoding) => Some(encoding),
        };
        let path = input.path().to_owned();
        let (file, start) = match &input {
            // Opening a FIFO waits for its writer and belongs to the reading; a look must not.
            Input::Path(path) => {
                let stat = rustix::fs::stat(&**path).at(path)?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => (Arc::new(File::open(path).at(path)?), 0),
                    FileType::Directory => return Err(Errno::ISDIR).at(path),
                    _ => {
                        rustix::fs::access(&**path, rustix::fs::Access::READ_OK).at(path)?;
                        return Ok(Self {
                            input,
                            kind: Kind::Stream,
                            encoding: told,
                            window: 0,
                        });
                    }
                }
            }
            Input::Open(file, _) => {
                let start = rustix::fs::seek(file, rustix::fs::SeekFrom::Current(0)).unwrap_or(0);
                (Arc::clone(file), start)
            }
        };
        let stat = fstat(&file).at(&path)?;
        let stamp = Stamp::of(&stat);
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Err(Errno::ISDIR).at(&path),
            FileType::RegularFile => {
                // Files of /proc and the like say that they are empty and are not.
                let hidden = stamp.size == 0 && read_at(&file, &mut [0], 0).at(&path)? > 0;
                if hidden {
                    Kind::Stream
                } else {
                    let start = start + skip;
                    Kind::Regular {
                        start,
                        size: stamp.size.saturating_sub(start),
                        stamp,
                    }
                }
            }
            _ => Kind::Stream,
        };
        let mut this = Self {
            input,
            kind,
            encoding: told,
            window: 0,
        };
        if let Kind::Regular { size, .. } = kind {
            let mut head = [0; LOOK];
            let head = &mut head[..size.min(LOOK as u64) as usize];
            // Raw inputs that are known as such are not read before their time.
            if told != Some(Encoding::Raw) {
                this.read_exact_at(&file, head, 0)?;
            }
            let encoding = told.unwrap_or_else(|| Encoding::recognise(head));
            this.encoding = Some(encoding);
            this.window = decode::window(encoding, head).unwrap_or(0);
            if encoding == Encoding::Raw {
                this.look_raw(&file, look)?;
            }
        }
        Ok(this)
    }

    /// What can be known only of records that lie in a regular file as they are.
    fn look_raw(&mut self, file: &File, look: &Look) -> Result<()> {
        if look.header.is_wanted() {
            let (mut at, size) = (0, self.size().unwrap_or(0));
            let taken = look.header.take(self.path(), look.splitter, &mut |out| {
                let n = (size - at).min(out.len() as u64) as usize;
                self.read_exact_at(file, &mut out[..n], at)?;
                at += n as u64;
                Ok(n)
            })?;
            if let Kind::Regular { start, size, .. } = &mut self.kind {
                *start += taken.len;
                *size -= taken.len;
            }
        }
        match (look.splitter.fixed(), self.size()) {
            (Some(record), Some(size)) if size % record as u64 != 0 => {
                Err(self.not_whole(record, size))
            }
            _ => Ok(()),
        }
    }

    /// The error of an input that is not a whole number of records.
    pub fn not_whole(&self, record: usize, size: u64) -> Error {
        Error::Format {
            path: self.path().to_owned(),
            how: format!("has {size} bytes, which is not a multiple of record_bytes {record}"),
        }
    }

    /// Whether a record can be read again by its place.
    pub fn has_places(&self) -> bool {
        self.can_be_read_again() && self.encoding == Some(Encoding::Raw)
    }

    /// Whether all of it can be read several times.
    pub fn can_be_read_again(&self) -> bool {
        self.kind != Kind::Stream
    }

    pub fn path(&self) -> &Path {
        self.input.path()
    }

    /// Bytes as they are stored, when they are known.
    pub fn size(&self) -> Option<u64> {
        match self.kind {
            Kind::Regular { size, .. } => Some(size),
            Kind::Stream => None,
        }
    }

    /// Opens the input for reading; a regular file must be what it was.
    pub fn open(&self) -> Result<Arc<File>> {
        let file = match &self.input {
            // A FIFO opened this way does not wait for its writer; reading polls.
            Input::Path(path) if self.kind == Kind::Stream => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                Arc::new(
                    rustix::fs::open(&**path, flags, Mode::empty())
                        .at(path)?
                        .into(),
                )
            }
            Input::Path(path) => Arc::new(File::open(path).at(path)?),
            Input::Open(file, _) => Arc::clone(file),
        };
        self.unchanged(&file)?;
        Ok(file)
    }

    /// An error when a regular file is not what it was at the first look.
    pub fn unchanged(&self, file: &File) -> Result<()> {
        if let Kind::Regular { stamp, .. } = self.kind
            && Stamp::of(&fstat(file).at(self.path())?) != stamp
        {
            return Err(self.changed("changed while it was read"));
        }
        Ok(())
    }

    pub fn changed(&self, how: &str) -> Error {
        Error::InputChanged {
            path: self.path().to_owned(),
            how: how.to_owned(),
        }
    }

    /// Reads exactly `buf` at `offset` behind the input's start.
    pub fn read_exact_at(&self, file: &File, buf: &mut [u8], offset: u64) -> Result<()> {
        let Kind::Regular { start, .. } = self.kind else {
            unreachable!("only regular files are read by offset");
        };
        let mut done = 0;
        while done < buf.len() {
            match read_at(file, &mut buf[done..], start + offset + done as u64).at(self.path())? {
                0 => return Err(self.changed("became shorter while it was read")),
                n => done += n,
            }
        }
        Ok(())
    }

    /// Reads from a stream until `buf` is full or the stream ends; returns the bytes read. An idle
    /// stream is polled, so that cancelling never waits for its writer.
    pub fn read_stream(&self, file: &File, buf: &mut [u8], run: &Run) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            run.check()?;
            if !crate::input::stream::ready(file, crate::input::stream::Direction::Read)
                .at(self.path())?
            {
                continue;
            }
            match rustix::io::read(file, &mut buf[done..]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error).at(self.path()),
            }
        }
        Ok(done)
    }
}

impl Input {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Open(_, path) => path,
        }
    }
}

/// `pread` that an interrupting signal does not end.
pub(crate) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match rustix::io::pread(file, &mut *buf, offset) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Records;
    use std::io::Write;

    fn look(path: &Path) -> Result<InputFile> {
        let splitter = Splitter::new(&Records::Delimited(b"\n".to_vec()));
        let look = Look {
            format: InputFormat::Auto,
            splitter: &splitter,
            header: &Header::new(0),
        };
        InputFile::look(Input::Path(path.into()), 0, &look)
    }

    #[test]
    fn looks_tell_files_streams_and_directories_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        std::fs::write(&path, b"abc").expect("written");
        let input = look(&path).expect("readable");
        assert_eq!(input.size(), Some(3));
        assert!(matches!(
            look(dir.path()),
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(21)
        ));
        assert!(matches!(
            look(&dir.path().join("missing")),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound
        ));
        if cfg!(target_os = "linux") {
            let kernel = look(Path::new("/proc/self/status")).expect("there");
            assert_eq!(kernel.kind, Kind::Stream);
        }
    }

    #[test]
    fn a_changed_file_is_seen() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"abc").expect("written");
        let input = look(file.path()).expect("readable");
        let open = input.open().expect("unchanged");
        file.write_all(b"d").expect("written");
        assert!(matches!(
            input.unchanged(&open),
            Err(Error::InputChanged { .. })
        ));
        assert!(matches!(input.open(), Err(Error::InputChanged { .. })));
    }
}
