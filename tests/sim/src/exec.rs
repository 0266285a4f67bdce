//! Tasks in virtual time: an executor of one thread that polls what is woken in the order of waking, and lets time pass
//! only when nothing is. It knows no clock and no chance, so that a run repeats itself.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use copepod_machine::Time;

/// Whose task it is: what ends with a process ends together.
pub type Owner = u64;

type Ready = Arc<Mutex<VecDeque<u64>>>;

/// The executor. Clones are the same.
#[derive(Clone)]
pub struct Exec(Rc<Inner>);

struct Inner {
    now: Cell<Time>,
    order: Cell<u64>,
    ready: Ready,
    tasks: RefCell<BTreeMap<u64, Task>>,
    timers: RefCell<BTreeMap<(Time, u64), Timer>>,
}

struct Task {
    owner: Owner,
    alarm: Arc<Alarm>,
    /// None while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

enum Timer {
    Wake(Waker),
    Call(Box<dyn FnOnce()>),
}

struct Alarm {
    id: u64,
    rings: AtomicBool,
    ready: Ready,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        if !self.rings.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.id);
        }
    }
}

impl Exec {
    /// Nothing to do, at `start`.
    pub fn new(start: Time) -> Exec {
        Exec(Rc::new(Inner {
            now: Cell::new(start),
            order: Cell::new(0),
            ready: Ready::default(),
            tasks: RefCell::default(),
            timers: RefCell::default(),
        }))
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.0.now.get()
    }

    fn next(&self) -> u64 {
        self.0.order.set(self.0.order.get() + 1);
        self.0.order.get()
    }

    /// Starts a task that ends at the latest with its owner.
    pub fn spawn(&self, owner: Owner, future: impl Future<Output = ()> + 'static) {
        let id = self.next();
        let alarm = Arc::new(Alarm { id, rings: AtomicBool::new(false), ready: self.0.ready.clone() });
        let task = Task { owner, alarm: alarm.clone(), future: Some(Box::pin(future)) };
        self.0.tasks.borrow_mut().insert(id, task);
        alarm.wake();
    }

    /// Ends all tasks of an owner, wherever they are.
    pub fn kill(&self, owner: Owner) {
        self.kill_where(|o| o == owner);
    }

    /// Ends all tasks of some owners.
    pub fn kill_where(&self, dies: impl Fn(Owner) -> bool) {
        let gone: Vec<Task> = self.0.tasks.borrow_mut().extract_if(.., |_, t| dies(t.owner)).map(|(_, t)| t).collect();
        // What they hold may look at the executor when it goes.
        drop(gone);
    }

    /// Calls `f` after a while.
    pub fn after(&self, delay: Duration, f: impl FnOnce() + 'static) {
        let at = (self.now() + delay, self.next());
        self.0.timers.borrow_mut().insert(at, Timer::Call(Box::new(f)));
    }

    /// Does the next thing; false when there is none.
    pub fn step(&self) -> bool {
        let ready = self.0.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(id) = ready {
            self.poll(id);
            return true;
        }
        let Some(((at, _), timer)) = self.0.timers.borrow_mut().pop_first() else { return false };
        self.0.now.set(self.now().max(at));
        match timer {
            Timer::Wake(waker) => waker.wake(),
            Timer::Call(f) => f(),
        }
        true
    }

    fn poll(&self, id: u64) {
        let (mut future, alarm) = {
            let mut tasks = self.0.tasks.borrow_mut();
            let Some(task) = tasks.get_mut(&id) else { return };
            let Some(future) = task.future.take() else { return };
            (future, task.alarm.clone())
        };
        alarm.rings.store(false, Ordering::Relaxed);
        let waker = Waker::from(alarm);
        let done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let over = {
            let mut tasks = self.0.tasks.borrow_mut();
            match tasks.get_mut(&id) {
                Some(task) if !done => {
                    task.future = Some(future);
                    return;
                }
                _ => tasks.remove(&id),
            }
        };
        drop((over, future));
    }

    /// Waits.
    pub async fn sleep(&self, delay: Duration) {
        self.until(self.now() + delay).await;
    }

    /// Waits until `at`.
    pub async fn until(&self, at: Time) {
        let mut armed = false;
        poll_fn(|cx| {
            if self.now() >= at {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut armed, true) {
                self.arm(at, cx.waker());
            }
            Poll::Pending
        })
        .await;
    }

    /// What `future` comes to within a while.
    pub async fn timeout<T>(&self, delay: Duration, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        let mut late = std::pin::pin!(self.sleep(delay));
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => late.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    fn arm(&self, at: Time, waker: &Waker) {
        let order = self.next();
        self.0.timers.borrow_mut().insert((at, order), Timer::Wake(waker.clone()));
    }

    /// Drops everything.
    pub fn end(&self) {
        let (tasks, timers) = (self.0.tasks.take(), self.0.timers.take());
        drop((tasks, timers));
    }
}

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
    gone: bool,
}

/// Who answers.
pub struct Sender<T>(Rc<RefCell<Slot<T>>>);

/// Who waits for the answer; none comes if whoever should answer has ended.
pub struct Receiver<T>(Rc<RefCell<Slot<T>>>);

/// A way for one answer.
pub fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Rc::new(RefCell::new(Slot { value: None, waker: None, gone: false }));
    (Sender(slot.clone()), Receiver(slot))
}

impl<T> Sender<T> {
    /// Answers.
    pub fn send(self, value: T) {
        self.0.borrow_mut().value = Some(value);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.borrow_mut();
            slot.gone = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.0.borrow_mut();
        if slot.gone {
            return Poll::Ready(slot.value.take());
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Something that changes now and then.
#[derive(Clone, Default)]
pub struct Signal(Rc<(Cell<u64>, RefCell<Vec<Waker>>)>);

impl Signal {
    /// It has changed.
    pub fn ring(&self) {
        self.0.0.set(self.0.0.get() + 1);
        let wakers = self.0.1.take();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How often it has changed.
    pub fn count(&self) -> u64 {
        self.0.0.get()
    }

    /// Waits until it has changed more than `seen` times.
    pub async fn changed(&self, seen: u64) {
        poll_fn(|cx| {
            if self.count() > seen {
                return Poll::Ready(());
            }
            self.0.1.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_run_in_the_order_of_time_and_end_with_their_owner() {
        let exec = Exec::new(Time::from_secs(1));
        let seen = Rc::new(RefCell::new(Vec::new()));
        for (owner, ms) in [(1, 30), (2, 20), (1, 10)] {
            let (e, s) = (exec.clone(), seen.clone());
            exec.spawn(owner, async move {
                e.sleep(Duration::from_millis(ms)).await;
                s.borrow_mut().push(ms);
            });
        }
        let (answer, waits) = oneshot::<u8>();
        let (e, s) = (exec.clone(), seen.clone());
        exec.spawn(2, async move {
            let none = e.timeout(Duration::from_millis(25), waits).await.is_none();
            s.borrow_mut().push(if none { 25 } else { 0 });
        });
        let e = exec.clone();
        exec.after(Duration::from_millis(15), move || e.kill(1));
        while exec.step() {}
        assert_eq!(*seen.borrow(), [10, 20, 25]);
        drop(answer);
    }
}
