//! A pool of threads for parallel regions, short ones above all.
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
//! have begun. Barriers, where all threads of a team wait for each other, turn ten microseconds into
//! ten milliseconds as soon as another process has taken the processor of one of them. So there
//! should be more tasks than threads: a worker that was parked begins some 20 microseconds late.
//!
//! 1. **A mailbox is one word**: null (the worker is idle), a ticket, or `TAKEN`. A caller changes
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
//!    the process id: in a child the parent's pool is left as it lies, and a new one is built. A pool
//!    has no lock, so none can be held by a thread that is gone. Should a process ever meet a pool
//!    whose workers are dead (its id is that of an ancestor that has ended), it works alone.
//! 5. **Exit.** Workers are detached; the end of the process ends them where they are parked. They
//!    know nothing of the interpreter and hold nothing that anyone waits for.
//! 6. **Signals** are not blocked in workers, as they are not in other threads of ours. A signal to
//!    the process goes to the main thread as long as this one takes it; and a handler that runs on a
//!    worker all the same, such as Python's, which notes the signal for the main thread, has the
//!    stack that it needs. Blocking would take a dependency.
//! 7. **Shares.** Between the cores of one chip a line takes 50 nanoseconds to come and go; between
//!    processors that a hypervisor put far apart, half a microsecond. A counter that all tasks of a
//!    short region take from would cost as much as the tasks. So each thread has a counter of its
//!    own and takes from those of others only when it has nothing left to do.
//! 8. **Cost.** A worker is started when a call first wants it; there are as many as were ever wanted
//!    by one call. A parked one takes no time and 11 KiB of memory (of its stack, 512 KiB are
//!    reserved), and the kernel's 16 KiB.
//!
//! Callers hold no lock that a task takes, and not the GIL.
#![allow(unsafe_code)]

use std::any::Any;
use std::array;
use std::hint;
use std::io;
use std::mem;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::sync::{lock, unpoisoned};
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

/// The most shares that tasks are dealt into.
const MOST_SHARES: usize = 8;

/// Does every task below `tasks`, each once, on at most `threads` threads, and returns when all are
/// done.
///
/// `work` is called once on each thread, the caller's among them, and takes tasks from its argument
/// one by one. Which thread does which task is not determined; but each begins with a share of its
/// own, and regions of one size are shared alike, so that what a task left in a cache is likely to
/// be found there by the next region. With one thread or one task nothing is shared, and tasks are
/// done in their order.
///
/// It may be called from any thread and from inside tasks. It costs the caller 0.2 to 0.4
/// microseconds, and 2 to 8 more for each worker that is parked and must be woken.
///
/// # Panics
/// When a task panics: tasks that nobody has begun are left out, and when the others have ended,
/// one of the panics goes on in the caller.
pub fn share(threads: usize, tasks: usize, work: &(dyn Fn(Tasks) + Sync)) {
    let others = threads.min(tasks).saturating_sub(1);
    if others == 0 {
        work(Tasks::new(&[Share::new(0..tasks)], 0));
    } else {
        static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());
        Pool::of(&POOL, process::id()).share(others, tasks, work);
    }
}

/// Tasks that follow each other, begun from the first on. On lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Share {
    /// The next task; `end` or more when there is none left.
    next: AtomicUsize,
    end: usize,
}

impl Share {
    fn new(tasks: Range<usize>) -> Self {
        Self {
            next: AtomicUsize::new(tasks.start),
            end: tasks.end,
        }
    }

    fn begin(&self) -> Option<usize> {
        let task = self.next.fetch_add(1, Relaxed);
        (task < self.end).then_some(task)
    }
}

/// What one thread has to do: its own share, and then what others have not come to.
#[derive(Debug)]
pub struct Tasks<'a> {
    shares: &'a [Share],
    /// The place of this thread: 0 is the caller's.
    slot: usize,
    /// Shares in which nothing is left.
    done: usize,
}

impl<'a> Tasks<'a> {
    fn new(shares: &'a [Share], slot: usize) -> Self {
        Self {
            shares,
            slot,
            done: 0,
        }
    }
}

impl Iterator for Tasks<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.done < self.shares.len() {
            let share = &self.shares[(self.slot + self.done) % self.shares.len()];
            match share.begin() {
                None => self.done += 1,
                task => return task,
            }
        }
        None
    }
}

/// One call of [`share`], as its workers see it. It lies on the caller's stack.
struct Ticket<'a> {
    work: &'a (dyn Fn(Tasks) + Sync),
    shares: [Share; MOST_SHARES],
    /// Shares that are used.
    dealt: usize,
    /// The slot of the next worker.
    slot: AtomicUsize,
    /// Workers that may still use this ticket: asked, and neither called off nor gone again.
    pending: AtomicUsize,
    caller: Thread,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl<'a> Ticket<'a> {
    fn new(work: &'a (dyn Fn(Tasks) + Sync), tasks: usize, others: usize) -> Self {
        let dealt = MOST_SHARES.min(others + 1);
        // In 128 bits, lest large numbers of tasks overflow.
        let start =
            |share: usize| (tasks as u128 * share.min(dealt) as u128 / dealt as u128) as usize;
        Self {
            work,
            shares: array::from_fn(|share| Share::new(start(share)..start(share + 1))),
            dealt,
            slot: AtomicUsize::new(1),
            pending: AtomicUsize::new(others),
            caller: thread::current(),
            panic: Mutex::new(None),
        }
    }

    /// Does tasks until none is left.
    fn run(&self, slot: usize) {
        let shares = &self.shares[..self.dealt];
        let tasks = || (self.work)(Tasks::new(shares, slot));
        // What a panic leaves behind belongs to the caller, in whom it goes on.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(tasks)) {
            for share in shares {
                share.next.store(share.end, Relaxed);
            }
            match &mut *lock(&self.panic) {
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
    fn share(&self, others: usize, tasks: usize, work: &(dyn Fn(Tasks) + Sync)) {
        self.grow(others);
        let ticket = Ticket::new(work, tasks, others);
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

        if let Some(panic) = unpoisoned(ticket.panic.into_inner()) {
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests;
