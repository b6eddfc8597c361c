//! shaq 4.0.0 at its best: one to one, items of a fixed size, written and read in place, in batches.

use crate::transport::{Receiver, Sender, Transport};
use shaq::spsc::{Consumer, Producer};
use std::fs::File;
use std::num::NonZeroUsize;

const CAPACITY: usize = 64 * 1024 * 1024;
const BATCH: NonZeroUsize = NonZeroUsize::new(256).unwrap();

pub struct ShaqItems<const SIZE: usize>(File);

impl<const SIZE: usize> ShaqItems<SIZE> {
    pub fn new() -> Self {
        let file = tempfile::tempfile_in("/dev/shm").expect("a file in shared memory");
        drop(unsafe { Producer::<[u8; SIZE]>::create(&file, CAPACITY) }.expect("a queue"));
        Self(file)
    }
}

impl<const SIZE: usize> Transport for ShaqItems<SIZE> {
    fn sender(&self) -> Box<dyn Sender> {
        Box::new(unsafe { Producer::<[u8; SIZE]>::join(&self.0) }.expect("a producer"))
    }
    fn receiver(&self) -> Box<dyn Receiver> {
        Box::new(unsafe { Consumer::<[u8; SIZE]>::join(&self.0) }.expect("a consumer"))
    }
}

impl<const SIZE: usize> Sender for Producer<[u8; SIZE]> {
    fn send(&mut self, message: &[u8]) {
        loop {
            let mut batch = self.write_batch();
            if let Some(item) = unsafe { batch.try_as_mut() } {
                item.write(message.try_into().expect("a message of this size"));
                return;
            }
            std::hint::spin_loop();
        }
    }
}

impl<const SIZE: usize> Receiver for Consumer<[u8; SIZE]> {
    fn receive(&mut self, handler: &mut dyn FnMut(&[u8])) {
        let Some(batch) = self.try_reserve_read_batch(BATCH) else {
            return;
        };
        for i in 0..batch.len() {
            handler(batch.get(i).expect("an item of the batch"));
        }
    }
}
