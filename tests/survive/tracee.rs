//! Stops a thread with ptrace(2) and makes it perform system calls, to exchange the descriptors of its process.

#![cfg_attr(not(target_arch = "x86_64"), allow(unused))]

use std::ffi::c_long;
use std::fs;

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::common::{secs, wait_for};

/// The stopped thread, in a system call that it waits in.
pub struct Tracee {
    pid: Pid,
    #[cfg(target_arch = "x86_64")]
    registers: libc::user_regs_struct,
}

#[cfg(target_arch = "x86_64")]
impl Tracee {
    /// Stops it when it waits.
    #[track_caller]
    pub fn stop(tid: i32) -> Self {
        wait_for("a thread to wait in a system call", secs(10), || Self::stop_now(tid))
    }

    /// Stops it. `None`: it is not in a system call now, and goes on.
    fn stop_now(tid: i32) -> Option<Self> {
        let pid = Pid::from_raw(tid);
        ptrace::seize(pid, Options::empty()).unwrap();
        ptrace::interrupt(pid).unwrap();
        waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
        let registers = ptrace::getregs(pid).unwrap();
        // Behind the instruction `syscall`.
        let word = ptrace::read(pid, (registers.rip - 2) as ptrace::AddressType).unwrap();
        if word & 0xffff == 0x050f {
            return Some(Self { pid, registers });
        }
        ptrace::detach(pid, None).unwrap();
        None
    }

    fn call(&mut self, number: c_long, arguments: [i64; 4]) -> i64 {
        let [rdi, rsi, rdx, r10] = arguments.map(|a| a as u64);
        let rip = self.registers.rip - 2;
        let rax = number as u64;
        let call = libc::user_regs_struct { rip, rax, orig_rax: u64::MAX, rdi, rsi, rdx, r10, ..self.registers };
        ptrace::setregs(self.pid, call).unwrap();
        ptrace::step(self.pid, None).unwrap();
        waitpid(self.pid, Some(WaitPidFlag::__WALL)).unwrap();
        let result = ptrace::getregs(self.pid).unwrap().rax as i64;
        assert!(
            result >= 0,
            "system call {number} {arguments:?}: {}",
            std::io::Error::from_raw_os_error(-result as i32)
        );
        result
    }

    /// Puts a copy of the test's own descriptor `ours` into the place of `number`, also in the epoll that watches it.
    #[track_caller]
    pub fn replace(&mut self, number: i32, ours: i32) {
        let number = i64::from(number);
        let watches = self.watches(number);
        for (epoll, ..) in &watches {
            self.call(libc::SYS_epoll_ctl, [*epoll, libc::EPOLL_CTL_DEL.into(), number, 0]);
        }
        let test = self.call(libc::SYS_pidfd_open, [std::process::id().into(), 0, 0, 0]);
        let copy = self.call(libc::SYS_pidfd_getfd, [test, ours.into(), 0, 0]);
        self.call(libc::SYS_dup3, [copy, number, libc::O_CLOEXEC.into(), 0]);
        self.call(libc::SYS_close, [copy, 0, 0, 0]);
        self.call(libc::SYS_close, [test, 0, 0, 0]);
        // Below what the thread may use of its stack: a `struct epoll_event`, 12 bytes.
        let event = (self.registers.rsp - 512) & !7;
        for (epoll, events, data) in watches {
            let words = [u64::from(events) | data << 32, data >> 32];
            for (n, word) in words.into_iter().enumerate() {
                let at = event + 8 * n as u64;
                ptrace::write(self.pid, at as ptrace::AddressType, word as i64).unwrap();
            }
            self.call(libc::SYS_epoll_ctl, [epoll, libc::EPOLL_CTL_ADD.into(), number, event as i64]);
        }
    }

    /// The epoll descriptors that watch `number`, with the events and what is told then. They are several numbers of
    /// one epoll.
    fn watches(&self, number: i64) -> Vec<(i64, u32, u64)> {
        let directory = format!("/proc/{}/fdinfo", self.pid);
        let watch = |entry: fs::DirEntry| {
            let epoll = entry.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(entry.path()).ok()?;
            text.lines().find_map(|line| {
                let words: Vec<&str> = line.split_ascii_whitespace().collect();
                let ["tfd:", tfd, "events:", events, "data:", data, ..] = words[..] else { return None };
                let (events, data) = (u32::from_str_radix(events, 16).ok()?, u64::from_str_radix(data, 16).ok()?);
                (tfd.parse() == Ok(number)).then_some((epoll, events, data))
            })
        };
        fs::read_dir(directory).unwrap().flatten().filter_map(watch).take(1).collect()
    }

    /// Makes the system call in which it waits fail with EINTR, as CRIU does it.
    pub fn interrupt(&mut self) {
        self.registers.rax = -i64::from(libc::EINTR) as u64;
        self.registers.orig_rax = u64::MAX;
    }

    /// Lets it go on where it was.
    pub fn go_on(self) {
        ptrace::setregs(self.pid, self.registers).unwrap();
        ptrace::detach(self.pid, None).unwrap();
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Tracee {
    pub fn stop(_: i32) -> Self {
        unreachable!("such tests are ignored")
    }

    pub fn replace(&mut self, _: i32, _: i32) {}

    pub fn interrupt(&mut self) {}

    pub fn go_on(self) {}
}
