//! A run that is killed, or fails, at any step leaves one set or the other, or what the next run
//! goes on from.

use super::*;

/// Publishes a set of `files` up to step `steps` and dies; whether all steps were taken.
fn killed(dir: &Path, mark: u8, files: u64, most: usize) -> bool {
    let mut set = open(dir).expect("ready");
    fill(&set, mark, files);
    let manifest = manifest(&set.pattern, mark, files);
    let steps = set.steps(&manifest).expect("steps");
    for step in steps.iter().take(most) {
        set.take(step, &manifest).expect("taken");
    }
    kill(set);
    most >= steps.len()
}

fn either_or(dir: &Path, sets: &[(u8, u64)], when: &str) {
    let whole = sets.iter().any(|&(mark, files)| holds(dir, mark, files));
    let none = read_manifest(dir).is_none();
    assert!(whole || none, "{when}: {:?}", listing(dir));
}

#[test]
fn a_kill_at_any_step_is_recovered_from() {
    // Fresh, smaller, larger.
    for (old, new) in [(None, 3), (Some(5), 3), (Some(2), 4)] {
        for most in 0.. {
            let dir = tempfile::tempdir().expect("a directory");
            if let Some(old) = old {
                write(dir.path(), 1, old).expect("published");
            }
            let all = killed(dir.path(), 2, new, most);
            let sets = [(1, old.unwrap_or(0)), (2, new)];
            either_or(dir.path(), &sets, &format!("{old:?} {new} {most}"));
            if all {
                assert!(holds(dir.path(), 2, new));
            }
            // A run that gives up does not lose what is known.
            drop(open(dir.path()).expect("ready"));
            write(dir.path(), 3, 1).expect("published");
            holds_only(dir.path(), 3, 1);
            if all {
                break;
            }
        }
    }
}

#[test]
fn two_kills_in_a_row_are_recovered_from() {
    for first in [0, 1, 2, 4, 7, 9, 10] {
        for second in 0..16 {
            let dir = tempfile::tempdir().expect("a directory");
            write(dir.path(), 1, 4).expect("published");
            killed(dir.path(), 2, 6, first);
            killed(dir.path(), 3, 2, second);
            let sets = [(1, 4), (2, 6), (3, 2)];
            either_or(dir.path(), &sets, &format!("{first} {second}"));
            write(dir.path(), 4, 3).expect("published");
            holds_only(dir.path(), 4, 3);
        }
    }
}

/// A failure in the middle is like a kill, but the bytes need no room any more.
#[test]
fn a_failure_while_renaming_is_recovered_from() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), 1, 4).expect("published");
    let mut set = open(dir.path()).expect("ready");
    fill(&set, 2, 6);
    let manifest = manifest(&set.pattern, 2, 6);
    let steps = set.steps(&manifest).expect("steps");
    steps[..4]
        .iter()
        .for_each(|step| set.take(step, &manifest).expect("taken"));
    let in_the_way = dir.path().join("out-05.txt");
    std::fs::create_dir(&in_the_way).expect("made");
    let failed = steps[4..]
        .iter()
        .try_for_each(|step| set.take(step, &manifest));
    let error = failed.expect_err("a directory is in the way");
    assert!(is_io(&error, Errno::ISDIR, "out-05.txt"), "{error}");
    let staging = dir.path().join(&set.staging.name);
    drop(set);
    assert_eq!(listing(&staging), [JOURNAL, LOCK, RETIRED]);
    assert!(read_manifest(dir.path()).is_none());
    std::fs::remove_dir(&in_the_way).expect("removed");
    write(dir.path(), 3, 2).expect("published");
    holds_only(dir.path(), 3, 2);
}
