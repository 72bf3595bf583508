//! A pool of threads for short parallel regions.
//!
//! Starting a thread costs some 30 microseconds, and regions of a few tens of microseconds are what
//! decoding token by token is made of. Here threads are kept, parked, and [`share`] hands out the
//! tasks of a region to the caller and to whichever of them come in time:
//!
//! ```text
//! caller                                       worker
//!   write a ticket (on its own stack)            park
//!   put it into mailboxes of idle workers
//!   wake these; do tasks until none is left      take the ticket from the mailbox: it is mine now
//!   take back tickets that are still there       do tasks until none is left
//!   wait for those who took one                  leave; wake the caller if it was the last
//! ```
//!
//! The caller needs nobody: it can do every task itself, and it waits for nothing but tasks that
//! have begun. Barriers, which make the threads of a team wait for each other, turn ten
//! microseconds into ten milliseconds as soon as another process has taken the processor of one of
//! them, in particular if they spin.
//!
//! 1. **A mailbox is one word**: null (the worker is idle), a ticket, or [`TAKEN`]. A caller changes
//!    null to its ticket, and its ticket back to null; only the worker changes a ticket to `TAKEN`,
//!    and `TAKEN` to null. So a ticket is either called off or taken, never both, and a worker that
//!    comes late finds nothing: it cannot touch a stack that is gone. Tickets of regions that run at
//!    the same time have different addresses; a mailbox with mine in it holds my ticket.
//! 2. **Every call has its own ticket**, so calls may come from any number of threads and from inside
//!    tasks. A call whose workers are all busy is done by its caller. Nobody waits for a task that
//!    could wait for him: a task waits only for tasks of its own regions.
//! 3. **Memory order.** What the caller wrote before is seen by the tasks: the ticket is posted with
//!    Release and taken with Acquire. What the tasks wrote is seen by the caller: workers leave by a
//!    Release decrement of `pending`, all changes of which are read-modify-writes and so go on with
//!    the release sequence, and the caller sees zero with Acquire. A wake-up is never lost: `unpark`
//!    leaves a token, and both sides look again before and after they park. All other atomic values
//!    only count.
//! 4. **Fork.** A child has the memory of its parent but none of the workers. The pool is known by
//!    the process id: in a child the parent's pool is left as it lies, and a new one is built. There
//!    are no locks, so none can be held by a thread that is gone. Should a process ever meet a pool
//!    whose workers are dead (its id is that of an ancestor that has ended), it works alone.
//! 5. **Exit.** Workers are detached; the end of the process ends them where they are parked. They
//!    know nothing of the interpreter and hold nothing that anyone waits for.
//! 6. **Signals** are not blocked in workers, as they are not in other threads of ours. A signal to
//!    the process goes to the main thread as long as this one takes it, and a handler that runs on a
//!    worker all the same, such as Python's, which writes down the signal for the main thread, has
//!    the stack it needs. Blocking would cost a dependency.
//! 7. **Cost.** A worker is started when a call first wants it, and there are as many as the call
//!    that wanted most has had beside itself. A parked one costs no time and STACK KiB of
//!    resident memory (512 KiB are reserved for its stack).
//!
//! Callers hold no lock that a task takes, and not the GIL.
#![allow(unsafe_code)]

use std::any::Any;
use std::hint;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::threads;

/// How long a thread looks for what it waits for before it parks: about as long as it takes to be
/// woken (25 microseconds on a virtual machine). Who looks that long is never much worse off than
/// who parks at once, and much better when it comes soon: two tasks of 20 microseconds each took 21
/// microseconds on two threads, and 47 with callers that parked after 5.
const LOOK: Duration = Duration::from_micros(25);

/// How long a worker looks while looking does not pay.
const GLANCE: Duration = Duration::from_micros(3);

/// The most glances between two looks of a worker.
const MOST_GLANCES: u32 = 63;

/// The most workers. Each is woken by the caller, so that many more would come too late.
const MOST_WORKERS: usize = 511;

/// Does `work(slot, task)` for every task below `tasks`, each once, on at most `threads` threads,
/// and returns when all are done.
///
/// The caller is one of the threads and has slot 0; slots are below `threads`, and no two tasks run
/// at the same time with the same slot. Which thread does which task is not determined. With one
/// thread or one task nothing is shared, and tasks are done in their order.
///
/// It may be called from any thread and from inside tasks. It takes some 0.2 microseconds, and the
/// waking of each worker that is parked (some 2 microseconds).
///
/// # Panics
/// When a task panics: tasks that nobody has begun are left out, and when the others have ended,
/// one of the panics goes on in the caller.
pub fn share(threads: usize, tasks: usize, work: &(dyn Fn(usize, usize) + Sync)) {
    let others = threads.min(tasks).saturating_sub(1);
    if others == 0 {
        for task in 0..tasks {
            work(0, task);
        }
    } else {
        static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());
        Pool::of(&POOL, process::id()).share(others, tasks, work);
    }
}

/// One call of [`share`], as its workers see it. It lies on the caller's stack.
struct Ticket<'a> {
    work: &'a (dyn Fn(usize, usize) + Sync),
    tasks: usize,
    /// The next task; `tasks` or more when there is none left.
    next: AtomicUsize,
    /// The slot of the next worker.
    slot: AtomicUsize,
    /// Workers that may still use this ticket: asked, and neither called off nor gone again.
    pending: AtomicUsize,
    caller: Thread,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Ticket<'_> {
    /// Does tasks until none is left.
    fn run(&self, slot: usize) {
        let tasks = || {
            loop {
                let task = self.next.fetch_add(1, Relaxed);
                if task >= self.tasks {
                    break;
                }
                (self.work)(slot, task);
            }
        };
        // What a panic leaves behind belongs to the caller, in whom it goes on.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(tasks)) {
            self.next.store(self.tasks, Relaxed);
            match &mut *self.panic.lock().unwrap_or_else(PoisonError::into_inner) {
                first @ None => *first = Some(panic),
                // Not dropped, since that could panic again.
                Some(_) => mem::forget(panic),
            }
        }
    }

    /// Waits for the workers.
    fn wait(&self) {
        let done = || (self.pending.load(Acquire) == 0).then_some(());
        while done().is_none() && look(LOOK, done).is_none() {
            thread::park();
        }
    }
}

/// What `found` gives, if it gives something soon.
fn look<T>(time: Duration, found: impl Fn() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    while start.elapsed() < time {
        hint::spin_loop();
        if let Some(it) = found() {
            return Some(it);
        }
    }
    None
}

/// How long a worker looks for its next ticket.
///
/// If looking was in vain, it glances only, for the next 1, 3, 7, .. times. Where other processes
/// keep the processors busy a worker may have been woken on that of the caller, who then cannot go
/// on, let alone come with the next region, before the worker has parked.
#[derive(Default)]
struct Patience {
    /// Glances after the last look in vain.
    glances: u32,
    /// Those of them that are still to be done.
    left: u32,
}

impl Patience {
    fn time(&self) -> Duration {
        if self.left == 0 { LOOK } else { GLANCE }
    }

    fn learn(&mut self, paid: bool) {
        if paid {
            *self = Self::default();
        } else if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
        } else {
            self.glances = (2 * self.glances + 1).min(MOST_GLANCES);
            self.left = self.glances;
        }
    }
}

/// The address of a ticket, of which mailboxes do not know how long it lives.
type Address = *mut Ticket<'static>;

/// In the mailbox of a worker that is at work.
const TAKEN: Address = ptr::without_provenance_mut(1);

/// Where a worker gets its tickets. On a line of its own: its worker looks at it all the time.
#[repr(align(128))]
struct Mailbox(AtomicPtr<Ticket<'static>>);

impl Mailbox {
    fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Puts a ticket into it, if the worker is idle.
    fn post(&self, ticket: Address) -> bool {
        self.0.load(Relaxed).is_null()
            && self
                .0
                .compare_exchange(ptr::null_mut(), ticket, Release, Relaxed)
                .is_ok()
    }

    /// Takes a ticket back, if the worker has not taken it.
    fn call_off(&self, ticket: Address) -> bool {
        self.0.load(Relaxed) == ticket
            && self
                .0
                .compare_exchange(ticket, ptr::null_mut(), Relaxed, Relaxed)
                .is_ok()
    }

    /// Takes the ticket, if there is one.
    fn take(&self) -> Option<Address> {
        let ticket = self.0.load(Relaxed);
        let taken = !ticket.is_null()
            && self
                .0
                .compare_exchange(ticket, TAKEN, Acquire, Relaxed)
                .is_ok();
        taken.then_some(ticket)
    }

    /// Takes the next ticket.
    fn wait(&self, patience: &mut Patience) -> Address {
        loop {
            if let Some(ticket) = self.take() {
                return ticket;
            }
            let found = look(patience.time(), || self.take());
            patience.learn(found.is_some());
            match found {
                Some(ticket) => return ticket,
                None => thread::park(),
            }
        }
    }

    /// The life of a worker.
    fn serve(&self) {
        let mut patience = Patience::default();
        loop {
            let address = self.wait(&mut patience);
            // SAFETY: the ticket was posted by `Pool::share`, which does not return, and so keeps
            // the ticket and what it borrows, before `pending` is zero; this worker is counted there
            // until its decrement below, since a ticket that was taken is not called off any more.
            let ticket = unsafe { &*address };
            ticket.run(ticket.slot.fetch_add(1, Relaxed));
            let caller = ticket.caller.clone();
            // Idle again before the caller can know it: its next region finds this worker.
            self.0.store(ptr::null_mut(), Relaxed);
            // SAFETY: as above. With the decrement the ticket may be gone: it is the last use, and
            // no reference to the whole of it lives on.
            let before = unsafe { (*address).pending.fetch_sub(1, Release) };
            if before == 1 {
                caller.unpark();
            }
        }
    }
}

/// A worker, as callers see it.
struct Worker {
    mailbox: Arc<Mailbox>,
    thread: Thread,
}

impl Worker {
    fn start() -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox::new());
        let theirs = Arc::clone(&mailbox);
        let thread = threads::named("pool")
            .spawn(move || theirs.serve())?
            .thread()
            .clone();
        Ok(Self { mailbox, thread })
    }
}

/// The workers of one process.
struct Pool {
    process: u32,
    /// Filled from the front, and never emptied.
    workers: [OnceLock<Worker>; MOST_WORKERS],
    growing: AtomicBool,
}

impl Pool {
    fn new(process: u32) -> Self {
        Self {
            process,
            workers: [const { OnceLock::new() }; MOST_WORKERS],
            growing: AtomicBool::new(false),
        }
    }

    /// The pool at `place`, and a new one there if that belongs to another process.
    fn of(place: &AtomicPtr<Self>, process: u32) -> &'static Self {
        loop {
            let present = place.load(Acquire);
            // SAFETY: null, or a pool that was put there below and is never freed.
            if let Some(pool) = unsafe { present.as_ref() }
                && pool.process == process
            {
                return pool;
            }
            let new = Box::into_raw(Box::new(Self::new(process)));
            if place
                .compare_exchange(present, new, AcqRel, Relaxed)
                .is_err()
            {
                // Another thread was quicker.
                // SAFETY: it comes from `Box::into_raw` above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }

    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().map_while(OnceLock::get)
    }

    /// Starts workers until there are `others`, if the system has the threads.
    fn grow(&self, others: usize) {
        let workers = &self.workers[..others.min(MOST_WORKERS)];
        let enough = workers.last().is_none_or(|last| last.get().is_some());
        // Who comes while another thread is at it goes on with the workers that there are.
        if enough || self.growing.swap(true, Acquire) {
            return;
        }
        for place in workers.iter().filter(|place| place.get().is_none()) {
            let Ok(worker) = Worker::start() else {
                break;
            };
            // It was empty, and nobody else fills any.
            let _ = place.set(worker);
        }
        self.growing.store(false, Release);
    }

    /// [`share`], with `others` workers at most, and one at least.
    fn share(&self, others: usize, tasks: usize, work: &(dyn Fn(usize, usize) + Sync)) {
        self.grow(others);
        let ticket = Ticket {
            work,
            tasks,
            next: AtomicUsize::new(0),
            slot: AtomicUsize::new(1),
            pending: AtomicUsize::new(others),
            caller: thread::current(),
            panic: Mutex::new(None),
        };
        let address: Address = ptr::from_ref(&ticket).cast_mut().cast();

        // From the first post to the end of the wait nothing may unwind: workers use the ticket.
        let mut missing = others;
        for worker in self.workers() {
            if worker.mailbox.post(address) {
                worker.thread.unpark();
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        ticket.pending.fetch_sub(missing, Relaxed);
        ticket.run(0);
        if ticket.pending.load(Relaxed) > 0 {
            for worker in self.workers() {
                if worker.mailbox.call_off(address) {
                    ticket.pending.fetch_sub(1, Relaxed);
                }
            }
        }
        ticket.wait();

        let panic = ticket.panic.into_inner();
        if let Some(panic) = panic.unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread::ThreadId;

    /// Rounds of a stress test; Miri is slow.
    const ROUNDS: usize = if cfg!(miri) { 20 } else { 20_000 };

    /// A region whose every task leaves something that is not atomic.
    fn squares(threads: usize, tasks: usize) {
        let done: Vec<Mutex<usize>> = (0..tasks).map(|_| Mutex::new(0)).collect();
        let busy: Vec<AtomicBool> = (0..threads.max(1))
            .map(|_| AtomicBool::new(false))
            .collect();
        share(threads, tasks, &|slot, task| {
            assert!(!busy[slot].swap(true, Relaxed), "slot {slot} twice");
            *done[task].try_lock().unwrap() += task * task + 1;
            busy[slot].store(false, Relaxed);
        });
        for (task, done) in done.into_iter().enumerate() {
            assert_eq!(done.into_inner().unwrap(), task * task + 1);
        }
    }

    /// What `share` panics with.
    fn panic_of(threads: usize, tasks: usize, work: &(dyn Fn(usize, usize) + Sync)) -> String {
        let panic = catch_unwind(AssertUnwindSafe(|| share(threads, tasks, work))).unwrap_err();
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
            share(threads, tasks, &|slot, task| {
                assert_eq!((slot, thread::current().id()), (0, caller));
                order.lock().unwrap().push(task);
            });
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
            Pool::of(&POOL, 1).share(1, 2, &|slot, _| {
                both.wait();
                let name = thread::current().name().map(str::to_owned);
                assert!(slot == 0 || name.as_deref() == Some("corekit-pool"));
                who.lock().unwrap().push((slot, thread::current().id()));
            });
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
            share(3, 4, &|_, _| {
                share(3, 3, &|_, _| {
                    share(2, 2, &|_, _| {
                        leaves.fetch_add(1, Relaxed);
                    });
                });
            });
        }
        assert_eq!(leaves.into_inner(), ROUNDS / 20 * 24);
    }

    #[test]
    fn a_panic_goes_on_in_the_caller_when_all_tasks_have_ended() {
        let (begun, inside) = (AtomicUsize::new(0), AtomicUsize::new(0));
        for round in 0..ROUNDS / 200 {
            begun.store(0, Relaxed);
            let message = panic_of(3, 1000, &|_, task| {
                begun.fetch_add(1, Relaxed);
                inside.fetch_add(1, Relaxed);
                let outcome = (task < 3)
                    .then(|| ())
                    .ok_or_else(|| format!("task in round {round}"));
                inside.fetch_sub(1, Relaxed);
                if let Err(message) = outcome {
                    // `panic!` would print it.
                    resume_unwind(Box::new(message));
                }
            });
            assert_eq!(message, format!("task in round {round}"));
            assert_eq!(inside.load(Relaxed), 0);
            // The three that go well, and one panic a thread.
            assert!((4..=6).contains(&begun.load(Relaxed)));
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
                pool.share(2, 3, &|slot, _| {
                    all.wait();
                    resume_unwind(Box::new(slot));
                });
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
                pool.share(1, 2, &|slot, _| {
                    begun.wait();
                    if slot == 1 {
                        end.wait();
                    }
                });
            });
            begun.wait();
            for _ in 0..100 {
                pool.share(1, 5, &|slot, _| assert_eq!(slot, 0));
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
            pool.share(2, 7, &|slot, _| {
                assert_eq!(slot, 0);
                done.fetch_add(1, Relaxed);
            });
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
}
