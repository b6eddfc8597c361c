//! One side of a ring of wire version 9, as the original uses the crate shaq 3.0.0 for it; the other side is another
//! process: this program again, or ours in TypeScript (bench/workers/v9_*.ts, which do the same phases).
//! The producer puts prefix, header and payload together in a new buffer, and makes one write of single bytes. The
//! consumer takes the prefix into a new buffer, gives its room back, takes the body into another, a byte at a time.
//! "Lean" keeps these buffers, which the original doesn't. Nobody signals: what the original pays for that comes on top.

use crate::process;
use shaq3::mpmc::{Consumer, Producer};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const CAPACITY: usize = 64 * 1024 * 1024;
const HEADER: usize = 320;
const PREFIX: usize = 4;
const SLOT_SIZE: usize = 18;
const ACCOUNT_SIZE: usize = 116;
const LINE: usize = 64;
const NAP: Duration = Duration::from_millis(1);

/// What both sides are told.
pub struct Plan {
    /// Buffers are kept.
    pub is_lean: bool,
    pub bytes: usize,
    pub fill_frames: usize,
    pub stream_frames: usize,
    pub warm_up_runs: usize,
    pub runs: usize,
}

impl Plan {
    fn all_runs(&self) -> usize {
        self.warm_up_runs + self.runs
    }
    fn counts(&self, run: usize) -> bool {
        run >= self.warm_up_runs
    }
}

/// Nanoseconds per frame of one side alone, by run: those that its thread ran, and all that passed.
struct Times {
    own: Vec<f64>,
    wall: Vec<f64>,
}

impl Times {
    fn new() -> Self {
        let (own, wall) = (vec![], vec![]);
        Self { own, wall }
    }
    fn of(work: impl FnOnce()) -> [u64; 2] {
        let started = [process::thread_now(), process::now()];
        work();
        [
            process::thread_now() - started[0],
            process::now() - started[1],
        ]
    }
    fn add(&mut self, [own, wall]: [u64; 2], frames: usize) {
        self.own.push(own as f64 / frames as f64);
        self.wall.push(wall as f64 / frames as f64);
    }
    fn json(&self, name: &str) -> String {
        let (own, wall) = (list(&self.own), list(&self.wall));
        format!("\"{name}Ns\":[{own}],\"{name}WallNs\":[{wall}]")
    }
}

/// The shared words, for waiting: the crate doesn't say how full a ring is.
struct Words(*const AtomicU64);

impl Words {
    fn of(file: &File) -> Self {
        use std::os::fd::AsRawFd;
        let (protection, flags) = (libc::PROT_READ, libc::MAP_SHARED);
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                HEADER,
                protection,
                flags,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(address, libc::MAP_FAILED, "no memory");
        Self(address.cast())
    }
    fn used(&self) -> u64 {
        let word = |offset: usize| unsafe { &*self.0.add(offset / 8) }.load(Ordering::Acquire);
        word(128).wrapping_sub(word(256))
    }
}

/// A frame's body whose slot field holds the number. Payloads do not compress, but where a reader looks there is a 1.
struct Body {
    head: Vec<u8>,
    payload: Vec<u8>,
}

impl Body {
    fn new(size: usize) -> Self {
        if size == SLOT_SIZE {
            let head = [&[9, 7][..], &[0; 16]].concat();
            return Self {
                head,
                payload: vec![],
            };
        }
        let mut body = vec![1; size];
        let mut state = 0x9e37_79b9_u32;
        for (at, byte) in body.iter_mut().enumerate().skip(ACCOUNT_SIZE) {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            if at % LINE != 0 {
                *byte = state as u8;
            }
        }
        body[..2].copy_from_slice(&[9, 2]);
        body[107] = 0;
        let length = ((size - ACCOUNT_SIZE) as u32).to_le_bytes();
        body[108..112].copy_from_slice(&length);
        body[112..116].copy_from_slice(&length);
        let payload = body.split_off(ACCOUNT_SIZE);
        Self {
            head: body,
            payload,
        }
    }
    fn number(&mut self, number: u64) {
        let at = slot_at(self.head.len());
        self.head[2..10].copy_from_slice(&number.to_le_bytes());
        self.head[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
}

fn slot_at(size: usize) -> usize {
    if size == SLOT_SIZE { 10 } else { 91 }
}

/// Panics unless it is frame `number` with its content.
fn check(body: &[u8], size: usize, number: u64) {
    let at = slot_at(size);
    assert_eq!(body.len(), size, "size of frame {number}");
    assert_eq!(
        body[at..at + 8],
        number.to_le_bytes(),
        "number of frame {number}"
    );
    let touched = body.iter().skip(LINE).step_by(LINE);
    let lines: usize = touched.map(|&byte| usize::from(byte)).sum();
    assert_eq!(lines, (size - 1) / LINE, "content of frame {number}");
}

/// Makes the ring in `directory`, and fills it whenever it is empty; then writes as fast as it is read.
pub fn produce(directory: &str, plan: &Plan) {
    process::pin_near();
    let path = Path::new(directory).join("ring");
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open(&path);
    let file = file.expect("a file in shared memory");
    let queue = unsafe { Producer::<u8>::create(&file, HEADER + CAPACITY) }.expect("a queue");
    let words = Words::of(&file);
    let mut body = Body::new(plan.bytes);
    let mut number = 0;
    let mut kept = Vec::new();
    let mut push = || {
        number += 1;
        body.number(number);
        let size = body.head.len() + body.payload.len();
        let mut buffer = match plan.is_lean {
            true => std::mem::take(&mut kept),
            false => Vec::with_capacity(PREFIX + size),
        };
        buffer.extend_from_slice(&(size as u32).to_le_bytes());
        buffer.extend_from_slice(&body.head);
        buffer.extend_from_slice(&body.payload);
        while !queue.try_write_slice(&buffer) {
            std::hint::spin_loop();
        }
        if plan.is_lean {
            buffer.clear();
            kept = buffer;
        }
    };
    let mut fill = Times::new();
    for run in 0..plan.all_runs() {
        when_empty(&words);
        let ns = Times::of(|| (0..plan.fill_frames).for_each(|_| push()));
        if plan.counts(run) {
            fill.add(ns, plan.fill_frames);
        }
    }
    when_empty(&words);
    for _ in 0..plan.all_runs() * plan.stream_frames {
        push();
    }
    when_empty(&words);
    println!("{{{}}}", fill.json("fill"));
}

fn when_empty(words: &Words) {
    while words.used() > 0 {
        std::thread::sleep(NAP);
    }
}

/// Joins the only ring in `directory`, and empties it whenever it was filled; then reads what comes.
pub fn consume(directory: &str, plan: &Plan) {
    process::pin_far();
    let (queue, words) = join(directory);
    let filled = (plan.fill_frames * (PREFIX + plan.bytes)) as u64;
    let mut number = 0;
    let mut kept = Vec::new();
    let mut consume = |frames: usize| {
        let mut left = frames;
        while left > 0 {
            let body = match plan.is_lean {
                true => pop_lean(&queue, &mut kept).then_some(&kept[..]),
                false => pop(&queue, &mut kept).then_some(&kept[..]),
            };
            let Some(body) = body else {
                std::hint::spin_loop();
                continue;
            };
            number += 1;
            check(body, plan.bytes, number);
            left -= 1;
        }
    };
    let mut drain = Times::new();
    let mut stream_ns = Vec::new();
    for run in 0..plan.all_runs() {
        while words.used() < filled {
            std::thread::sleep(NAP);
        }
        let ns = Times::of(|| consume(plan.fill_frames));
        if plan.counts(run) {
            drain.add(ns, plan.fill_frames);
        }
    }
    let mut started = process::now();
    for run in 0..plan.all_runs() {
        consume(plan.stream_frames);
        let now = process::now();
        if plan.counts(run) {
            stream_ns.push((now - started) as f64 / plan.stream_frames as f64);
        }
        started = now;
    }
    println!(
        "{{{},\"streamNs\":[{}]}}",
        drain.json("drain"),
        list(&stream_ns)
    );
}

/// Waits until there is a ring.
fn join(directory: &str) -> (Consumer<u8>, Words) {
    loop {
        let mut entries = std::fs::read_dir(directory).expect("the directory of the ring");
        if let Some(Ok(entry)) = entries.next() {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).open(entry.path());
            let file = file.expect("the ring's file");
            if let Ok(queue) = unsafe { Consumer::join(&file) } {
                return (queue, Words::of(&file));
            }
        }
        std::thread::sleep(NAP);
    }
}

/// One frame's body, if there is one, in a new buffer.
fn pop(queue: &Consumer<u8>, body: &mut Vec<u8>) -> bool {
    let Some(prefix) = take(queue, PREFIX) else {
        return false;
    };
    let size = u32::from_le_bytes(prefix.try_into().expect("four bytes"));
    *body = take(queue, size as usize).expect("the bytes after a length");
    true
}

/// Bytes one at a time, as the original takes them; their room is given back at the end.
fn take(queue: &Consumer<u8>, size: usize) -> Option<Vec<u8>> {
    let batch = queue.reserve_read_batch(size)?;
    assert_eq!(batch.len(), size, "less than was published");
    let mut bytes = Vec::with_capacity(size);
    for i in 0..size {
        bytes.push(unsafe { batch.read(i) });
    }
    Some(bytes)
}

/// The same into the buffer that is there.
fn pop_lean(queue: &Consumer<u8>, body: &mut Vec<u8>) -> bool {
    let mut prefix = [0; PREFIX];
    let Some(batch) = queue.reserve_read_batch(PREFIX) else {
        return false;
    };
    assert_eq!(batch.len(), PREFIX, "a length in two pieces");
    for (i, byte) in prefix.iter_mut().enumerate() {
        *byte = unsafe { batch.read(i) };
    }
    drop(batch);
    let size = u32::from_le_bytes(prefix) as usize;
    let batch = queue.reserve_read_batch(size);
    let batch = batch.expect("the bytes after a length");
    assert_eq!(batch.len(), size, "a body in two pieces");
    body.clear();
    body.extend((0..size).map(|i| unsafe { batch.read(i) }));
    true
}

fn list(values: &[f64]) -> String {
    let texts: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
    texts.join(",")
}
