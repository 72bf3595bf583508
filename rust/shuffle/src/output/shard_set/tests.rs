//! Tests of whole sets, and what the tests of kills share with them.

mod kills;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use corekit_base::control::{Control, POLL};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::*;
use crate::run::Run;
use crate::store::pool::ALIGN;

#[repr(align(4096))]
struct Page([u8; ALIGN]);

fn pattern(dir: &Path) -> Pattern {
    Pattern::parse(&dir.join("out-{index:02d}.txt")).expect("a pattern")
}

fn open(dir: &Path) -> Result<ShardSet> {
    ShardSet::open(pattern(dir), &Tuning::default())
}

/// The bytes of file `number` of set `mark`.
fn content(mark: u8, number: u64) -> Vec<u8> {
    vec![mark; number as usize * 700 % 5000]
}

fn manifest(pattern: &Pattern, mark: u8, files: u64) -> Manifest {
    let files = (0..files).map(|number| ManifestFile {
        name: pattern.name(number, "", 0).into_string().expect("UTF-8"),
        size: content(mark, number).len() as u64,
        digest: format!("{:032x}", u128::MAX - u128::from(mark)),
        index: Some(number),
        ..ManifestFile::default()
    });
    Manifest {
        corekit: env!("CARGO_PKG_VERSION").into(),
        algorithm: 1,
        seed: u128::MAX.to_string(),
        records: 0,
        bytes: 0,
        digest: format!("{mark:032x}"),
        compression: None,
        files: files.collect(),
    }
}

/// Writes the files of a set, the pages of all of them in turn.
fn fill(set: &ShardSet, mark: u8, files: u64) {
    for page in 0..2 {
        for number in 0..files {
            let bytes = content(mark, number);
            let bytes = &bytes[(page * ALIGN).min(bytes.len())..];
            if bytes.is_empty() {
                continue;
            }
            let bytes = &bytes[..bytes.len().min(ALIGN)];
            let mut buffer = Box::new(Page([0xEE; ALIGN]));
            buffer.0[..bytes.len()].copy_from_slice(bytes);
            let len = if set.is_direct() { ALIGN } else { bytes.len() };
            set.write_at(number, &buffer.0[..len], (page * ALIGN) as u64)
                .expect("written");
        }
    }
    for number in 0..files {
        set.finish(number, content(mark, number).len() as u64)
            .expect("finished");
    }
}

fn publish(set: ShardSet, manifest: &Manifest) -> Result<()> {
    let control = Control::new();
    set.publish(manifest, &Run::new(&control))
}

fn write(dir: &Path, mark: u8, files: u64) -> Result<()> {
    let set = open(dir)?;
    fill(&set, mark, files);
    let manifest = manifest(&set.pattern, mark, files);
    publish(set, &manifest)
}

/// As a kill would: nothing is tidied up, and the lock is gone.
fn kill(set: ShardSet) {
    rustix::fs::flock(&set.staging.lock.0, FlockOperation::Unlock).expect("unlocked");
    std::mem::forget(set);
}

fn listing(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("readable");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

fn read_manifest(dir: &Path) -> Option<Manifest> {
    let bytes = std::fs::read(dir.join("out.manifest.json")).ok()?;
    assert_eq!(bytes.last(), Some(&b'\n'));
    Some(serde_json::from_slice(&bytes).expect("a manifest"))
}

/// The directory holds that set; and nothing else, but for `others`.
fn holds(dir: &Path, mark: u8, files: u64) -> bool {
    let pattern = pattern(dir);
    read_manifest(dir) == Some(manifest(&pattern, mark, files))
        && (0..files).all(|number| {
            std::fs::read(dir.join(pattern.name(number, "", 0))).ok() == Some(content(mark, number))
        })
}

fn holds_only(dir: &Path, mark: u8, files: u64) {
    assert!(holds(dir, mark, files), "set {mark}: {:?}", listing(dir));
    assert_eq!(listing(dir).len() as u64, files + 1, "{:?}", listing(dir));
}

fn is_io(error: &Error, errno: Errno, name: &str) -> bool {
    matches!(error, Error::Io { path, source }
        if source.raw_os_error() == Some(errno.raw_os_error())
            && path.file_name().is_some_and(|found| found == name))
}

#[test]
fn sets_are_replaced_by_smaller_and_larger_ones() {
    for no_direct in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let tuning = Tuning {
            no_direct,
            ..Tuning::default()
        };
        for (mark, files) in [(1, 9), (2, 4), (3, 0), (4, 12)] {
            let set = ShardSet::open(pattern(dir.path()), &tuning).expect("ready");
            assert!(!(no_direct && set.is_direct()));
            assert_eq!(set.dir(), dir.path());
            fill(&set, mark, files);
            let manifest = manifest(&set.pattern, mark, files);
            publish(set, &manifest).expect("published");
            holds_only(dir.path(), mark, files);
        }
    }
}

#[test]
fn published_files_are_ordinary_and_staged_ones_private() {
    let dir = tempfile::tempdir().expect("a directory");
    let set = open(dir.path()).expect("ready");
    let staged = dir.path().join(&set.staging.name);
    assert_eq!(staged.metadata().expect("there").mode() & 0o777, 0o700);
    fill(&set, 1, 1);
    let manifest = manifest(&set.pattern, 1, 1);
    publish(set, &manifest).expect("published");
    std::fs::write(dir.path().join("plain"), "").expect("written");
    let mode = |name: &str| {
        dir.path()
            .join(name)
            .metadata()
            .expect("there")
            .permissions()
            .mode()
    };
    assert_eq!(mode("out-00.txt"), mode("plain"));
    assert_eq!(mode("out.manifest.json"), mode("plain"));
}

#[test]
fn an_abandoned_set_leaves_the_old_one() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), 1, 3).expect("published");
    let set = open(dir.path()).expect("ready");
    fill(&set, 2, 5);
    drop(set);
    holds_only(dir.path(), 1, 3);
}

#[test]
fn a_cancelled_run_publishes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), 1, 3).expect("published");
    let set = open(dir.path()).expect("ready");
    fill(&set, 2, 2);
    let manifest = manifest(&set.pattern, 2, 2);
    let control = Control::new();
    control.cancel();
    let error = set
        .publish(&manifest, &Run::new(&control))
        .expect_err("cancelled");
    assert!(matches!(error, Error::Cancelled));
    holds_only(dir.path(), 1, 3);
}

#[test]
fn what_is_not_the_sets_is_refused_and_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("out-1.txt"), "other").expect("written");
    std::fs::write(path("out-07.txt"), "mine").expect("written");
    let error = open(dir.path()).err().expect("refused");
    assert!(is_io(&error, Errno::EXIST, "out-07.txt"), "{error}");
    std::fs::remove_file(path("out-07.txt")).expect("removed");
    write(dir.path(), 1, 3).expect("published");
    std::fs::write(path("out-07.txt"), "mine").expect("written");
    let error = open(dir.path()).err().expect("refused");
    assert!(is_io(&error, Errno::EXIST, "out-07.txt"), "{error}");
    assert_eq!(listing(dir.path()).len(), 6);
    std::fs::remove_file(path("out-07.txt")).expect("removed");
    // One that appears while the run lasts.
    let set = open(dir.path()).expect("ready");
    fill(&set, 2, 9);
    std::fs::write(path("out-07.txt"), "mine").expect("written");
    let manifest = manifest(&set.pattern, 2, 9);
    let error = publish(set, &manifest).expect_err("refused");
    assert!(is_io(&error, Errno::EXIST, "out-07.txt"), "{error}");
    assert!(holds(dir.path(), 1, 3));
    assert_eq!(std::fs::read(path("out-07.txt")).expect("there"), b"mine");
    std::fs::remove_file(path("out-07.txt")).expect("removed");
    std::fs::remove_file(path("out-01.txt")).expect("removed");
    std::fs::create_dir(path("out-01.txt")).expect("made");
    let error = open(dir.path()).err().expect("refused");
    assert!(is_io(&error, Errno::ISDIR, "out-01.txt"), "{error}");
}

#[test]
fn links_are_replaced_and_not_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), 1, 3).expect("published");
    let (link, target) = (dir.path().join("out-02.txt"), dir.path().join("target"));
    std::fs::remove_file(&link).expect("removed");
    std::fs::write(&target, "precious").expect("written");
    symlink(&target, &link).expect("made");
    write(dir.path(), 2, 3).expect("published");
    assert!(!link.is_symlink() && holds(dir.path(), 2, 3));
    assert_eq!(std::fs::read(&target).expect("there"), b"precious");
}

#[test]
fn names_of_old_manifests_are_not_believed() {
    let dir = tempfile::tempdir().expect("a directory");
    let inner = dir.path().join("inner");
    std::fs::create_dir(&inner).expect("made");
    for path in ["out-05.txt", "other.txt", "inner/out-06.txt"] {
        std::fs::write(dir.path().join(path), "mine").expect("written");
    }
    let names = [
        "out-00.txt",
        "../out-05.txt",
        "other.txt",
        "out-06.txt",
        "..",
        "",
        "/etc/x",
    ];
    let files: Vec<_> = names
        .map(|name| serde_json::json!({"name": name, "new": 1}))
        .into();
    let old = serde_json::json!({"version": "of the future", "files": files});
    std::fs::write(inner.join("out.manifest.json"), old.to_string()).expect("written");
    write(&inner, 1, 2).expect("published");
    holds_only(&inner, 1, 2);
    assert_eq!(listing(dir.path()), ["inner", "other.txt", "out-05.txt"]);
}

#[test]
fn what_is_no_manifest_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.manifest.json");
    let refused = || {
        let error = open(dir.path()).err().expect("refused").to_string();
        assert!(
            error.starts_with("output: ") && error.contains("out.manifest.json"),
            "{error}"
        );
        assert_eq!(listing(dir.path()).len(), 1);
    };
    for garbage in ["", "{", "[]", "{\"files\": 3}", "{\"files\": [{}]}", "\0\0"] {
        std::fs::write(&path, garbage).expect("written");
        refused();
    }
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("made");
    refused();
    std::fs::remove_dir(&path).expect("removed");
    symlink("/dev/null", &path).expect("made");
    let error = open(dir.path()).err().expect("refused");
    assert!(is_io(&error, Errno::LOOP, "out.manifest.json"), "{error}");
}

#[test]
fn manifests_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), 1, 2).expect("published");
    let pattern = pattern(dir.path());
    let right = manifest(&pattern, 2, 4);
    let mut wrong = vec![right.clone(); 5];
    wrong[0].files[1].name = wrong[0].files[0].name.clone();
    wrong[1].files[1].name = "../out-01.txt".into();
    wrong[2].files[1].size += 1;
    wrong[3].files.pop();
    wrong[4].files = manifest(&pattern, 2, 5).files;
    for wrong in wrong {
        let set = open(dir.path()).expect("ready");
        fill(&set, 2, 4);
        publish(set, &wrong).expect_err("refused");
        holds_only(dir.path(), 1, 2);
    }
}

#[test]
fn only_utf8_and_directories_that_exist() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(OsStr::from_bytes(b"o\xFF-{index}"));
    let pattern = Pattern::parse(&path).expect("a pattern");
    let error = ShardSet::open(pattern, &Tuning::default())
        .err()
        .expect("refused");
    assert!(matches!(&error, Error::InvalidArgument(text) if text.starts_with("output")));
    let error = open(&dir.path().join("none")).err().expect("refused");
    assert!(is_io(&error, Errno::NOENT, "none"), "{error}");
}

#[test]
fn the_dead_are_swept_and_the_living_and_strangers_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let names = [
        ".out.manifest.corekit-0123456789abcdef",
        ".out.manifest.corekit-notes",
        ".other.manifest.corekit-0123456789abcdef",
    ];
    names
        .iter()
        .for_each(|name| std::fs::create_dir(dir.path().join(name)).expect("made"));
    let dead = open(dir.path()).expect("ready");
    fill(&dead, 1, 3);
    let dead_name = dead.staging.name.clone();
    kill(dead);
    let living = open(dir.path()).expect("ready");
    assert!(!dir.path().join(&dead_name).exists());
    let second = open(dir.path()).expect("ready");
    assert_eq!(listing(dir.path()).len(), 4);
    for (mark, set) in [(2, living), (3, second)] {
        fill(&set, mark, 2);
        let manifest = manifest(&set.pattern, mark, 2);
        publish(set, &manifest).expect("published");
        assert!(holds(dir.path(), mark, 2));
    }
    let left = listing(dir.path());
    assert_eq!(&left[..2], [names[2], names[1]]);
    assert_eq!(left.len(), 5);
}

#[test]
fn a_locked_directory_is_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let lock = File::open(dir.path()).expect("open");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("locked");
    let set = open(dir.path()).expect("ready");
    fill(&set, 1, 1);
    let manifest = manifest(&set.pattern, 1, 1);
    let control = Control::new();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| set.publish(&manifest, &Run::new(&control)));
        std::thread::sleep(2 * POLL);
        assert!(!waiting.is_finished());
        control.cancel();
        let error = waiting.join().expect("no panic").expect_err("cancelled");
        assert!(matches!(error, Error::Cancelled));
    });
    assert_eq!(listing(dir.path()).len(), 0);
}

/// Writes a thousand files from more threads than files may be open.
#[test]
fn a_thousand_files_need_few_descriptors() {
    const CHILD: &str = "COREKIT_TEST_SHARDS";
    const FILES: u64 = 1000;
    if std::env::var_os(CHILD).is_none() {
        let name = "output::shard_set::tests::a_thousand_files_need_few_descriptors";
        let child = std::process::Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", name, "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .expect("started");
        let output = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success() && output.contains("1 passed"),
            "{output}"
        );
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let limit = rustix::process::Rlimit {
        current: Some(32),
        maximum: Some(32),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("lowered");
    for no_direct in [false, true] {
        let tuning = Tuning {
            no_direct,
            ..Tuning::default()
        };
        let pattern = Pattern::parse(&dir.path().join("x-{index}")).expect("a pattern");
        let set = ShardSet::open(pattern, &tuning).expect("ready");
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let set = &set;
                scope.spawn(move || {
                    // Every thread writes one page of every file.
                    for i in 0..FILES {
                        let number = (i + thread * 100) % FILES;
                        let page = Box::new(Page([number as u8 ^ thread as u8; ALIGN]));
                        let offset = thread * ALIGN as u64;
                        set.write_at(number, &page.0, offset).expect("written");
                    }
                });
            }
        });
        assert!(lock(&set.state).open.len() <= MOST_OPEN);
        let size = 8 * ALIGN as u64 - 5;
        let mut manifest = manifest(&set.pattern, 1, FILES);
        for number in 0..FILES {
            set.finish(number, size).expect("finished");
            manifest.files[number as usize].size = size;
        }
        assert_eq!(lock(&set.state).open.len(), 0);
        publish(set, &manifest).expect("published");
        assert_eq!(listing(dir.path()).len() as u64, FILES + 1);
        for number in 0..FILES {
            let bytes = std::fs::read(dir.path().join(format!("x-{number}"))).expect("there");
            assert_eq!(bytes.len() as u64, size);
            let right = |(at, &byte): (usize, &u8)| byte == number as u8 ^ (at / ALIGN) as u8;
            assert!(bytes.iter().enumerate().all(right));
        }
    }
}

#[test]
fn buffered_bytes_are_flushed_as_they_come() {
    let dir = tempfile::tempdir().expect("a directory");
    let tuning = Tuning {
        no_direct: true,
        ..Tuning::default()
    };
    let set = ShardSet::open(pattern(dir.path()), &tuning).expect("ready");
    let bytes = vec![1; 1 << 20];
    let total = 80u64;
    for at in 0..total {
        set.write_at(at % 2, &bytes, (at / 2) << 20)
            .expect("written");
        let dirty: u64 = lock(&set.state).open.iter().map(|open| open.unsynced).sum();
        assert!(dirty <= UNSYNCED);
    }
}
