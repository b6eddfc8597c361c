//! A consumer as the original's: bootstrap, one recvmsg, a reader thread that drains and then waits for a signal.
//!
//! Events: ready, subscribed, pinged, closed (why: sentinel, path or error), count, done, error; with --print also a line
//! for each update. Commands, one a line: `subscribe [accounts=HEX,..] [owners=HEX,..]`, `transactions`, `ping`,
//! `stop-reading`, `read`, `count`, `exit`.
//!
//! Nobody watches the socket, and nothing is read without a signal, as in the original: what a sender forgets shows.

use crate::args::Args;
use crate::json::{self, unhex};
use crate::os::{Waiter, receive_once};
use crate::ring::{Reader, Taken};
use crate::stream::{Hash, hash_of};
use crate::wire::{self, Control, Decoded, Key, Subscribe, Token, Update};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PRINTED_BYTES_MAX: usize = 64;

/// The socket and the newest token.
struct Link {
    socket: UnixStream,
    token: Token,
}

#[derive(Default)]
struct Counts {
    accounts: u64,
    transactions: u64,
    slots: u64,
    /// Frames that were no updates: the original logs them and goes on.
    bad: u64,
    compressed: u64,
}

struct Shared {
    is_paused: AtomicBool,
    counts: Mutex<(Counts, Hash)>,
}

/// Prefix and body are two writes, as the original's.
fn write_frame(socket: &mut UnixStream, message: &Control) -> Result<(), String> {
    let body = wire::encode_control(message);
    let written = socket.write_all(&(body.len() as u32).to_le_bytes()).and_then(|()| socket.write_all(&body));
    written.map_err(|error| format!("Io: {error}"))
}

fn read_frame(socket: &mut UnixStream) -> Result<Vec<u8>, String> {
    let mut prefix = [0; 4];
    socket.read_exact(&mut prefix).map_err(|error| format!("Io: {error}"))?;
    let length = u32::from_le_bytes(prefix) as usize;
    if length > wire::CONTROL_BYTES_MAX {
        return Err(format!("FrameTooLarge: {length}"));
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).map_err(|error| format!("Io: {error}"))?;
    Ok(body)
}

fn request(token: Option<Token>, accounts: Vec<Key>, owners: Vec<Key>, transactions: bool) -> Control {
    Control::Subscribe(Subscribe { token, accounts, owners, transactions })
}

impl Link {
    fn subscribe(&mut self, accounts: Vec<Key>, owners: Vec<Key>, transactions: bool) -> Result<(), String> {
        write_frame(&mut self.socket, &request(Some(self.token), accounts, owners, transactions))?;
        match wire::decode_control(&read_frame(&mut self.socket)?)? {
            Control::Ready(token) => self.token = token,
            reply => return Err(format!("UdsError: unexpected reply {reply:?}")),
        }
        json::object()
            .text("event", "subscribed")
            .number("slotIndex", self.token.index.into())
            .u64("generation", self.token.generation)
            .print();
        Ok(())
    }

    fn ping(&mut self) -> Result<(), String> {
        write_frame(&mut self.socket, &Control::Ping(self.token))
    }
}

pub fn run(args: &Args) -> Result<(), String> {
    let mut socket = UnixStream::connect(&args.path).map_err(|error| format!("UdsError: {error}"))?;
    write_frame(&mut socket, &request(None, vec![], vec![], false))?;
    let (bytes, descriptor) = receive_once(&socket)?;
    let prefix = bytes.first_chunk().ok_or("UdsError: the peer closed before it was ready")?;
    let body = bytes.get(4..4 + u32::from_le_bytes(*prefix) as usize).ok_or("UdsError: READY_SHM came in pieces")?;
    let Control::ReadyShm { token, path, capacity } = wire::decode_control(body)? else {
        return Err("UdsError: that is no READY_SHM".into());
    };
    let descriptor = descriptor.ok_or("UdsError: no descriptor came")?;
    let reader = Reader::join(&path, 2).map_err(|fault| format!("ShmError: {fault}"))?;
    json::object()
        .text("event", "ready")
        .number("slotIndex", token.index.into())
        .u64("generation", token.generation)
        .text("path", &path)
        .number("capacity", capacity)
        .print();

    let fresh = Mutex::new((Counts::default(), Hash::new()));
    let shared = Arc::new(Shared { is_paused: AtomicBool::new(false), counts: fresh });
    let waiter = Waiter::new(descriptor)?;
    let reading = Reading {
        reader,
        waiter,
        path,
        limit: args.number("count"),
        stop_within: args.number("stop-within"),
        prints: args.text("print").is_some(),
    };
    let for_reader = shared.clone();
    std::thread::spawn(move || {
        let why = reading.run(&for_reader).unwrap_or_else(|fault| format!("error: {fault}"));
        json::object().text("event", "closed").text("why", &why).print();
        tell_counts(&for_reader);
    });

    let link = Arc::new(Mutex::new(Link { socket, token }));
    let keys = |name| args.text(name).map_or(Ok(vec![]), keys_of);
    let (accounts, owners) = (keys("accounts")?, keys("owners")?);
    if !accounts.is_empty() || !owners.is_empty() {
        link.lock().unwrap().subscribe(accounts, owners, false)?;
    }
    if args.text("transactions").is_some() {
        link.lock().unwrap().subscribe(vec![], vec![], true)?;
    }
    if let Some(ms) = args.number("ping-ms") {
        let link = link.clone();
        std::thread::spawn(move || {
            while link.lock().unwrap().ping().is_ok() {
                std::thread::sleep(Duration::from_millis(ms));
            }
        });
    }
    for line in std::io::stdin().lines().map_while(Result::ok) {
        if line == "exit" {
            break;
        }
        if let Err(fault) = command(&line, &link, &shared) {
            json::object().text("event", "error").text("error", &fault).print();
        }
    }
    Ok(())
}

fn keys_of(list: &str) -> Result<Vec<Key>, String> {
    let key = |hex| unhex(hex).and_then(|bytes| bytes.try_into().ok()).ok_or(format!("no key: {hex}"));
    list.split(',').filter(|hex| !hex.is_empty()).map(key).collect()
}

fn command(line: &str, link: &Mutex<Link>, shared: &Shared) -> Result<(), String> {
    let mut words = line.split_whitespace();
    match words.next().unwrap_or_default() {
        "subscribe" => {
            let (mut accounts, mut owners) = (vec![], vec![]);
            for word in words {
                match word.split_once('=') {
                    Some(("accounts", list)) => accounts = keys_of(list)?,
                    Some(("owners", list)) => owners = keys_of(list)?,
                    _ => return Err(format!("no argument \"{word}\"")),
                }
            }
            link.lock().unwrap().subscribe(accounts, owners, false)
        }
        "transactions" => link.lock().unwrap().subscribe(vec![], vec![], true),
        "ping" => {
            link.lock().unwrap().ping()?;
            json::object().text("event", "pinged").print();
            Ok(())
        }
        "stop-reading" => {
            shared.is_paused.store(true, Ordering::SeqCst);
            Ok(())
        }
        "read" => {
            shared.is_paused.store(false, Ordering::SeqCst);
            Ok(())
        }
        "count" => {
            tell_counts(shared);
            Ok(())
        }
        other => Err(format!("no command \"{other}\"")),
    }
}

fn tell_counts(shared: &Shared) {
    let guard = shared.counts.lock().unwrap();
    let (counts, hash) = &*guard;
    json::object()
        .text("event", "count")
        .number("accounts", counts.accounts)
        .number("transactions", counts.transactions)
        .number("slots", counts.slots)
        .number("bad", counts.bad)
        .number("compressed", counts.compressed)
        .text("hash", &hash.hex())
        .print();
}

/// What the reader thread owns.
struct Reading {
    reader: Reader,
    waiter: Waiter,
    path: String,
    limit: Option<u64>,
    /// The frame in which it stops for good.
    stop_within: Option<u64>,
    prints: bool,
}

impl Reading {
    /// Until the ring is closed; says what told so.
    fn run(&self, shared: &Shared) -> Result<String, String> {
        let mut body = Vec::new();
        let mut taken = 0;
        loop {
            while shared.is_paused.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            match self.reader.pop_with(&mut body, || self.stop_within(taken + 1)) {
                Taken::Frame => {
                    self.take(&body, shared);
                    taken += 1;
                    if Some(taken) == self.limit {
                        json::object().text("event", "done").print();
                        tell_counts(shared);
                    }
                }
                Taken::Nothing if !Path::new(&self.path).exists() => return Ok("path".into()),
                Taken::Nothing => self.waiter.wait()?,
                Taken::Sentinel => return Ok("sentinel".into()),
                Taken::Broken(fault) => return Err(fault),
            }
        }
    }

    /// Never returns in the frame of that number, whose prefix has been taken.
    fn stop_within(&self, number: u64) {
        if Some(number) == self.stop_within {
            json::object().text("event", "within").print();
            loop {
                std::thread::park();
            }
        }
    }

    fn take(&self, body: &[u8], shared: &Shared) {
        let decoded = wire::decode(body);
        let mut guard = shared.counts.lock().unwrap();
        let (counts, hash) = &mut *guard;
        match decoded {
            Err(fault) => {
                counts.bad += 1;
                json::object().text("event", "bad").text("error", &fault).print();
            }
            Ok(decoded) => {
                counts.compressed += u64::from(decoded.compressed);
                let (count, payload) = match &decoded.update {
                    Update::Account(account) => (&mut counts.accounts, &account.data[..]),
                    Update::Transaction { payload, .. } => (&mut counts.transactions, &payload[..]),
                    Update::Slot { .. } => (&mut counts.slots, &[][..]),
                };
                *count += 1;
                hash.frame(payload);
                if self.prints {
                    tell_update(&decoded);
                }
            }
        }
    }
}

fn tell_update(decoded: &Decoded) {
    let created = |kind| json::object().text("kind", kind).u64("created", decoded.created_ns);
    let payload = |line: json::Object, bytes: &[u8]| {
        let line = line.number("length", bytes.len() as u64).number("wireLength", decoded.wire_len as u64);
        match bytes.len() <= PRINTED_BYTES_MAX {
            true => line.hex("payload", bytes),
            false => line.text("hash", &hash_of(bytes)),
        }
    };
    match &decoded.update {
        Update::Account(account) => {
            let line = created("account")
                .hex("pubkey", &account.pubkey)
                .hex("owner", &account.owner)
                .u64("lamports", account.lamports)
                .flag("executable", account.executable)
                .u64("rentEpoch", account.rent_epoch)
                .u64("slot", account.slot)
                .u64("writeVersion", account.write_version)
                .flag("compressed", decoded.compressed);
            payload(line, &account.data)
        }
        Update::Transaction { slot, index, vote, signature, payload: bytes } => {
            let line = created("transaction")
                .u64("slot", *slot)
                .number("index", (*index).into())
                .flag("vote", *vote)
                .hex("signature", signature);
            payload(line, bytes)
        }
        Update::Slot { slot } => created("slot").u64("slot", *slot),
    }
    .print();
}
