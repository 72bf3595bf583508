use super::*;
use std::sync::Barrier;
use std::thread::ThreadId;

/// Rounds of a stress test; Miri is slow.
const ROUNDS: usize = if cfg!(miri) { 20 } else { 20_000 };

/// Does `work(slot, task)` for each task of a thread.
fn each(work: impl Fn(usize, usize) + Sync) -> impl Fn(Tasks) + Sync {
    move |tasks| {
        let slot = tasks.slot;
        tasks.for_each(|task| work(slot, task));
    }
}

/// A region whose every task leaves something that is not atomic.
fn squares(threads: usize, tasks: usize) {
    let done: Vec<Mutex<usize>> = (0..tasks).map(|_| Mutex::new(0)).collect();
    let busy: Vec<AtomicBool> = (0..threads.max(1))
        .map(|_| AtomicBool::new(false))
        .collect();
    share(
        threads,
        tasks,
        &each(|slot, task| {
            assert!(!busy[slot].swap(true, Relaxed), "slot {slot} twice");
            *done[task].try_lock().unwrap() += task * task + 1;
            busy[slot].store(false, Relaxed);
        }),
    );
    for (task, done) in done.into_iter().enumerate() {
        assert_eq!(done.into_inner().unwrap(), task * task + 1);
    }
}

/// What `share` panics with.
fn panic_of(threads: usize, tasks: usize, work: impl Fn(usize, usize) + Sync) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| share(threads, tasks, &each(work)))).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn every_task_is_done_once_for_every_number_of_threads() {
    for threads in [0, 1, 2, 3, 8] {
        for tasks in [0, 1, 2, 3, 17, 300] {
            squares(threads, tasks);
        }
    }
}

#[test]
fn one_thread_or_one_task_stay_with_the_caller_in_order() {
    let caller = thread::current().id();
    for (threads, tasks) in [(0, 5), (1, 5), (8, 1)] {
        let order = Mutex::new(Vec::new());
        share(
            threads,
            tasks,
            &each(|slot, task| {
                assert_eq!((slot, thread::current().id()), (0, caller));
                order.lock().unwrap().push(task);
            }),
        );
        assert!(order.into_inner().unwrap().into_iter().eq(0..tasks));
    }
}

#[test]
fn workers_come_are_named_and_stay() {
    // Every task waits for the other: both threads must come.
    let region = || -> Vec<(usize, ThreadId)> {
        let (both, who) = (Barrier::new(2), Mutex::new(Vec::new()));
        // Workers may be busy with other tests: a pool of its own.
        static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());
        Pool::of(&POOL, 1).share(
            1,
            2,
            &each(|slot, _| {
                both.wait();
                let name = thread::current().name().map(str::to_owned);
                assert!(slot == 0 || name.as_deref() == Some("corekit-pool"));
                who.lock().unwrap().push((slot, thread::current().id()));
            }),
        );
        let mut who = who.into_inner().unwrap();
        who.sort_by_key(|(slot, _)| *slot);
        who
    };
    let first = region();
    assert_eq!(first[0], (0, thread::current().id()));
    assert_eq!(first[1].0, 1);
    assert_ne!(first[1].1, first[0].1);
    for _ in 0..ROUNDS / 20 {
        assert_eq!(region(), first);
    }
}

#[test]
fn regions_from_many_threads_do_not_disturb_each_other() {
    thread::scope(|scope| {
        for caller in 0..4 {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    squares(2 + (round + caller) % 3, 1 + round % 5);
                }
            });
        }
    });
}

#[test]
fn tasks_may_share_in_turn() {
    let leaves = AtomicUsize::new(0);
    for _ in 0..ROUNDS / 20 {
        share(
            3,
            4,
            &each(|_, _| {
                share(
                    3,
                    3,
                    &each(|_, _| {
                        share(
                            2,
                            2,
                            &each(|_, _| {
                                leaves.fetch_add(1, Relaxed);
                            }),
                        );
                    }),
                );
            }),
        );
    }
    assert_eq!(leaves.into_inner(), ROUNDS / 20 * 24);
}

#[test]
fn a_panic_goes_on_in_the_caller_when_all_tasks_have_ended() {
    let (begun, inside) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for round in 0..ROUNDS / 200 {
        begun.store(0, Relaxed);
        let message = panic_of(3, 1000, |_, task| {
            begun.fetch_add(1, Relaxed);
            inside.fetch_add(1, Relaxed);
            let message = (task >= 3).then(|| format!("task in round {round}"));
            inside.fetch_sub(1, Relaxed);
            if let Some(message) = message {
                // `panic!` would print it.
                resume_unwind(Box::new(message));
            }
        });
        assert_eq!(message, format!("task in round {round}"));
        assert_eq!(inside.load(Relaxed), 0);
        // At most the first three go well, and there is one panic a thread.
        assert!((1..=6).contains(&begun.load(Relaxed)));
        squares(3, 10);
    }
}

#[test]
fn panics_of_all_threads_at_once_are_one() {
    let all = Barrier::new(3);
    static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());
    let pool = Pool::of(&POOL, 1);
    for _ in 0..ROUNDS / 200 {
        let region = || {
            pool.share(
                2,
                3,
                &each(|slot, _| {
                    all.wait();
                    resume_unwind(Box::new(slot));
                }),
            );
        };
        let slot = catch_unwind(region).unwrap_err();
        assert!(*slot.downcast_ref::<usize>().unwrap() < 3);
    }
}

#[test]
fn a_busy_worker_is_not_waited_for() {
    static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());
    let pool = Pool::of(&POOL, 1);
    let (begun, end) = (Barrier::new(3), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            pool.share(
                1,
                2,
                &each(|slot, _| {
                    begun.wait();
                    if slot == 1 {
                        end.wait();
                    }
                }),
            );
        });
        begun.wait();
        for _ in 0..100 {
            pool.share(1, 5, &each(|slot, _| assert_eq!(slot, 0)));
        }
        end.wait();
    });
}

/// What a child finds after a fork, were it to use the pool of its parent.
#[test]
fn a_pool_whose_workers_are_dead_leaves_all_to_the_caller() {
    let pool = Pool::new(1);
    for (place, state) in pool.workers.iter().zip([ptr::null_mut(), TAKEN]) {
        let mailbox = Arc::new(Mailbox(AtomicPtr::new(state)));
        let dead = thread::spawn(|| ());
        let thread = dead.thread().clone();
        dead.join().unwrap();
        assert!(place.set(Worker { mailbox, thread }).is_ok());
    }
    for _ in 0..100 {
        let done = AtomicUsize::new(0);
        pool.share(
            2,
            7,
            &each(|slot, _| {
                assert_eq!(slot, 0);
                done.fetch_add(1, Relaxed);
            }),
        );
        assert_eq!(done.into_inner(), 7);
        assert!(
            pool.workers()
                .next()
                .unwrap()
                .mailbox
                .0
                .load(Relaxed)
                .is_null()
        );
    }
}

#[test]
fn a_pool_belongs_to_one_process() {
    let place = AtomicPtr::new(ptr::null_mut());
    let first = Pool::of(&place, 1);
    assert!(ptr::eq(Pool::of(&place, 1), first));
    let second = Pool::of(&place, 2);
    assert!(!ptr::eq(second, first));
    assert!(ptr::eq(Pool::of(&place, 2), second));
    // Only one of those that come at once is kept.
    thread::scope(|scope| {
        let come = || ptr::from_ref(Pool::of(&place, 3)).addr();
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(come)).collect();
        for caller in callers {
            assert_eq!(caller.join().unwrap(), come());
        }
    });
}

#[test]
fn patience_that_does_not_pay_is_lost_and_found() {
    let mut patience = Patience::default();
    let mut glances_between_looks = |looks: usize| -> Vec<u32> {
        let mut glances = |_| {
            patience.learn(false);
            let mut count = 0;
            while patience.time() == GLANCE {
                patience.learn(false);
                count += 1;
            }
            count
        };
        (0..looks).map(&mut glances).collect()
    };
    assert_eq!(glances_between_looks(8), [1, 3, 7, 15, 31, 63, 63, 63]);
    patience.learn(false);
    assert_eq!(patience.time(), GLANCE);
    patience.learn(true);
    assert_eq!(patience.time(), LOOK);
    patience.learn(false);
    assert_eq!((patience.glances, patience.left), (1, 1));
}

#[test]
fn tickets_may_be_seen_by_other_threads() {
    fn is_sync<T: Sync>() {}
    is_sync::<Ticket<'_>>();
}
