//! The other side of the interop tests: a program that speaks Qlaster's wire version 9 and the shaq ring, through the
//! released crates and from the written references alone. It shares no code with the library.
//!
//! ring-write PATH --frames N --seed S [--version 2|3] [--create CAPACITY]   scripted frames into a ring (stream.rs)
//! ring-read PATH [--frames N] [--version 2|3]                               frames out of a ring, hashed
//! consumer SOCKET [--accounts HEX,..] [--owners HEX,..] [--transactions] [--count N] [--ping-ms M] [--print]
//! sender SOCKET --dir DIR --capacity BYTES [--idle-ms M]
//!
//! What happens is told on stdout, one JSON object a line; the last two take commands on stdin (their files say which).
//! It ends with its stdin, so that it can't outlive the test.

mod args;
mod consumer;
mod json;
mod os;
mod ring;
mod sender;
mod stream;
mod wire;

use args::Args;
use ring::{Reader, Taken, Writer};
use std::io::Read;
use std::process::exit;
use std::time::Instant;

fn main() {
    let args = Args::from_env();
    let result = match args.mode.as_str() {
        "ring-write" => ring_write(&args),
        "ring-read" => ring_read(&args),
        "consumer" => consumer::run(&args),
        "sender" => sender::run(&args),
        mode => Err(format!("no mode \"{mode}\"")),
    };
    if let Err(fault) = result {
        json::object().text("event", "error").text("error", &fault).print();
        exit(1);
    }
}

/// The ring modes take no commands: they only end with their stdin.
fn end_with_stdin() {
    std::thread::spawn(|| {
        let mut ignored = [0; 256];
        while std::io::stdin().read(&mut ignored).is_ok_and(|read| read > 0) {}
        exit(3);
    });
}

fn ring_write(args: &Args) -> Result<(), String> {
    let version = args.number("version").unwrap_or(2);
    let frames = args.number("frames").ok_or("--frames, please")?;
    let writer = match args.number("create") {
        Some(capacity) => Writer::create(&args.path, capacity as usize, version)?,
        None => Writer::join(&args.path, version)?,
    };
    end_with_stdin();
    json::object().text("event", "ready").print();

    let mut script = stream::Script::new(args.number("seed").unwrap_or(1) as u32);
    let mut hash = stream::Hash::new();
    let (mut body, mut framed) = (Vec::new(), Vec::new());
    let started = Instant::now();
    let mut bytes = 0;
    for number in 1..=frames as u32 {
        script.frame(number, &mut body);
        hash.frame(&body);
        bytes += body.len();
        ring::frame(&mut framed, &[&body]);
        while !writer.push(&framed) {
            std::thread::yield_now();
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    while !writer.push(&ring::SENTINEL) {
        std::thread::yield_now();
    }
    tell_stream("written", frames, bytes, &hash, seconds);
    // The reader may still be at it, and the path has to stay: the test closes our stdin.
    loop {
        std::thread::park();
    }
}

fn ring_read(args: &Args) -> Result<(), String> {
    let limit = args.number("frames").unwrap_or(u64::MAX);
    let reader = Reader::join(&args.path, args.number("version").unwrap_or(2))?;
    end_with_stdin();
    json::object().text("event", "ready").print();

    let mut hash = stream::Hash::new();
    let mut body = Vec::new();
    let mut started = None;
    let (mut frames, mut bytes) = (0, 0);
    while frames < limit {
        match reader.pop(&mut body) {
            Taken::Nothing => std::thread::yield_now(),
            Taken::Frame => {
                started.get_or_insert_with(Instant::now);
                wire::decode(&body).map_err(|fault| format!("frame {}: {fault}", frames + 1))?;
                hash.frame(&body);
                frames += 1;
                bytes += body.len();
            }
            Taken::Sentinel => break,
            Taken::Broken(fault) => return Err(format!("after {frames} frames: {fault}")),
        }
    }
    let seconds = started.map_or(0.0, |started| started.elapsed().as_secs_f64());
    tell_stream("read", frames, bytes, &hash, seconds);
    Ok(())
}

fn tell_stream(event: &str, frames: u64, bytes: usize, hash: &stream::Hash, seconds: f64) {
    json::object()
        .text("event", event)
        .number("frames", frames)
        .number("bytes", bytes as u64)
        .text("hash", &hash.hex())
        .float("seconds", seconds)
        .print();
}
