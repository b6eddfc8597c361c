//! One message to many receivers, the sender alone: nanoseconds by message. As in bench/native/fanout.zig, both ends of all
//! connections are in this process; between two pieces that count what was sent is taken out, and nothing of it is read.

use crate::process;
use iceoryx2::prelude::*;
use shaq::spsc::{Consumer, Producer};
use std::num::NonZeroUsize;

const PIECE: usize = 64;
const PIECES: usize = 256;
const WARM_UP_RUNS: usize = 2;

/// The median piece of each run: who else is on the core ruins a few of them.
pub fn measure(runs: usize, mut send: impl FnMut(), mut empty: impl FnMut()) -> Vec<f64> {
    process::pin_near();
    let mut figures = Vec::new();
    for run in 0..WARM_UP_RUNS + runs {
        let mut times: Vec<u64> = (0..PIECES)
            .map(|_| {
                let started = process::now();
                for _ in 0..PIECE {
                    send();
                }
                let time = process::now() - started;
                empty();
                time
            })
            .collect();
        times.sort();
        if run >= WARM_UP_RUNS {
            figures.push(times[PIECES / 2] as f64 / PIECE as f64);
        }
    }
    figures
}

/// A ring for each receiver, of 256 KiB or two pieces, and an item in place in each; made visible with the batch.
pub fn shaq<const SIZE: usize>(receivers: usize, runs: usize) -> Vec<f64> {
    let capacity = (SIZE * 2 * PIECE).next_power_of_two().max(256 * 1024);
    let message = [1; SIZE];
    let files: Vec<_> = (0..receivers)
        .map(|_| tempfile::tempfile_in("/dev/shm").expect("a file in shared memory"))
        .collect();
    let mut producers: Vec<_> = files
        .iter()
        .map(|file| unsafe { Producer::<[u8; SIZE]>::create(file, capacity) }.expect("a queue"))
        .collect();
    let mut consumers: Vec<_> = files
        .iter()
        .map(|file| unsafe { Consumer::<[u8; SIZE]>::join(file) }.expect("a consumer"))
        .collect();
    measure(
        runs,
        || {
            for producer in &mut producers {
                let mut batch = producer.write_batch();
                unsafe { batch.try_as_mut() }.expect("room").write(message);
            }
        },
        || {
            for consumer in &mut consumers {
                while let Some(batch) =
                    consumer.try_reserve_read_batch(NonZeroUsize::new(PIECE).unwrap())
                {
                    std::hint::black_box(batch.len());
                }
            }
        },
    )
}

/// One publisher, a subscriber for each receiver: the payload is written once.
pub fn iceoryx(size: usize, receivers: usize, runs: usize) -> Vec<f64> {
    set_log_level(LogLevel::Error);
    let node = NodeBuilder::new().create::<ipc::Service>().expect("a node");
    let name = format!("qlaster-bench-fanout-{}", std::process::id());
    let service = node
        .service_builder(&name.as_str().try_into().expect("a name"))
        .publish_subscribe::<[u8]>()
        .enable_safe_overflow(false)
        .max_subscribers(receivers)
        .subscriber_max_buffer_size(2 * PIECE)
        .create()
        .expect("a service");
    let subscribers: Vec<_> = (0..receivers)
        .map(|_| {
            service
                .subscriber_builder()
                .create()
                .expect("a subscriber")
        })
        .collect();
    let publisher = service
        .publisher_builder()
        .initial_max_slice_len(size)
        .create()
        .expect("a publisher");
    let message = vec![1; size];
    measure(
        runs,
        || {
            let sample = publisher.loan_slice_uninit(size).expect("a sample");
            let reached = sample.write_from_slice(&message).send().expect("a delivery");
            assert_eq!(reached, receivers);
        },
        || {
            for subscriber in &subscribers {
                while let Some(sample) = subscriber.receive().expect("a working subscriber") {
                    std::hint::black_box(&sample);
                }
            }
        },
    )
}
