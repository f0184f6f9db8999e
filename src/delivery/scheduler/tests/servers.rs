//! The adaptive limit against modelled servers, in virtual time: how soon it finds a good value, and how it behaves when
//! the server changes. `cargo test --lib servers -- --nocapture` prints the figures.

#![expect(clippy::print_stdout, reason = "the figures are what a reader runs this for")]

use super::super::concurrency::{Concurrency, Load};
use super::*;

/// A server: `workers` calls at a time, each for about `service` milliseconds; further ones wait in line. With `refuses`
/// it answers what would wait longer than its line with 429 at once.
#[derive(Debug, Clone, Copy)]
struct Server {
    workers: usize,
    service: f64,
    /// How much service times spread: 0 not at all, 1 exponentially.
    spread: f64,
    refuses: bool,
    is_down: bool,
    /// Beyond so many calls at a time each takes longer: by the factor (calls / best) to this power.
    degrades: Option<(f64, f64)>,
    /// The share of calls that it refuses whatever the load.
    refused_share: f64,
}

impl Server {
    fn new(workers: usize, service: f64) -> Self {
        Self {
            workers,
            service,
            spread: 0.3,
            refuses: false,
            is_down: false,
            degrades: None,
            refused_share: 0.0,
        }
    }
}

/// A client that always has something to send, its limit, and the server.
struct Line {
    server: Server,
    limit: Concurrency,
    max: usize,
    random: fastrand::Rng,
    /// Milliseconds.
    now: f64,
    /// When each worker is free again.
    workers: Vec<f64>,
    /// Calls in flight: when they end, when they began, the cuts then, and what comes.
    calls: Vec<(f64, f64, u64, Load)>,
    done: usize,
    refused: usize,
}

impl Line {
    fn new(server: Server, max: usize, seed: u64) -> Self {
        Self {
            server,
            limit: Concurrency::new(),
            max,
            random: fastrand::Rng::with_seed(seed),
            now: 0.0,
            workers: vec![0.0; server.workers],
            calls: Vec::new(),
            done: 0,
            refused: 0,
        }
    }

    fn change(&mut self, server: Server) {
        self.server = server;
        self.workers.resize(server.workers, self.now);
    }

    fn send(&mut self) {
        let cuts = self.limit.cuts();
        let (now, server) = (self.now, self.server);
        let draw = -(1.0 - self.random.f64()).ln();
        let service = server.service * (1.0 - server.spread + server.spread * draw);
        if server.is_down {
            return self.calls.push((now + 5.0, now, cuts, Load::TooMuch));
        }
        if self.random.f64() < server.refused_share {
            return self.calls.push((now + 5.0, now, cuts, Load::TooMuch));
        }
        let service = server.degrades.map_or(service, |(best, power)| {
            service * (count(self.calls.len() + 1) / best).max(1.0).powf(power)
        });
        let worker = self.workers.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("it has workers");
        let wait = (*worker - now).max(0.0);
        if server.refuses && wait > 0.0 {
            return self.calls.push((now + 5.0, now, cuts, Load::TooMuch));
        }
        *worker = now + wait + service;
        self.calls.push((*worker, now, cuts, Load::Fine));
    }

    /// Runs until this time; returns calls done per second since it was last run.
    fn run(&mut self, seconds: f64) -> f64 {
        let (from, done) = (self.now, self.done);
        while self.now < seconds * 1_000.0 {
            while self.calls.len() < self.limit.limit(self.max) {
                self.send();
            }
            let next = (0..self.calls.len()).min_by(|a, b| self.calls[*a].0.total_cmp(&self.calls[*b].0));
            let in_flight = self.calls.len();
            let (end, began, cuts, load) = self.calls.swap_remove(next.expect("something is in flight"));
            self.now = end;
            let latency = Duration::from_secs_f64((end - began) / 1_000.0);
            self.limit.hear(load, Some(latency), cuts, in_flight, self.max);
            match load {
                Load::Fine => self.done += 1,
                Load::TooMuch | Load::Unknown => self.refused += 1,
            }
        }
        count(self.done - done) * 1_000.0 / (self.now - from)
    }
}

fn count(calls: usize) -> f64 {
    f64::from(u32::try_from(calls).expect("a test makes fewer calls"))
}

/// What the server can do at most, per second, for a client that may have `max` calls in flight.
fn best(server: Server, max: usize) -> f64 {
    f64::from(u32::try_from(server.workers.min(max)).unwrap()) * 1_000.0 / server.service
}

/// Seconds until a second's throughput first reached four fifths of the best.
fn convergence(server: Server, max: usize, seed: u64) -> (Option<u32>, f64) {
    let mut line = Line::new(server, max, seed);
    let mut found = None;
    for second in 1..=30 {
        let rate = line.run(f64::from(second));
        if found.is_none() && rate >= 0.8 * best(server, max) {
            found = Some(second);
        }
    }
    let from = line.done;
    line.run(60.0);
    let steady = count(line.done - from) / 30.0 / best(server, max);
    (found, steady)
}

#[test]
fn a_good_value_is_found_within_ten_seconds() {
    for service in [50.0, 200.0, 1_000.0] {
        for (workers, refuses) in [(10, false), (30, false), (100, false), (10, true), (30, true)] {
            let server = Server { refuses, ..Server::new(workers, service) };
            let (mut slowest, mut least) = (0, 1.0_f64);
            for seed in 0..4 {
                let (found, steady) = convergence(server, 64, seed);
                let found = found
                    .unwrap_or_else(|| panic!("{server:?}, seed {seed}: no good value in half a minute"));
                (slowest, least) = (slowest.max(found), least.min(steady));
            }
            println!(
                "{service} ms, {workers} workers, refuses {refuses}: four fifths of the best after {slowest} s, \
                 later {:.0} %",
                least * 100.0
            );
            assert!(slowest <= 10, "{server:?}: {slowest} s");
            assert!(least >= 0.7, "{server:?}: {least}");
        }
    }
}

#[test]
fn the_line_before_a_slow_server_stays_short() {
    for service in [50.0, 200.0, 1_000.0] {
        let server = Server::new(10, service);
        let mut line = Line::new(server, 1_000, 1);
        line.run(60.0);
        let mut most = 0;
        for second in 61..=120 {
            line.run(f64::from(second));
            most = most.max(line.limit.limit(1_000));
        }
        println!("{service} ms, 10 workers: at most {most} in flight");
        assert!(most <= 40, "{most}");
    }
}

#[test]
fn an_outage_is_left_behind_within_seconds() {
    for service in [50.0, 200.0, 1_000.0] {
        let server = Server::new(100, service);
        let mut line = Line::new(server, 64, 1);
        line.run(30.0);
        assert_eq!(line.limit.limit(64), 64);
        line.change(Server { is_down: true, ..server });
        line.run(60.0);
        assert_eq!(line.limit.limit(64), 1);
        line.change(server);
        line.run(70.0);
        let limit = line.limit.limit(64);
        println!("{service} ms: {limit} in flight ten seconds after an outage");
        assert!(limit >= 40, "{limit}");
    }
}

#[test]
fn a_server_that_became_slower_is_not_starved() {
    let mut line = Line::new(Server::new(100, 50.0), 64, 1);
    line.run(30.0);
    line.change(Server::new(100, 600.0));
    line.run(60.0);
    let rate = line.run(90.0);
    println!("50 ms became 600 ms: {rate:.0} calls per second, {} in flight", line.limit.limit(64));
    assert!(rate >= 0.7 * best(Server::new(100, 600.0), 64), "{rate}");
}

#[test]
fn an_unknown_server_is_not_hurt_at_first() {
    let line = Line::new(Server::new(1, 50.0), 10_000, 1);
    assert_eq!(line.limit.limit(10_000), 4);
    assert_eq!(line.limit.limit(2), 2, "never above what is configured");
}

#[test]
fn a_server_that_does_less_with_more_calls_is_used_where_it_does_most() {
    for service in [20.0, 50.0, 200.0] {
        for power in [1.5, 2.0, 3.0] {
            let server = Server { degrades: Some((8.0, power)), ..Server::new(1_000, service) };
            let (mut least, mut most) = (1.0_f64, 0);
            for seed in 0..4 {
                let mut line = Line::new(server, 64, seed);
                line.run(30.0);
                least = least.min(line.run(90.0) * service / 8_000.0);
                most = most.max(line.limit.limit(64));
            }
            println!(
                "{service} ms, slower beyond 8 by power {power}: {:.0} %, {most} in flight",
                least * 100.0
            );
            // Without the comparison: 0.37 to 0.62 at 20 ms, 0.50 to 0.72 at 50 ms, and as now at 200 ms.
            assert!(least >= 0.6, "{server:?}: {least}");
        }
    }
}

#[test]
fn a_few_refusals_among_hundreds_do_not_lower_the_limit() {
    for service in [5.0, 20.0, 50.0, 200.0] {
        let server = Server { refused_share: 0.005, ..Server::new(1_000, service) };
        let mut line = Line::new(server, 64, 1);
        line.run(30.0);
        let share = line.run(90.0) / best(server, 64);
        println!("{service} ms, 0.5 % refused: {:.0} %", share * 100.0);
        assert!(share >= 0.7, "{share}");
    }
}
