//! Two processes pinned to two cores, one clock, and memory for the second one's figures.

use std::ptr;

const CORE_NEAR: usize = 0;
const CORE_FAR: usize = 1;

/// Nanoseconds of CLOCK_REALTIME.
pub fn now() -> u64 {
    ns_of(libc::CLOCK_REALTIME)
}

/// Nanoseconds that this thread has run.
pub fn thread_now() -> u64 {
    ns_of(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn ns_of(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Gives this process a core of its own, where that is possible.
fn pin(core: usize) {
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, std::mem::size_of_val(&set), &set);
    }
}

pub fn pin_near() {
    pin(CORE_NEAR);
}

pub fn pin_far() {
    pin(CORE_FAR);
}

/// Words that a forked process writes and its parent reads.
pub fn shared_words(count: usize) -> &'static mut [u64] {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let address = unsafe { libc::mmap(ptr::null_mut(), count * 8, protection, flags, -1, 0) };
    assert_ne!(address, libc::MAP_FAILED, "no memory");
    unsafe { std::slice::from_raw_parts_mut(address.cast(), count) }
}

/// Runs `far` in a second process and `near` here; panics unless both end well. What `near` returns outlives `far`.
pub fn run<Kept>(near: impl FnOnce() -> Kept, far: impl FnOnce()) {
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        pin_far();
        far();
        std::process::exit(0);
    }
    pin_near();
    let kept = near();
    let mut status = 0;
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0, "the receiving process failed");
    drop(kept);
}
