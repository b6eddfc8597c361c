//! Wire version 9 as bytes: control messages, data frames, the rule for LZ4. No I/O.
//! An error is the original's kind and what it is about: "MalformedPayload: …".

pub const VERSION: u8 = 9;
const SUBSCRIBE: u8 = 1;
const ACCOUNT: u8 = 2;
const READY: u8 = 3;
const PING: u8 = 4;
const READY_SHM: u8 = 5;
const TRANSACTION: u8 = 6;
const SLOT: u8 = 7;

pub const CONTROL_BYTES_MAX: usize = 16 * 1024 * 1024;
const LIST_BYTES_MAX: u64 = 4 * 1024 * 1024;
const PAYLOAD_BYTES_MAX: usize = 10 * 1024 * 1024;
const NO_SLOT: u8 = 255;

pub type Key = [u8; 32];

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Token {
    pub index: u8,
    pub generation: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Subscribe {
    pub token: Option<Token>,
    pub accounts: Vec<Key>,
    pub owners: Vec<Key>,
    pub transactions: bool,
}

#[derive(PartialEq, Debug)]
pub enum Control {
    Subscribe(Subscribe),
    Ping(Token),
    Ready(Token),
    ReadyShm { token: Token, path: String, capacity: u64 },
}

// Control messages

/// Without the length prefix.
pub fn encode_control(message: &Control) -> Vec<u8> {
    let head = |tag, token: Option<Token>| {
        let token = token.unwrap_or(Token { index: NO_SLOT, generation: 0 });
        [&[VERSION, tag, token.index][..], &token.generation.to_le_bytes()].concat()
    };
    match message {
        Control::Ping(token) => head(PING, Some(*token)),
        Control::Ready(token) => head(READY, Some(*token)),
        Control::ReadyShm { token, path, capacity } => {
            let mut bytes = head(READY_SHM, Some(*token));
            bytes.extend((path.len() as u64).to_le_bytes());
            bytes.extend(path.as_bytes());
            bytes.extend(capacity.to_le_bytes());
            bytes
        }
        Control::Subscribe(request) => {
            let mut bytes = head(SUBSCRIBE, request.token);
            for keys in [&request.accounts, &request.owners] {
                bytes.extend((keys.len() as u64).to_le_bytes());
                bytes.extend(keys.concat());
            }
            bytes.push(u8::from(request.transactions));
            bytes
        }
    }
}

/// Fields back to back, as wincode has them.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("DecodeError: too short")?;
        self.0 = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.bytes(N)?.try_into().unwrap())
    }
    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }
    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    fn list(&mut self, item_size: u64) -> Result<&'a [u8], String> {
        let size = self.u64()?.checked_mul(item_size).filter(|&size| size <= LIST_BYTES_MAX);
        self.bytes(size.ok_or("DecodeError: the list is too long")? as usize)
    }
    fn keys(&mut self) -> Result<Vec<Key>, String> {
        Ok(self.list(32)?.chunks_exact(32).map(|key| key.try_into().unwrap()).collect())
    }
    fn flag(&mut self) -> Result<bool, String> {
        match self.u8()? {
            byte @ 0..=1 => Ok(byte == 1),
            byte => Err(format!("DecodeError: {byte} is no bool")),
        }
    }
}

/// The whole structure first, then version, then what the message promises. What follows it is ignored.
pub fn decode_control(body: &[u8]) -> Result<Control, String> {
    let tag = *body.get(1).ok_or("MalformedPayload: no tag")?;
    let mut cursor = Cursor(body);
    let version = cursor.u8()?;
    cursor.u8()?;
    let is_control = matches!(tag, SUBSCRIBE | READY | PING | READY_SHM);
    if !is_control {
        return Err(format!("InvalidMessageTag: found {tag}"));
    }
    let index = cursor.u8()?;
    let generation = cursor.u64()?;
    let token = (index != NO_SLOT).then_some(Token { index, generation });
    let message = match tag {
        SUBSCRIBE => {
            let (accounts, owners, transactions) = (cursor.keys()?, cursor.keys()?, cursor.flag()?);
            Some(Control::Subscribe(Subscribe { token, accounts, owners, transactions }))
        }
        READY_SHM => {
            let path = String::from_utf8(cursor.list(1)?.into()).map_err(|_| "DecodeError: the path is no UTF-8")?;
            let capacity = cursor.u64()?;
            token.filter(|_| !path.is_empty() && capacity != 0).map(|token| Control::ReadyShm { token, path, capacity })
        }
        READY => token.map(Control::Ready),
        _ => token.map(Control::Ping),
    };
    if version != VERSION {
        return Err(format!("InvalidWireVersion: found {version}"));
    }
    message.ok_or("MalformedPayload: token, path or capacity is missing".into())
}

// Data frames

#[derive(Clone, PartialEq, Debug)]
pub struct Account {
    pub pubkey: Key,
    pub owner: Key,
    pub lamports: u64,
    pub executable: bool,
    pub rent_epoch: u64,
    pub slot: u64,
    pub write_version: u64,
    pub data: Vec<u8>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Update {
    Account(Account),
    Transaction { slot: u64, index: u32, vote: bool, signature: [u8; 64], payload: Vec<u8> },
    Slot { slot: u64 },
}

pub struct Decoded {
    pub created_ns: u64,
    pub update: Update,
    /// Payload bytes in the frame, and whether they were LZ4.
    pub wire_len: usize,
    pub compressed: bool,
}

/// LZ4 for what is large, gains enough in its first 8 KiB, and is smaller in the end.
fn compress(data: &[u8]) -> Option<Vec<u8>> {
    if data.len() < 512_000 {
        return None;
    }
    let probe = lz4_flex::block::compress(&data[..8192]).len();
    if probe >= 8192 || (8192 - probe) * 10_000 / 8192 < 75 {
        return None;
    }
    Some(lz4_flex::block::compress(data)).filter(|block| block.len() < data.len())
}

/// A body, in one piece.
pub fn encode(update: &Update, created_ns: u64) -> Result<Vec<u8>, String> {
    let mut body = vec![VERSION, 0];
    body.extend(created_ns.to_le_bytes());
    let payload = match update {
        Update::Account(account) => {
            let block = compress(&account.data);
            body[1] = ACCOUNT;
            body.extend(account.pubkey);
            body.extend(account.owner);
            body.extend(account.lamports.to_le_bytes());
            body.push(u8::from(account.executable));
            body.extend(account.rent_epoch.to_le_bytes());
            body.extend(account.slot.to_le_bytes());
            body.extend(account.write_version.to_le_bytes());
            body.push(u8::from(block.is_some()));
            body.extend((account.data.len() as u32).to_le_bytes());
            let wire = block.unwrap_or_else(|| account.data.clone());
            body.extend((wire.len() as u32).to_le_bytes());
            body.extend(wire);
            account.data.len()
        }
        Update::Transaction { slot, index, vote, signature, payload } => {
            body[1] = TRANSACTION;
            body.extend(slot.to_le_bytes());
            body.extend(index.to_le_bytes());
            body.push(u8::from(*vote));
            body.extend(signature);
            body.extend((payload.len() as u32).to_le_bytes());
            body.extend(payload);
            payload.len()
        }
        Update::Slot { slot } => {
            body[1] = SLOT;
            body.extend(slot.to_le_bytes());
            0
        }
    };
    if payload > PAYLOAD_BYTES_MAX {
        return Err(format!("PayloadTooLarge: {payload} bytes"));
    }
    Ok(body)
}

pub fn decode(frame: &[u8]) -> Result<Decoded, String> {
    let [version, tag, ..] = *frame else { return Err("MalformedPayload: no tag".into()) };
    let head = match tag {
        ACCOUNT => 116,
        TRANSACTION => 91,
        SLOT => 18,
        SUBSCRIBE | READY | PING | READY_SHM => return Err(format!("InvalidMessageTag: {tag} on the ring")),
        _ => return Err(format!("InvalidMessageTag: found {tag}, expected 2")),
    };
    if frame.len() < head {
        return Err("MalformedPayload: short frame".into());
    }
    if version != VERSION {
        return Err(format!("InvalidWireVersion: found {version}, expected 9"));
    }
    let payload = &frame[head..];
    let mut cursor = Cursor(&frame[2..head]);
    let created_ns = cursor.u64()?;
    let flag = |byte: u8, name: &str| match byte {
        0..=1 => Ok(byte == 1),
        _ => Err(format!("MalformedPayload: {name} is {byte}")),
    };
    let sized = |length: u32| match length as usize {
        length if length > PAYLOAD_BYTES_MAX => Err(format!("PayloadTooLarge: {length} bytes")),
        length => Ok(length),
    };
    let exact = |length: usize| match payload.len() == length {
        true => Ok(()),
        false => Err(format!("MalformedPayload: {} bytes of payload, {length} announced", payload.len())),
    };
    let mut compressed = false;
    let update = match tag {
        ACCOUNT => {
            let (pubkey, owner, lamports) = (cursor.array()?, cursor.array()?, cursor.u64()?);
            let executable = flag(cursor.u8()?, "executable")?;
            let (rent_epoch, slot, write_version) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
            compressed = flag(cursor.u8()?, "flags")?;
            let raw_len = sized(cursor.u32()?)?;
            exact(cursor.u32()? as usize)?;
            let data = if compressed { decompress(payload, raw_len)? } else { payload.to_vec() };
            if data.len() != raw_len {
                return Err(format!("MalformedPayload: {} raw bytes, {raw_len} announced", data.len()));
            }
            Update::Account(Account { pubkey, owner, lamports, executable, rent_epoch, slot, write_version, data })
        }
        TRANSACTION => {
            let (slot, index) = (cursor.u64()?, cursor.u32()?);
            let vote = flag(cursor.u8()?, "is_vote")?;
            let signature = cursor.array()?;
            exact(sized(cursor.u32()?)?)?;
            Update::Transaction { slot, index, vote, signature, payload: payload.to_vec() }
        }
        _ => {
            exact(0)?;
            Update::Slot { slot: cursor.u64()? }
        }
    };
    Ok(Decoded { created_ns, update, wire_len: payload.len(), compressed })
}

fn decompress(block: &[u8], raw_len: usize) -> Result<Vec<u8>, String> {
    let mut data = vec![0; raw_len];
    let length = lz4_flex::block::decompress_into(block, &mut data).map_err(|error| format!("DecodeError: {error}"))?;
    data.truncate(length);
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{hex, unhex};

    const CREATED: u64 = 0x1122_3344_5566_7788;

    /// Both directions, against the reference's bytes.
    fn frame(update: Update, expected: &str) {
        let body = encode(&update, CREATED).unwrap();
        assert_eq!(hex(&body), expected.replace([' ', '|'], ""));
        let decoded = decode(&body).unwrap();
        assert_eq!((decoded.created_ns, decoded.update), (CREATED, update));
        for length in 0..body.len() {
            assert!(decode(&body[..length]).is_err());
        }
    }

    fn control(message: Control, expected: &str) {
        let body = encode_control(&message);
        assert_eq!(hex(&body), expected.replace([' ', '|'], ""));
        assert_eq!(decode_control(&body).unwrap(), message);
        assert_eq!(decode_control(&[&body[..], b"more"].concat()).unwrap(), message);
        assert!(decode_control(&body[..body.len() - 1]).is_err());
    }

    #[test]
    fn data_frames() {
        let (aa, bb, cc) = ("aa".repeat(32), "bb".repeat(32), "cc".repeat(64));
        let account = Account {
            pubkey: [0xaa; 32],
            owner: [0xbb; 32],
            lamports: 5,
            executable: true,
            rent_epoch: 6,
            slot: 7,
            write_version: 8,
            data: b"hey".into(),
        };
        frame(
            Update::Account(account),
            &format!(
                "09 02 | 88 77 66 55 44 33 22 11 | {aa} | {bb} | 0500000000000000 | 01 | 0600000000000000 |
                 0700000000000000 | 0800000000000000 | 00 | 03 00 00 00 | 03 00 00 00 | 68 65 79"
            )
            .replace('\n', ""),
        );
        let transaction =
            Update::Transaction { slot: 7, index: 3, vote: false, signature: [0xcc; 64], payload: b"tx".into() };
        frame(
            transaction,
            &format!("09 06 | 8877665544332211 | 0700000000000000 | 03000000 | 00 | {cc} | 02000000 | 7478"),
        );
        frame(Update::Slot { slot: 456 }, "09 07 88 77 66 55 44 33 22 11 c8 01 00 00 00 00 00 00");
        let long = unhex("090788776655443322 11c80100000000000000".replace(' ', "").as_str()).unwrap();
        assert!(decode(&long).is_err_and(|fault| fault.starts_with("MalformedPayload")));
    }

    #[test]
    fn control_messages() {
        let token = Token { index: 3, generation: 0x0102_0304_0506_0708 };
        let first = Token { index: 0, generation: 1 };
        let subscribe = |token, accounts, owners, transactions| {
            Control::Subscribe(Subscribe { token, accounts, owners, transactions })
        };
        let (aa, bb) = ("aa".repeat(32), "bb".repeat(32));
        control(Control::Ping(token), "09 04 03 | 08 07 06 05 04 03 02 01");
        control(Control::Ready(token), "09 03 03 | 08 07 06 05 04 03 02 01");
        control(subscribe(None, vec![], vec![], false), &format!("09 01 ff | {}", "00".repeat(25)));
        control(
            subscribe(Some(first), vec![[0xaa; 32]], vec![[0xbb; 32]], false),
            &format!("09 01 00 | 0100000000000000 | 0100000000000000 | {aa} | 0100000000000000 | {bb} | 00"),
        );
        control(subscribe(Some(first), vec![], vec![], true), &format!("09 01 00 | 01{} | 01", "00".repeat(23)));
        control(
            Control::ReadyShm { token: first, path: "/dev/shm/q/1-0-1".into(), capacity: 67_108_864 },
            "09 05 00 | 0100000000000000 | 1000000000000000 | 2f6465762f73686d2f712f312d302d31 | 0000000400000000",
        );
    }

    #[test]
    fn lz4() {
        assert_eq!(hex(&lz4_flex::block::compress(&[0; 64])), "1f0001002660000000000000".to_string());
        assert_eq!(compress(&vec![0; 512_000]).map(|block| block.len()), Some(2019));
        assert_eq!(compress(&vec![0; 511_999]), None);
        assert_eq!(compress(&vec![0xab; 643_072]).map(|block| block.len()), Some(2533));
        let mut script = crate::stream::Script::new(1);
        let mut noise = Vec::new();
        let mut body = Vec::new();
        while noise.len() < 600_000 {
            script.frame(1, &mut body);
            noise.extend(&body[116..]);
        }
        assert_eq!(compress(&noise), None);
    }
}
