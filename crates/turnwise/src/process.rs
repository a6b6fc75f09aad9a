//! What a scraper is told about the process itself, by the names that
//! Prometheus' own clients use. Where there is no /proc, less of it.

use crate::cli::VERSION;
use std::fmt;
use std::fs;
use turnwise_metrics::{Page, Source};

/// Bytes in a kilobyte of /proc/self/status.
const KILOBYTE: u64 = 1024;

/// This process.
pub(crate) struct Process {
    started: f64,
    store: &'static str,
}

impl Process {
    /// One that starts now, in microseconds since 1970, on this engine.
    pub(crate) fn new(now: i64, store: &'static str) -> Process {
        Process { started: now as f64 / 1e6, store }
    }
}

impl Source for Process {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        let facts = [("version", VERSION), ("store", self.store)];
        page.facts("turnwise_build", "Which version this is.", &facts)?;
        page.gauge("process_start_time_seconds", "When it started, since 1970.", self.started)?;
        if let Some(bytes) = resident_bytes(std::process::id()) {
            page.gauge("process_resident_memory_bytes", "Memory in use.", bytes as f64)?;
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            page.gauge("process_open_fds", "Open file descriptors.", entries.count() as f64)?;
        }
        if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            page.gauge("process_max_fds", "File descriptors it may open.", most as f64)?;
        }
        Ok(())
    }
}

/// What a process holds in memory, from the kernel's view.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * KILOBYTE)
}
