//! Rust crates that pass messages through shared memory, measured as our ring is.
//! Usage: peers shaq3|shaq4|iceoryx2 throughput BYTES RUNS | latency GAP_US SAMPLES, shaq4|iceoryx2 fanout-BYTES RECEIVERS RUNS,
//! or one side of a ring of version 9: peers v9 produce|consume original|lean DIRECTORY BYTES FILL_FRAMES STREAM_FRAMES WARM_UP_RUNS
//! RUNS. Prints one JSON object.
//! Linux only. Every message is checked and touched; the receiver spins.

mod fanout;
mod iceoryx;
mod message;
mod process;
mod shaq_bytes;
mod shaq_items;
mod transport;
mod v9;

use transport::Transport;

const WARM_UP_RUNS: usize = 2;
const STREAM_BYTES: usize = 256 * 1024 * 1024;
const STREAM_MESSAGES_MAX: usize = 500_000;
const LATENCY_BYTES: usize = 165;
const WARM_UP: usize = 100;
const SETTLE_NS: u64 = 50_000_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|name| name == "v9") {
        return v9_side(&args[1..]);
    }
    let [name, mode, first, second] = &args[..] else {
        panic!("four arguments, please")
    };
    match mode.as_str() {
        "throughput" => throughput(
            transport(name, number(first)),
            number(first),
            number(second),
        ),
        "latency" => latency(
            transport(name, LATENCY_BYTES),
            number(first) as u64,
            number(second),
        ),
        "fanout-165" => fan_out(name, 165, number(first), number(second)),
        "fanout-7475" => fan_out(name, 7475, number(first), number(second)),
        _ => panic!("no mode \"{mode}\""),
    }
}

fn v9_side(args: &[String]) {
    let [mode, manner, directory, numbers @ ..] = args else {
        panic!("eight arguments after v9, please")
    };
    let numbers: Vec<usize> = numbers.iter().map(|text| number(text)).collect();
    let [bytes, fill_frames, stream_frames, warm_up_runs, runs] = numbers[..] else {
        panic!("five numbers, please")
    };
    let plan = v9::Plan {
        is_lean: manner == "lean",
        bytes,
        fill_frames,
        stream_frames,
        warm_up_runs,
        runs,
    };
    match mode.as_str() {
        "produce" => v9::produce(directory, &plan),
        "consume" => v9::consume(directory, &plan),
        _ => panic!("no mode \"{mode}\""),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

fn transport(name: &str, bytes: usize) -> Box<dyn Transport> {
    match (name, bytes) {
        ("shaq3", _) => Box::new(shaq_bytes::ShaqBytes::new()),
        ("iceoryx2", _) => Box::new(iceoryx::Iceoryx::new(bytes)),
        ("shaq4", 18) => Box::new(shaq_items::ShaqItems::<18>::new()),
        ("shaq4", 165) => Box::new(shaq_items::ShaqItems::<165>::new()),
        ("shaq4", 1024) => Box::new(shaq_items::ShaqItems::<1024>::new()),
        ("shaq4", 10240) => Box::new(shaq_items::ShaqItems::<10240>::new()),
        ("shaq4", 1048576) => Box::new(shaq_items::ShaqItems::<1048576>::new()),
        _ => panic!("no transport \"{name}\" for {bytes} bytes"),
    }
}

/// Nanoseconds per message, whatever the number of its receivers, for each run.
fn fan_out(name: &str, bytes: usize, receivers: usize, runs: usize) {
    let times = match (name, bytes) {
        ("shaq4", 165) => fanout::shaq::<165>(receivers, runs),
        ("shaq4", 7475) => fanout::shaq::<7475>(receivers, runs),
        ("iceoryx2", _) => fanout::iceoryx(bytes, receivers, runs),
        _ => panic!("no fan-out of \"{name}\" for {bytes} bytes"),
    };
    print("publishNs", times.into_iter());
}

/// Nanoseconds per message, for each run.
fn throughput(transport: Box<dyn Transport>, bytes: usize, runs: usize) {
    let messages = STREAM_MESSAGES_MAX.min(STREAM_BYTES / bytes);
    let times = process::shared_words(WARM_UP_RUNS + runs);
    let far_times = unsafe { std::slice::from_raw_parts_mut(times.as_mut_ptr(), times.len()) };
    process::run(
        || {
            let mut sender = transport.sender();
            let mut bytes = message::new(bytes);
            for number in 1..=(messages * times.len()) as u64 {
                message::set_number(&mut bytes, number);
                sender.send(&bytes);
            }
            sender
        },
        || {
            let mut receiver = transport.receiver();
            let mut number = 0;
            let mut started = process::now();
            for (run, time) in far_times.iter_mut().enumerate() {
                while number < ((run + 1) * messages) as u64 {
                    receiver.receive(&mut |found| {
                        number += 1;
                        message::check(found, bytes, number);
                    });
                }
                let now = process::now();
                *time = now - started;
                started = now;
            }
        },
    );
    let per_message = times[WARM_UP_RUNS..]
        .iter()
        .map(|&time| time as f64 / messages as f64);
    print("streamNs", per_message);
}

/// Nanoseconds from just before a message is sent until it was received, for each.
fn latency(transport: Box<dyn Transport>, gap_us: u64, samples: usize) {
    let ages = process::shared_words(samples);
    let far_ages = unsafe { std::slice::from_raw_parts_mut(ages.as_mut_ptr(), samples) };
    process::run(
        || {
            let mut sender = transport.sender();
            let mut bytes = message::new(LATENCY_BYTES);
            let mut next = process::now() + SETTLE_NS;
            for number in 1..=(WARM_UP + samples) as u64 {
                while process::now() < next {
                    std::hint::spin_loop();
                }
                message::set_number(&mut bytes, number);
                let sent = process::now();
                message::set_time(&mut bytes, sent);
                sender.send(&bytes);
                next = sent + gap_us * 1000;
            }
            sender
        },
        || {
            let mut receiver = transport.receiver();
            let mut number = 0;
            while number < WARM_UP + samples {
                receiver.receive(&mut |found| {
                    let age = process::now() - message::time(found);
                    number += 1;
                    message::check(found, LATENCY_BYTES, number as u64);
                    if number > WARM_UP {
                        far_ages[number - WARM_UP - 1] = age;
                    }
                });
                std::hint::spin_loop();
            }
        },
    );
    print("samples", ages.iter().map(|&age| age as f64));
}

fn print(name: &str, values: impl Iterator<Item = f64>) {
    let list: Vec<String> = values.map(|value| format!("{value:.1}")).collect();
    println!("{{\"{name}\":[{}]}}", list.join(","));
}
