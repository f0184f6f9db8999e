//! Lines on their way out: whoever tells something puts its line into a buffer, and a thread writes the buffer, some
//! hundred lines at a time where there are so many. A line costs a copy instead of a call of the system.
//!
//! Invariants:
//! * Bounded: whoever reads too slowly, or not at all, holds nothing up. A line for which there is no room is lost, and
//!   that is counted and told as soon as there is room again. No line is written in part.
//! * A line waits for [`GATHER`] at most; one that somebody should act on does not wait.
//! * What is in the buffer when the process is killed is lost: [`Writer::flush`] comes before every other end.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait; about ten thousand lines.
const MOST: usize = 4 << 20;

/// So many bytes are written without waiting for more.
const ENOUGH: usize = 64 << 10;

/// How long a line may wait for others.
const GATHER: Duration = Duration::from_millis(20);

/// How often it is looked whether there is something to tell.
const TICK: Duration = Duration::from_secs(1);

/// The buffer, and the thread's other end of it. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Writer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    state: Mutex<State>,
    /// Something has come, or is urgent.
    come: Condvar,
    /// Everything has been written.
    gone: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Whether the thread should not wait for more.
    is_urgent: bool,
    /// Whether the thread is writing what it took last.
    is_writing: bool,
    /// Lines without room since the start, and those of them that have not been told of yet.
    lost: u64,
    untold: u64,
}

impl Writer {
    /// Starts the thread that writes to `out`. It ends with the process, and calls `tick` every second or so.
    pub(super) fn start(out: impl Write + Send + 'static, tick: fn(Instant)) -> Self {
        Self::bounded(out, MOST, tick)
    }

    fn bounded(out: impl Write + Send + 'static, most: usize, tick: fn(Instant)) -> Self {
        let shared = Shared { most, state: Mutex::default(), come: Condvar::new(), gone: Condvar::new() };
        let writer = Self(Arc::new(shared));
        let work = writer.clone();
        let started = std::thread::Builder::new().name("log".to_owned()).spawn(move || work.run(out, tick));
        started.expect("BUG: a process that is starting can have one more thread");
        writer
    }

    /// Lines that got lost.
    pub(super) fn lost(&self) -> u64 {
        self.state().lost
    }

    /// Waits until everything is written, or this time has passed.
    pub(super) fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        while !state.lines.is_empty() || state.is_writing {
            state.is_urgent = true;
            self.0.come.notify_one();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.0.gone.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8], is_urgent: bool) {
        let mut state = self.state();
        if state.lines.len() + line.len() > self.0.most {
            state.lost += 1;
            state.untold += 1;
            return;
        }
        let was_empty = state.lines.is_empty();
        state.lines.extend_from_slice(line);
        let is_enough = state.lines.len() >= ENOUGH && !state.is_urgent;
        state.is_urgent |= is_urgent || is_enough;
        let wake = was_empty || is_urgent || is_enough;
        drop(state);
        if wake {
            self.0.come.notify_one();
        }
    }

    fn run(self, mut out: impl Write, tick: fn(Instant)) {
        let (mut lines, mut ticked) = (Vec::new(), Instant::now());
        loop {
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                tick(ticked);
            }
            let untold = self.take(&mut lines);
            // A reader that has gone away is nobody to tell anything.
            let _gone = out.write_all(&lines).and_then(|()| out.flush());
            lines.clear();
            let mut state = self.state();
            state.is_writing = false;
            self.0.gone.notify_all();
            drop(state);
            if untold > 0 {
                tracing::warn!(lines = untold, "log lines were lost: whoever reads them was too slow");
            }
        }
    }

    /// Waits for lines, for [`TICK`] at most, and takes them; how many were lost meanwhile.
    fn take(&self, into: &mut Vec<u8>) -> u64 {
        let state = self.state();
        let waited = self.0.come.wait_timeout_while(state, TICK, |state| state.lines.is_empty());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.lines.is_empty() {
            return 0;
        }
        let until = Instant::now() + GATHER;
        while !state.is_urgent {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.0.come.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut state.lines, into);
        state.is_urgent = false;
        state.is_writing = true;
        std::mem::take(&mut state.untold)
    }
}

/// Puts one line in.
#[derive(Debug)]
pub(super) struct Line<'a> {
    writer: &'a Writer,
    is_urgent: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.put(line, self.is_urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { writer: self, is_urgent: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line { writer: self, is_urgent: *metadata.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that can be stuck: it takes a block each time it is let to.
    struct Reader {
        may_read: mpsc::Receiver<()>,
        read: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, block: &[u8]) -> io::Result<usize> {
            self.may_read.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.read.send(block.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(block.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    fn stuck(most: usize) -> (Writer, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let (let_read, may_read) = mpsc::channel();
        let (read, blocks) = mpsc::channel();
        (Writer::bounded(Reader { may_read, read }, most, |_| {}), let_read, blocks)
    }

    #[test]
    fn a_stuck_reader_holds_nobody_up_and_what_is_lost_is_counted() {
        let (writer, let_read, blocks) = stuck(40);
        writer.put(b"first line\n", true);
        // The thread is stuck with it as soon as the buffer is empty.
        let deadline = Instant::now() + LONG;
        while !writer.state().is_writing {
            assert!(Instant::now() < deadline, "the thread never took the first line");
            std::thread::yield_now();
        }
        for number in 0..10 {
            writer.put(format!("line number {number}\n").as_bytes(), false);
        }
        assert_eq!(writer.lost(), 8, "two of 14 bytes fit into 40");
        writer.flush(Duration::from_millis(1));
        let_read.send(()).unwrap();
        assert_eq!(blocks.recv_timeout(LONG).unwrap(), b"first line\n");
        let_read.send(()).unwrap();
        assert_eq!(
            blocks.recv_timeout(LONG).unwrap(),
            b"line number 0\nline number 1\n",
            "whole lines, in order"
        );
        writer.flush(LONG);
        writer.put(b"there is room again\n", true);
        let_read.send(()).unwrap();
        assert_eq!(blocks.recv_timeout(LONG).unwrap(), b"there is room again\n");
        assert_eq!(writer.lost(), 8);
    }

    #[test]
    fn lines_are_gathered_and_flushed() {
        let (writer, let_read, blocks) = stuck(MOST);
        for _ in 0..1_000 {
            let_read.send(()).unwrap();
        }
        for number in 0..1_000 {
            writer.put(format!("{number}\n").as_bytes(), false);
        }
        writer.flush(LONG);
        let blocks: Vec<_> = blocks.try_iter().collect();
        assert!(blocks.len() < 500, "{} blocks", blocks.len());
        let expected = (0..1_000).map(|number| format!("{number}\n")).collect::<Vec<_>>().concat();
        assert_eq!(String::from_utf8(blocks.concat()).unwrap(), expected);
    }

    #[test]
    fn a_reader_that_has_gone_stops_nothing() {
        let (writer, let_read, blocks) = stuck(MOST);
        drop((let_read, blocks));
        for _ in 0..3 {
            writer.put(b"to nobody\n", true);
            writer.flush(LONG);
        }
        assert_eq!(writer.lost(), 0);
    }
}
