//! What every peer offers a bench: messages of one size, one way, from one process to another.

/// The sending end.
pub trait Sender {
    /// Hands one message over; tries until there is room.
    fn send(&mut self, message: &[u8]);
}

/// The receiving end.
pub trait Receiver {
    /// Hands what is there to `handler`; does nothing if there is nothing.
    fn receive(&mut self, handler: &mut dyn FnMut(&[u8]));
}

/// Both ends, opened after the fork, each in its own process.
pub trait Transport {
    fn sender(&self) -> Box<dyn Sender>;
    fn receiver(&self) -> Box<dyn Receiver>;
}
