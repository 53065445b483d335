//! [`Lines`]: lines of text for a descriptor that may be slow, full or gone.
//!
//! A log never stands in the way of what it is about. A thread of its own writes the lines; callers
//! put them into a bounded queue and never wait, fail or panic. A line that finds the queue full,
//! or cannot be written, is lost. It is counted, and the count is written as soon as writing works
//! again.
//!
//! `tracing-appender` has such a queue too, but bounds it by lines, not by bytes, and does not
//! count the lines whose write failed.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::{
    format,
    time::{FormatTime as _, SystemTime},
};

/// What may wait to be written: several seconds of a busy server at level `info`.
const QUEUE_BYTES: usize = 1 << 20;

/// The pause after a write, in which lines gather. To wake a thread for each line costs a tenth of
/// what a small upload does.
const PAUSE: Duration = Duration::from_millis(5);

/// A queue of lines and the thread that writes them. A handle: clones are the same queue.
#[derive(Clone)]
pub struct Lines(Arc<Queue>);

/// What callers and the writing thread share.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// There is something to write.
    filled: Condvar,
    /// All that was taken has been written, or is lost.
    written: Condvar,
}

/// What is not written yet.
#[derive(Default)]
struct Waiting {
    /// Whole lines, at most [`QUEUE_BYTES`].
    lines: Vec<u8>,
    /// Lines that found the queue full after `lines` had come.
    lost: u64,
    /// Whether the thread is writing what it took before.
    is_writing: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.lost == 0
    }
}

impl Lines {
    /// A queue before `output`. Its thread is called `name` and lives as long as the process.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn to(name: &str, output: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let (own, mut output) = (Arc::clone(&queue), Output::new(output));
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            loop {
                let (lines, lost) = own.take();
                output.write(&lines, lost);
                own.written();
                thread::sleep(PAUSE);
            }
        })?;
        Ok(Self(queue))
    }

    /// Hands over whole lines, each with its end. They are lost if the queue is full.
    pub fn push(&self, lines: impl AsRef<[u8]>) {
        let lines = lines.as_ref();
        let mut waiting = self.0.lock();
        let was_empty = waiting.is_empty();
        if waiting.lines.len().saturating_add(lines.len()) <= QUEUE_BYTES {
            waiting.lines.extend_from_slice(lines);
        } else {
            waiting.lost = waiting.lost.saturating_add(count(lines));
        }
        drop(waiting);
        if was_empty {
            // Otherwise the thread has been woken already, and has not looked yet.
            self.0.filled.notify_one();
        }
    }

    /// Waits until everything pushed so far is written or lost, but not longer than `wait`. Says
    /// whether it is.
    pub fn flush(&self, wait: Duration) -> bool {
        let waiting = self.0.lock();
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.is_empty();
        let flushed = self.0.written.wait_timeout_while(waiting, wait, is_busy);
        !flushed.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that what was taken is written.
    fn written(&self) {
        self.lock().is_writing = false;
        self.written.notify_all();
    }

    /// Waits for lines; returns them, and the number of those that were lost after them.
    fn take(&self) -> (Vec<u8>, u64) {
        let filled = self.filled.wait_while(self.lock(), |waiting| waiting.is_empty());
        let mut waiting = filled.unwrap_or_else(PoisonError::into_inner);
        waiting.is_writing = true;
        (mem::take(&mut waiting.lines), mem::take(&mut waiting.lost))
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

/// For those who write through [`io::Write`]: one call is one or more whole lines.
impl Write for &Lines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.push(lines);
        Ok(lines.len())
    }

    /// Does not wait: see [`Lines::flush`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where lines are written, and what became of them.
struct Output<W> {
    writer: W,
    /// Lines lost since that was last said.
    lost: u64,
    /// Whether the last line was written without its end.
    is_torn: bool,
}

impl<W: Write> Output<W> {
    fn new(writer: W) -> Self {
        Self { writer, lost: 0, is_torn: false }
    }

    /// Writes `lines` one by one, so that they stay whole beside those of other processes, and says
    /// what was lost, `lost` lines after them included.
    fn write(&mut self, lines: &[u8], lost: u64) {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if !self.report() || !self.put(line) {
                self.lost = self.lost.saturating_add(1);
            }
        }
        self.lost = self.lost.saturating_add(lost);
        self.report();
    }

    /// Says how many lines were lost, if any were. Gives whether nothing is left to say.
    fn report(&mut self) -> bool {
        if self.lost > 0 && self.put(report(self.lost).as_bytes()) {
            self.lost = 0;
        }
        self.lost == 0
    }

    /// Writes one line. Gives whether it could be written as a whole.
    fn put(&mut self, line: &[u8]) -> bool {
        let end: &[u8] = if self.is_torn { b"\n" } else { b"" };
        for part in [end, line] {
            let mut rest = part;
            while !rest.is_empty() {
                match self.writer.write(rest) {
                    Ok(0) => return false,
                    Ok(written) => rest = &rest[written..],
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return false,
                }
                self.is_torn = !rest.is_empty();
            }
        }
        self.writer.flush().is_ok()
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.split_inclusive(|byte| *byte == b'\n').count().try_into().unwrap_or(u64::MAX)
}

/// The line that stands where `lost` lines are missing.
fn report(lost: u64) -> String {
    let mut line = String::new();
    // A clock that cannot be shown leaves the line without a time.
    let _ = SystemTime.format_time(&mut format::Writer::new(&mut line));
    line + &format!("  WARN windlass: lines lost: {lost}; they could not be written\n")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes so many bytes at each call, then fails; a call beyond the script takes everything.
    #[derive(Debug, Default)]
    struct Scripted {
        script: Vec<Result<usize, ErrorKind>>,
        written: Vec<u8>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = match self.script.is_empty() {
                true => bytes.len(),
                false => self.script.remove(0)?.min(bytes.len()),
            };
            self.written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written, each report without its time.
    fn shown(written: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(written);
        let lines = text.lines().map(|line| match line.split_once("  WARN windlass: ") {
            Some((_, report)) => report.split(';').next().unwrap_or_default().to_owned(),
            None => line.to_owned(),
        });
        lines.collect()
    }

    #[test]
    fn line_that_cannot_be_written_is_lost_and_counted() {
        let (full, gone) = (Err(ErrorKind::StorageFull), Err(ErrorKind::BrokenPipe));
        let again = Err(ErrorKind::Interrupted);
        for (script, lost, expected) in [
            (vec![], 0, vec!["a", "b", "c"]),
            (vec![again, Ok(1), again, Ok(1)], 0, vec!["a", "b", "c"]),
            (vec![], 7, vec!["a", "b", "c", "lines lost: 7"]),
            (vec![full], 0, vec!["lines lost: 1", "b", "c"]),
            (vec![Ok(2), gone, gone], 0, vec!["a", "lines lost: 2"]),
            (vec![Ok(2), gone, full, full], 3, vec!["a"]),
            // The end of a line that was cut comes before the report about it.
            (vec![Ok(1), full], 0, vec!["a", "lines lost: 1", "b", "c"]),
            (vec![Ok(2), Ok(0), Ok(1)], 0, vec!["a", "lines lost: 1", "c"]),
        ] {
            let about = format!("{script:?} {lost}");
            let mut output = Output::new(Scripted { script, ..Scripted::default() });
            output.write(b"a\nb\nc\n", lost);
            assert_eq!(shown(&output.writer.written), expected, "{about}");
        }
        let script = vec![gone; 4];
        let mut output = Output::new(Scripted { script, ..Scripted::default() });
        output.write(b"a\nb\nc\n", 2);
        output.write(b"d\n", 0);
        assert_eq!(shown(&output.writer.written), ["lines lost: 5", "d"]);
    }

    /// Hands over what is written, one call at a time, and waits until it is taken.
    struct Slow(mpsc::SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_owned()).map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn caller_never_waits_for_a_reader_that_does_not_read() {
        let (sender, reader) = mpsc::sync_channel(0);
        let lines = Lines::to("test", Slow(sender)).expect("a thread");
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..10_000 {
            lines.push(&line);
        }
        assert!(!lines.flush(Duration::from_millis(1)));
        let (mut written, mut lost) = (0, 0);
        while written + lost < 10_000 {
            let next = reader.recv().expect("more lines");
            if next == line {
                written += 1;
                continue;
            }
            let report = String::from_utf8(next).expect("text");
            let count = report.split("lines lost: ").nth(1).and_then(|rest| rest.split(';').next());
            lost += count.expect("a report").parse::<usize>().expect("a number");
        }
        assert_eq!(written + lost, 10_000);
        assert!(written >= QUEUE_BYTES / line.len() && lost > 0, "{written} written, {lost} lost");
        assert!(lines.flush(Duration::from_secs(60)));
        // The reader never comes back.
        drop(reader);
        lines.push("y\n");
        assert!(lines.flush(Duration::from_secs(60)));
    }
}
