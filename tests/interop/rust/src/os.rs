//! The system calls that std has not: eventfd, epoll, descriptors over a socket.

use std::io::{Error, ErrorKind};
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

fn checked(result: i32) -> Result<i32, String> {
    if result < 0 { Err(Error::last_os_error().to_string()) } else { Ok(result) }
}

fn owned(result: i32) -> Result<OwnedFd, String> {
    checked(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn eventfd() -> Result<OwnedFd, String> {
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// One more wake-up. A counter that is full is as good as one that was raised.
pub fn signal(fd: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    while unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), 8) } < 0
        && Error::last_os_error().kind() == ErrorKind::Interrupted
    {}
}

/// Waits for a descriptor as the original's runtime does: edge-triggered, so that a wait only follows a read that would
/// have blocked.
pub struct Waiter {
    epoll: OwnedFd,
    fd: OwnedFd,
}

impl Waiter {
    pub fn new(fd: OwnedFd) -> Result<Self, String> {
        let epoll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        let mut interest = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
        let (epoll_fd, watched) = (epoll.as_raw_fd(), fd.as_raw_fd());
        checked(unsafe { libc::epoll_ctl(epoll_fd, libc::EPOLL_CTL_ADD, watched, &mut interest) })?;
        Ok(Self { epoll, fd })
    }

    /// Returns after a wake-up.
    pub fn wait(&self) -> Result<(), String> {
        let mut counter = [0u8; 8];
        loop {
            let read = unsafe { libc::read(self.fd.as_raw_fd(), counter.as_mut_ptr().cast(), 8) };
            match read {
                8 => return Ok(()),
                0.. => return Err(format!("{read} bytes of an eventfd")),
                _ if Error::last_os_error().kind() == ErrorKind::WouldBlock => {}
                _ => return Err(Error::last_os_error().to_string()),
            }
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), &mut event, 1, -1) }; // interrupted: the read tells
        }
    }
}

/// Room for what one descriptor needs, aligned as its header wants it.
#[repr(C, align(8))]
struct Ancillary([u8; 64]);

/// What one recvmsg brings: up to 1024 bytes and the first descriptor.
pub fn receive_once(socket: &UnixStream) -> Result<(Vec<u8>, Option<OwnedFd>), String> {
    let mut bytes = vec![0u8; 1024];
    let mut ancillary = Ancillary([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.0.as_mut_ptr().cast();
    message.msg_controllen = ancillary.0.len() as _;
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
    checked(received as i32)?;
    bytes.truncate(received as usize);
    let mut descriptor: Option<OwnedFd> = None;
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let fd = OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned());
                descriptor.get_or_insert(fd);
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
    }
    Ok((bytes, descriptor))
}

/// All bytes with one descriptor, in one sendmsg.
pub fn send_once(socket: &UnixStream, bytes: &[u8], fd: &OwnedFd) -> Result<(), String> {
    let mut ancillary = Ancillary([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.0.as_mut_ptr().cast();
    let size = size_of::<RawFd>() as u32;
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as _;
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd.as_raw_fd());
    }
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL) };
    checked(sent as i32)?;
    if sent as usize == bytes.len() { Ok(()) } else { Err(format!("{sent} of {} bytes were sent", bytes.len())) }
}
