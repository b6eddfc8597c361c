//! The ring, through the crates: bytes in a many-to-many queue, a frame being a u32 length and its body in one write.
//! The reader does as the original's: it takes the prefix, gives its room back, then takes the body.

use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;

/// A length that no frame has: the sender has closed the ring.
pub const SENTINEL: [u8; 4] = [0xff; 4];

/// `version` is the ABI's: 2 or 3.
pub enum Writer {
    V2(shaq3::mpmc::Producer<u8>),
    V3(shaq4::mpmc::Producer<u8>),
}

pub enum Reader {
    V2(shaq3::mpmc::Consumer<u8>),
    V3(shaq4::mpmc::Consumer<u8>),
}

pub enum Taken {
    Nothing,
    Frame,
    Sentinel,
    /// Framing is lost: nothing that follows means anything.
    Broken(String),
}

fn open(path: &str) -> Result<File, String> {
    OpenOptions::new().read(true).write(true).open(path).map_err(|error| format!("cannot open {path}: {error}"))
}

fn join<T, E: std::fmt::Debug>(path: &str, joined: Result<T, E>) -> Result<T, String> {
    joined.map_err(|error| format!("cannot join {path}: {error:?}"))
}

impl Writer {
    /// A new file, for its owner only, gone again when that fails.
    pub fn create(path: &str, capacity: usize, version: u64) -> Result<Self, String> {
        if capacity < 64 {
            return Err(format!("a capacity of {capacity} is less than 64"));
        }
        let capacity = capacity.next_power_of_two();
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| format!("cannot create {path}: {error}"))?;
        let created = unsafe {
            match version {
                2 => join(path, shaq3::mpmc::Producer::create(&file, 320 + capacity)).map(Self::V2),
                3 => join(path, shaq4::mpmc::Producer::create(&file, 384 + capacity)).map(Self::V3),
                _ => Err(format!("no version {version}")),
            }
        };
        created.inspect_err(|_| drop(std::fs::remove_file(path)))
    }

    pub fn join(path: &str, version: u64) -> Result<Self, String> {
        let file = open(path)?;
        unsafe {
            match version {
                2 => join(path, shaq3::mpmc::Producer::join(&file)).map(Self::V2),
                3 => join(path, shaq4::mpmc::Producer::join(&file)).map(Self::V3),
                _ => Err(format!("no version {version}")),
            }
        }
    }

    /// All bytes at once, or false and nothing.
    pub fn push(&self, bytes: &[u8]) -> bool {
        match self {
            Self::V2(queue) => queue.try_write_slice(bytes),
            Self::V3(queue) => queue.try_write_slice(bytes),
        }
    }
}

/// A frame with its prefix, from the parts of its body.
pub fn frame(framed: &mut Vec<u8>, parts: &[&[u8]]) {
    framed.clear();
    let length: usize = parts.iter().map(|part| part.len()).sum();
    framed.extend((length as u32).to_le_bytes());
    parts.iter().for_each(|part| framed.extend_from_slice(part));
}

impl Reader {
    pub fn join(path: &str, version: u64) -> Result<Self, String> {
        let file = open(path)?;
        unsafe {
            match version {
                2 => join(path, shaq3::mpmc::Consumer::join(&file)).map(Self::V2),
                3 => join(path, shaq4::mpmc::Consumer::join(&file)).map(Self::V3),
                _ => Err(format!("no version {version}")),
            }
        }
    }

    /// Copies up to `max` bytes, one item at a time, and gives their room back when the batch is dropped.
    fn take(&self, max: usize, into: &mut Vec<u8>) {
        into.clear();
        match self {
            Self::V2(queue) => {
                let Some(batch) = queue.reserve_read_batch(max) else { return };
                into.extend((0..batch.len()).map(|i| unsafe { batch.read(i) }));
            }
            Self::V3(queue) => {
                let Some(max) = NonZeroUsize::new(max) else { return };
                let Some(batch) = queue.try_reserve_read_batch(max) else { return };
                into.extend(batch.iter());
            }
        }
    }

    pub fn pop(&self, body: &mut Vec<u8>) -> Taken {
        self.pop_with(body, || ())
    }

    /// `within` is called when the prefix has been taken and the body has not.
    pub fn pop_with(&self, body: &mut Vec<u8>, within: impl FnOnce()) -> Taken {
        self.take(4, body);
        let Ok(prefix) = <[u8; 4]>::try_from(body.as_slice()) else {
            return if body.is_empty() { Taken::Nothing } else { Taken::Broken("a prefix in two pieces".into()) };
        };
        if prefix == SENTINEL {
            return Taken::Sentinel;
        }
        let length = u32::from_le_bytes(prefix) as usize;
        within();
        self.take(length, body);
        if body.len() != length {
            return Taken::Broken(format!("{} bytes of a body of {length}", body.len()));
        }
        Taken::Frame
    }
}
