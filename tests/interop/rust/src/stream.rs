//! The scripted stream of the ring tests: the same frames from the same seed as in tests/interop/support/ring_stream.ts.
//! All arithmetic is of 32 bits without sign, wrapping, since that is what is quick in JavaScript.
//!
//! Generator: xorshift32. state = seed ^ 0x9E3779B9, or 1 if that is 0. A step is
//!   state ^= state << 13; state ^= state >> 17; state ^= state << 5
//! and gives the new state.
//!
//! Frame `number` (the first is 1) is an ACCOUNT. Its payload's size is log-uniform in powers of two: of each step `r`,
//!   exponent = (r >> 8) % ((r & 255) < 230 ? 10 : 16)          nine of ten below 1 KiB
//!   size     = 2^exponent + (next step & (2^exponent - 1))     at most 65,420, so that the body is at most 64 KiB
//! then the payload: one step for each four bytes, little-endian, the last one cut. The mean body is about 870 bytes.
//! Fields: created = number; key = eight times the u32 number; owner = eight times its complement; lamports = number;
//! executable = number & 1; rent_epoch = 2^64 - 1 - number; slot = number >> 8; write_version = number * 2^32 + size.
//!
//! Hash: two lanes a = 1, b = 2. A body is taken as u32 words, little-endian, padded with zeros to an even count of
//! words; then the word `length` for a and the word 0 for b. Words at even places go into a, the others into b:
//!   lane = rotate_left((lane ^ word) * factor, 13)    factors 0x85EBCA6B and 0xC2B2AE35
//! The result is a, then b, as eight hexadecimal digits each.

pub const PAYLOAD_MAX: u32 = 65536 - 116;

pub struct Script {
    state: u32,
}

impl Script {
    pub fn new(seed: u32) -> Self {
        Self { state: (seed ^ 0x9E37_79B9).max(1) }
    }

    fn step(&mut self) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        self.state
    }

    /// Puts a frame's body into `body`.
    pub fn frame(&mut self, number: u32, body: &mut Vec<u8>) {
        let r = self.step();
        let exponent = (r >> 8) % if r & 255 < 230 { 10 } else { 16 };
        let size = ((1 << exponent) + (self.step() & ((1 << exponent) - 1))).min(PAYLOAD_MAX);

        body.clear();
        body.extend([9, 2]);
        body.extend(u64::from(number).to_le_bytes());
        (0..8).for_each(|_| body.extend(number.to_le_bytes()));
        (0..8).for_each(|_| body.extend((!number).to_le_bytes()));
        body.extend(u64::from(number).to_le_bytes());
        body.push((number & 1) as u8);
        body.extend((u64::MAX - u64::from(number)).to_le_bytes());
        body.extend(u64::from(number >> 8).to_le_bytes());
        body.extend((u64::from(number) << 32 | u64::from(size)).to_le_bytes());
        body.push(0);
        body.extend(size.to_le_bytes());
        body.extend(size.to_le_bytes());
        let end = body.len() + size as usize;
        while body.len() < end {
            let word = self.step();
            body.extend(word.to_le_bytes());
        }
        body.truncate(end);
    }
}

#[derive(Clone)]
pub struct Hash {
    lanes: [u32; 2],
}

impl Hash {
    pub fn new() -> Self {
        Self { lanes: [1, 2] }
    }

    fn pair(&mut self, a: u32, b: u32) {
        self.lanes[0] = (self.lanes[0] ^ a).wrapping_mul(0x85EB_CA6B).rotate_left(13);
        self.lanes[1] = (self.lanes[1] ^ b).wrapping_mul(0xC2B2_AE35).rotate_left(13);
    }

    pub fn frame(&mut self, body: &[u8]) {
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let mut pairs = body.chunks_exact(8);
        for bytes in &mut pairs {
            self.pair(word(&bytes[..4]), word(&bytes[4..]));
        }
        let mut last = [0; 8];
        let rest = pairs.remainder();
        if !rest.is_empty() {
            last[..rest.len()].copy_from_slice(rest);
            self.pair(word(&last[..4]), word(&last[4..]));
        }
        self.pair(body.len() as u32, 0);
    }

    pub fn hex(&self) -> String {
        format!("{:08x}{:08x}", self.lanes[0], self.lanes[1])
    }
}

/// Of one run of bytes.
pub fn hash_of(bytes: &[u8]) -> String {
    let mut hash = Hash::new();
    hash.frame(bytes);
    hash.hex()
}
