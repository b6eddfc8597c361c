//! A sender as the original's: ten slots, a thread for each connection, three dispatchers that push into the same rings.
//!
//! Events: listening, connected, subscribe, ping, evicted (why: full or idle), disconnected, dispatched, error.
//! Commands, JSON objects, one a line; u64 fields are texts, bytes hexadecimal or `BYTExLENGTH`:
//!   {"kind":"account",pubkey,owner,lamports,executable,rentEpoch,slot,writeVersion,data}
//!   {"kind":"transaction",slot,index,vote,signature,payload}   {"kind":"slot",slot}
//!   {"kind":"bulk",count,seed,owner}   the accounts of stream.rs, all of that owner, from the account dispatcher
//!   {"kind":"exit"}   drops everything, as the end of the original's process does

use crate::args::Args;
use crate::json::{self, Fields};
use crate::os;
use crate::ring::{self, Writer};
use crate::stream::{Hash, Script};
use crate::wire::{self, Account, Control, Key, Subscribe, Token, Update};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

const SLOTS: usize = 10;
const IDLE_MS: u64 = 30_000;

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}

fn now_ms() -> u64 {
    now().as_millis() as u64
}

#[derive(Default)]
struct Filter {
    accounts: HashSet<Key>,
    owners: HashSet<Key>,
    transactions: bool,
}

impl Filter {
    fn add(&mut self, request: &Subscribe) {
        self.accounts.extend(&request.accounts);
        self.owners.extend(&request.owners);
        self.transactions |= request.transactions;
    }

    fn matches(&self, update: &Update) -> bool {
        match update {
            Update::Account(account) => self.accounts.contains(&account.pubkey) || self.owners.contains(&account.owner),
            Update::Transaction { .. } => self.transactions,
            Update::Slot { .. } => true,
        }
    }
}

struct Slot {
    token: Token,
    ring: Writer,
    path: String,
    wake: OwnedFd,
    filter: Mutex<Filter>,
    last_seen_ms: AtomicU64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

struct Sender {
    directory: String,
    capacity: usize,
    idle_ms: u64,
    generation: AtomicU64,
    slots: Mutex<[Option<Arc<Slot>>; SLOTS]>,
    /// One slot is made at a time.
    creating: Mutex<()>,
}

pub fn run(args: &Args) -> Result<(), String> {
    let sender = Arc::new(Sender {
        directory: args.text("dir").ok_or("--dir, please")?.into(),
        capacity: args.number("capacity").ok_or("--capacity, please")? as usize,
        idle_ms: args.number("idle-ms").unwrap_or(IDLE_MS),
        generation: AtomicU64::new(0),
        slots: Mutex::default(),
        creating: Mutex::new(()),
    });
    if !sender.capacity.is_power_of_two() {
        return Err("ConfigError: the capacity is no power of two".into());
    }
    let _ = std::fs::remove_file(&args.path); // whatever it is, as the original
    let listener = UnixListener::bind(&args.path).map_err(|error| format!("UdsError: {error}"))?;
    std::fs::create_dir_all(&sender.directory).map_err(|error| format!("ShmError: {error}"))?;
    json::object().text("event", "listening").print();

    let dispatchers = [(); 3].map(|()| {
        let (queue, tasks) = mpsc::channel();
        let sender = sender.clone();
        (queue, std::thread::spawn(move || tasks.iter().for_each(|task| sender.perform(task))))
    });
    let for_accepting = sender.clone();
    std::thread::spawn(move || {
        for (socket, id) in listener.incoming().flatten().zip(1..) {
            let sender = for_accepting.clone();
            std::thread::spawn(move || sender.serve(socket, id));
        }
    });
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match json::parse(&line).ok_or(format!("no object: {line}")).and_then(|fields| task_of(&fields)) {
            Ok(None) => break,
            Ok(Some((stream, task))) => dispatchers[stream].0.send(task).expect("a dispatcher"),
            Err(fault) => json::object().text("event", "error").text("error", &fault).print(),
        }
    }
    // What was asked for is dispatched first; then every slot's file goes with the slot.
    for (queue, dispatcher) in dispatchers {
        drop(queue);
        let _ = dispatcher.join();
    }
    *sender.slots.lock().unwrap() = Default::default();
    Ok(())
}

/// What a dispatcher does next.
enum Task {
    Update(Update),
    Bulk { count: u32, seed: u32, owner: Key },
}

/// The dispatcher's index with its task; none to end.
fn task_of(fields: &Fields) -> Result<Option<(usize, Task)>, String> {
    let missing = |name: &str| format!("no {name}, or not of its size");
    let key = |name| fields.array::<32>(name).ok_or(missing(name));
    let bytes = |name| fields.bytes(name).ok_or(missing(name));
    let slot = fields.number("slot");
    Ok(Some(match fields.text("kind").unwrap_or_default() {
        "account" => {
            let account = Account {
                pubkey: key("pubkey")?,
                owner: key("owner")?,
                lamports: fields.number("lamports"),
                executable: fields.flag("executable"),
                rent_epoch: fields.number("rentEpoch"),
                slot,
                write_version: fields.number("writeVersion"),
                data: bytes("data")?,
            };
            (0, Task::Update(Update::Account(account)))
        }
        "transaction" => {
            let update = Update::Transaction {
                slot,
                index: fields.number("index") as u32,
                vote: fields.flag("vote"),
                signature: fields.array("signature").ok_or(missing("signature"))?,
                payload: bytes("payload")?,
            };
            (1, Task::Update(update))
        }
        "slot" => (2, Task::Update(Update::Slot { slot })),
        "bulk" => {
            let (count, seed) = (fields.number("count") as u32, fields.number("seed") as u32);
            (0, Task::Bulk { count, seed, owner: key("owner")? })
        }
        "exit" => return Ok(None),
        kind => return Err(format!("no kind \"{kind}\"")),
    }))
}

// Dispatch

impl Sender {
    fn perform(&self, task: Task) {
        let (count, seed, owner) = match task {
            Task::Update(update) => {
                self.dispatch(&update);
                return;
            }
            Task::Bulk { count, seed, owner } => (count, seed, owner),
        };
        let mut script = Script::new(seed);
        let (mut hash, mut body, mut delivered) = (Hash::new(), Vec::new(), 0);
        for number in 1..=count {
            script.frame(number, &mut body);
            body[42..74].copy_from_slice(&owner);
            let update = wire::decode(&body).expect("a scripted frame").update;
            hash.frame(&body[116..]);
            delivered += self.dispatch(&update);
        }
        json::object()
            .text("event", "dispatched")
            .number("count", count.into())
            .number("delivered", delivered)
            .text("hash", &hash.hex())
            .print();
    }

    /// Slots in order; encoded at the first match, one time stamp for all; a signal after every frame. Returns how many
    /// got it.
    fn dispatch(&self, update: &Update) -> u64 {
        let mut framed = None;
        let mut delivered = 0;
        for index in 0..SLOTS {
            let slot = self.slots.lock().unwrap()[index].clone();
            let Some(slot) = slot else { continue };
            if self.is_stale(&slot) {
                self.evict(&slot, "idle");
                continue;
            }
            if !slot.filter.lock().unwrap().matches(update) {
                continue;
            }
            let framed = framed.get_or_insert_with(|| {
                let mut framed = Vec::new();
                let body = wire::encode(update, now().as_nanos() as u64).expect("a payload that is not too large");
                ring::frame(&mut framed, &[&body]);
                framed
            });
            if slot.ring.push(framed) {
                os::signal(&slot.wake);
                delivered += 1;
            } else {
                self.evict(&slot, "full");
            }
        }
        delivered
    }

    fn is_stale(&self, slot: &Slot) -> bool {
        now_ms().saturating_sub(slot.last_seen_ms.load(Ordering::SeqCst)) > self.idle_ms
    }

    /// Sentinel if it fits, signal, clear; the file goes with the last reference.
    fn evict(&self, slot: &Arc<Slot>, why: &str) {
        let has_sentinel = slot.ring.push(&ring::SENTINEL);
        os::signal(&slot.wake);
        let mut slots = self.slots.lock().unwrap();
        let place = &mut slots[slot.token.index as usize];
        let is_ours = place.take_if(|held| held.token == slot.token).is_some();
        drop(slots);
        if is_ours {
            json::object()
                .text("event", "evicted")
                .text("why", why)
                .flag("sentinel", has_sentinel)
                .number("slotIndex", slot.token.index.into())
                .u64("generation", slot.token.generation)
                .print();
        }
    }

    // Slots

    /// The live slot of a token. A stale one is evicted by the look-up itself.
    fn find(&self, token: Token) -> Option<Arc<Slot>> {
        let held = self.slots.lock().unwrap().get(token.index as usize)?.clone()?;
        if held.token != token {
            return None;
        }
        if self.is_stale(&held) {
            self.evict(&held, "idle");
            return None;
        }
        Some(held)
    }

    fn create(&self, request: &Subscribe) -> Result<Arc<Slot>, String> {
        let _one_at_a_time = self.creating.lock().unwrap();
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        let index = (0..SLOTS).find(|&index| {
            let held = self.slots.lock().unwrap()[index].clone();
            let Some(held) = held else { return true };
            let is_stale = self.is_stale(&held);
            if is_stale {
                self.evict(&held, "idle");
            }
            is_stale
        });
        let index = index.ok_or("ConfigError: slots exhausted")?;
        let path = format!("{}/{}-{index}-{generation}", self.directory, std::process::id());
        let ring = Writer::create(&path, self.capacity, 2).map_err(|fault| format!("ShmError: {fault}"))?;
        let mut filter = Filter::default();
        filter.add(request);
        let slot = Arc::new(Slot {
            token: Token { index: index as u8, generation },
            ring,
            path,
            wake: os::eventfd()?,
            filter: Mutex::new(filter),
            last_seen_ms: AtomicU64::new(now_ms()),
        });
        self.slots.lock().unwrap()[index] = Some(slot.clone());
        Ok(slot)
    }

    // Connections

    fn serve(&self, mut socket: UnixStream, id: u64) {
        json::object().text("event", "connected").number("connection", id).print();
        let why = loop {
            match read_frame(&mut socket) {
                Ok(None) => break "end of file".into(),
                Ok(Some(body)) => {
                    if let Err(fault) = self.answer(&mut socket, &body, id) {
                        break fault;
                    }
                }
                Err(fault) => break fault,
            }
        };
        json::object().text("event", "disconnected").number("connection", id).text("why", &why).print();
    }

    fn answer(&self, socket: &mut UnixStream, body: &[u8], connection: u64) -> Result<(), String> {
        let tell = |event, token: Option<Token>| {
            let line = json::object().text("event", event).number("connection", connection);
            match token {
                Some(token) => line.number("slotIndex", token.index.into()).u64("generation", token.generation),
                None => line,
            }
        };
        let request = match wire::decode_control(body)? {
            Control::Subscribe(request) => request,
            Control::Ping(token) => {
                let slot = self.find(token);
                if let Some(slot) = &slot {
                    slot.last_seen_ms.store(now_ms(), Ordering::SeqCst);
                }
                tell("ping", Some(token)).flag("live", slot.is_some()).print();
                return Ok(());
            }
            message => return Err(format!("InvalidMessageTag: {message:?}")),
        };
        if let Some(slot) = request.token.and_then(|token| self.find(token)) {
            slot.last_seen_ms.store(now_ms(), Ordering::SeqCst);
            slot.filter.lock().unwrap().add(&request);
            let ready = wire::encode_control(&Control::Ready(slot.token));
            let prefix = (ready.len() as u32).to_le_bytes();
            socket
                .write_all(&prefix)
                .and_then(|()| socket.write_all(&ready))
                .map_err(|error| format!("Io: {error}"))?;
        } else {
            let slot = self.create(&request)?;
            let (path, capacity) = (slot.path.clone(), self.capacity as u64);
            let ready = wire::encode_control(&Control::ReadyShm { token: slot.token, path, capacity });
            let whole = [&(ready.len() as u32).to_le_bytes()[..], &ready].concat();
            os::send_once(socket, &whole, &slot.wake)?;
        }
        tell("subscribe", request.token)
            .hexes("accounts", &request.accounts)
            .hexes("owners", &request.owners)
            .flag("transactions", request.transactions)
            .print();
        Ok(())
    }
}

/// None at the end, also when it comes inside a frame.
fn read_frame(socket: &mut UnixStream) -> Result<Option<Vec<u8>>, String> {
    let mut prefix = [0; 4];
    if socket.read_exact(&mut prefix).is_err() {
        return Ok(None);
    }
    let length = u32::from_le_bytes(prefix) as usize;
    if length > wire::CONTROL_BYTES_MAX {
        return Err(format!("FrameTooLarge: {length}"));
    }
    let mut body = vec![0; length];
    Ok(socket.read_exact(&mut body).is_ok().then_some(body))
}
