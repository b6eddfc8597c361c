//! The message of bench/message.ts: u32 number, u64 time at 8, then ones. Readers touch each cache line.

pub fn new(size: usize) -> Vec<u8> {
    vec![1; size]
}

pub fn set_number(message: &mut [u8], number: u64) {
    message[..4].copy_from_slice(&(number as u32).to_le_bytes());
}

pub fn set_time(message: &mut [u8], ns: u64) {
    message[8..16].copy_from_slice(&ns.to_le_bytes());
}

pub fn time(message: &[u8]) -> u64 {
    u64::from_le_bytes(message[8..16].try_into().unwrap())
}

/// Panics unless it is message `number` with its content.
pub fn check(message: &[u8], size: usize, number: u64) {
    assert_eq!(message.len(), size, "size of message {number}");
    assert_eq!(
        message[..4],
        (number as u32).to_le_bytes(),
        "number of message {number}"
    );
    let lines: usize = message
        .iter()
        .skip(64)
        .step_by(64)
        .map(|&byte| byte as usize)
        .sum();
    assert_eq!(lines, (size - 1) / 64, "content of message {number}");
}
