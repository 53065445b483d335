//! What the kernel says about a process: CPU time and memory.

use std::{fs, thread::sleep, time::Duration};

use rustix::{
    param::clock_ticks_per_second,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// How long a process must have used no CPU to be called quiet.
const QUIET: Duration = Duration::from_millis(300);

/// How long is waited for that.
const QUIET_PATIENCE: Duration = Duration::from_secs(60);

/// CPU time of a process, the children it has waited for included.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cpu {
    /// Seconds outside the kernel.
    pub(crate) user: f64,
    /// Seconds in the kernel.
    pub(crate) system: f64,
}

impl Cpu {
    /// What process `pid` has used so far, to the hundredth of a second.
    pub(crate) fn of(pid: u32) -> Result<Self, String> {
        let text = read(&format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold anything.
        let fields: Vec<_> = text
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        // Fields 14 to 17 of proc(5); the first here is field 3.
        let [user, system, child_user, child_system] = fields.get(11..15).unwrap_or_default()
        else {
            return Err(format!("/proc/{pid}/stat is too short"));
        };
        let ticks = clock_ticks_per_second() as f64;
        Ok(Self { user: (user + child_user) / ticks, system: (system + child_system) / ticks })
    }

    /// The sum.
    pub(crate) fn seconds(self) -> f64 {
        self.user + self.system
    }

    /// What was used since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
    }
}

/// What process `pid` has used once it is quiet: work put off is work.
pub(crate) fn settled_cpu(pid: u32) -> Result<Cpu, String> {
    let mut last = Cpu::of(pid)?;
    for _ in 0..QUIET_PATIENCE.as_millis() / QUIET.as_millis() {
        sleep(QUIET);
        let now = Cpu::of(pid)?;
        // Timers of a runtime may cost a tick now and then.
        if now.seconds() - last.seconds() < 0.015 {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// CPU time of the calling thread.
pub(crate) fn own_cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) now: f64,
    /// At most, since the last reset.
    pub(crate) peak: f64,
}

impl Memory {
    /// That of process `pid`.
    pub(crate) fn of(pid: u32) -> Result<Self, String> {
        let text = read(&format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
            number.map(|kib| kib * 1024.0).ok_or_else(|| format!("no {name} of process {pid}"))
        };
        Ok(Self { now: field("VmRSS:")?, peak: field("VmHWM:")? })
    }

    /// Has the peak of process `pid` begin anew.
    pub(crate) fn reset_peak(pid: u32) -> Result<(), String> {
        let path = format!("/proc/{pid}/clear_refs");
        fs::write(&path, "5").map_err(|e| format!("{path}: {e}"))
    }
}

/// Allows this process, and those it starts, as many open files as the kernel lets it.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused at worst, and then the scenario that needs them says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))
}
