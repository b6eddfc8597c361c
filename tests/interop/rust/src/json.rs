//! Flat JSON objects, as many as this program needs: 64-bit numbers of updates are texts, so that JavaScript keeps them.

use std::fmt::Write as _;
use std::io::Write as _;

pub struct Object(String);

pub fn object() -> Object {
    Object("{".into())
}

impl Object {
    fn field(mut self, name: &str, value: &str) -> Self {
        let comma = if self.0.len() > 1 { "," } else { "" };
        write!(self.0, "{comma}\"{name}\":{value}").unwrap();
        self
    }
    pub fn text(self, name: &str, value: &str) -> Self {
        let escaped = value.replace(char::is_control, " ").replace('\\', "\\\\").replace('"', "\\\"");
        self.field(name, &format!("\"{escaped}\""))
    }
    pub fn number(self, name: &str, value: u64) -> Self {
        self.field(name, &value.to_string())
    }
    pub fn float(self, name: &str, value: f64) -> Self {
        self.field(name, &format!("{value:.6}"))
    }
    pub fn flag(self, name: &str, value: bool) -> Self {
        self.field(name, if value { "true" } else { "false" })
    }
    pub fn u64(self, name: &str, value: u64) -> Self {
        self.field(name, &format!("\"{value}\""))
    }
    pub fn hex(self, name: &str, bytes: &[u8]) -> Self {
        self.field(name, &format!("\"{}\"", hex(bytes)))
    }
    pub fn hexes(self, name: &str, list: &[[u8; 32]]) -> Self {
        let items: Vec<String> = list.iter().map(|bytes| format!("\"{}\"", hex(bytes))).collect();
        self.field(name, &format!("[{}]", items.join(",")))
    }
    /// One write a line, so that lines of several threads stay whole.
    pub fn print(mut self) {
        self.0.push_str("}\n");
        let mut out = std::io::stdout().lock();
        // Whoever listens may be gone.
        let _ = out.write_all(self.0.as_bytes()).and_then(|()| out.flush());
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |at: usize| (text.as_bytes()[at] as char).to_digit(16);
    if !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len() / 2).map(|i| Some((digit(2 * i)? * 16 + digit(2 * i + 1)?) as u8)).collect()
}

/// The fields of a flat object whose texts hold no quotes: names and values without their quotes.
pub struct Fields<'a>(Vec<(&'a str, &'a str)>);

pub fn parse(line: &str) -> Option<Fields<'_>> {
    let inner = line.trim().strip_prefix('{')?.strip_suffix('}')?;
    let pairs = inner.split(',').filter(|pair| !pair.trim().is_empty()).map(|pair| {
        let (name, value) = pair.split_once(':')?;
        Some((name.trim().trim_matches('"'), value.trim().trim_matches('"')))
    });
    Some(Fields(pairs.collect::<Option<_>>()?))
}

impl<'a> Fields<'a> {
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(given, _)| *given == name).map(|&(_, value)| value)
    }
    pub fn number(&self, name: &str) -> u64 {
        self.text(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }
    /// Hexadecimal digits; `BYTExLENGTH` stands for as many of the same, so that a large payload is a short line.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        match self.text(name)?.split_once('x') {
            Some((byte, length)) => Some(vec![u8::from_str_radix(byte, 16).ok()?; length.parse().ok()?]),
            None => unhex(self.text(name)?),
        }
    }
    pub fn array<const N: usize>(&self, name: &str) -> Option<[u8; N]> {
        self.bytes(name)?.try_into().ok()
    }
}
