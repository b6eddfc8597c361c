//! shaq 3.0.0 as the original sender uses it: a many-to-many queue of single bytes, each message a length and its
//! bytes in one write; the reader takes the length, then the bytes, one item at a time.

use crate::transport::{Receiver, Sender, Transport};
use shaq3::mpmc::{Consumer, Producer};
use std::fs::File;

const CAPACITY: usize = 64 * 1024 * 1024;
const HEADER: usize = 320;

pub struct ShaqBytes(File);

impl ShaqBytes {
    pub fn new() -> Self {
        let file = tempfile::tempfile_in("/dev/shm").expect("a file in shared memory");
        // Creating a producer initialises the file; both ends join it later, in their own processes.
        drop(unsafe { Producer::<u8>::create(&file, HEADER + CAPACITY) }.expect("a queue"));
        Self(file)
    }
}

impl Transport for ShaqBytes {
    fn sender(&self) -> Box<dyn Sender> {
        let producer = unsafe { Producer::join(&self.0) }.expect("a producer");
        Box::new(End {
            queue: producer,
            buffer: Vec::new(),
        })
    }
    fn receiver(&self) -> Box<dyn Receiver> {
        let consumer = unsafe { Consumer::join(&self.0) }.expect("a consumer");
        Box::new(End {
            queue: consumer,
            buffer: Vec::new(),
        })
    }
}

struct End<Queue> {
    queue: Queue,
    buffer: Vec<u8>,
}

impl Sender for End<Producer<u8>> {
    fn send(&mut self, message: &[u8]) {
        self.buffer.clear();
        self.buffer
            .extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(message);
        while !self.queue.try_write_slice(&self.buffer) {
            std::hint::spin_loop();
        }
    }
}

impl Receiver for End<Consumer<u8>> {
    fn receive(&mut self, handler: &mut dyn FnMut(&[u8])) {
        let mut prefix = [0; 4];
        let Some(batch) = self.queue.reserve_read_batch(prefix.len()) else {
            return;
        };
        assert_eq!(batch.len(), prefix.len(), "a length in two pieces");
        for (i, byte) in prefix.iter_mut().enumerate() {
            *byte = unsafe { batch.read(i) };
        }
        drop(batch);
        let size = u32::from_le_bytes(prefix) as usize;
        let batch = self
            .queue
            .reserve_read_batch(size)
            .expect("the bytes after a length");
        assert_eq!(batch.len(), size, "a message in two pieces");
        self.buffer.clear();
        for i in 0..size {
            self.buffer.push(unsafe { batch.read(i) });
        }
        drop(batch);
        handler(&self.buffer);
    }
}
