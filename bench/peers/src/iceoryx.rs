//! iceoryx2: publish and subscribe, samples loaned and received in place.

use crate::transport::{Receiver, Sender, Transport};
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

/// The service holds it all: kept so that a port's process stays a participant.
type Service =
    iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, [u8], ()>;

pub struct Iceoryx {
    name: String,
    size: usize,
}

impl Iceoryx {
    pub fn new(size: usize) -> Self {
        set_log_level(LogLevel::Error);
        Self {
            name: format!("qlaster-bench-{}", std::process::id()),
            size,
        }
    }

    /// Opened in each process after the fork. Samples that wait are bounded by 64 MiB, as the rings are.
    fn service(&self) -> (Node<ipc::Service>, Service) {
        let node = NodeBuilder::new().create::<ipc::Service>().expect("a node");
        let service = node
            .service_builder(&self.name.as_str().try_into().expect("a name"))
            .publish_subscribe::<[u8]>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size((64 * 1024 * 1024 / self.size).clamp(16, 1024))
            .open_or_create()
            .expect("a service");
        (node, service)
    }
}

struct Port<T> {
    port: T,
    _service: (Node<ipc::Service>, Service),
}

impl Transport for Iceoryx {
    fn sender(&self) -> Box<dyn Sender> {
        let service = self.service();
        let port = service
            .1
            .publisher_builder()
            .initial_max_slice_len(self.size)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .expect("a publisher");
        // What is published before the subscriber is there would reach nobody.
        while service.1.dynamic_config().number_of_subscribers() == 0 {
            std::thread::yield_now();
        }
        Box::new(Port {
            port,
            _service: service,
        })
    }
    fn receiver(&self) -> Box<dyn Receiver> {
        let service = self.service();
        let port = service
            .1
            .subscriber_builder()
            .create()
            .expect("a subscriber");
        Box::new(Port {
            port,
            _service: service,
        })
    }
}

impl Sender for Port<Publisher<ipc::Service, [u8], ()>> {
    fn send(&mut self, message: &[u8]) {
        let sample = self
            .port
            .loan_slice_uninit(message.len())
            .expect("a sample");
        sample.write_from_slice(message).send().expect("a delivery");
    }
}

impl Receiver for Port<Subscriber<ipc::Service, [u8], ()>> {
    fn receive(&mut self, handler: &mut dyn FnMut(&[u8])) {
        if let Some(sample) = self.port.receive().expect("a working subscriber") {
            handler(&sample);
        }
    }
}
