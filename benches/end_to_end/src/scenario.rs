//! The scenarios: what is sent, what is looked at, and the tables that come of it.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Run;
use crate::load::{self, Content, Plan, Sent};
use crate::program::{Program, Running};
use crate::stand_in::{self, Manner};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Delivered events per second, one event a request.
    Single,
    /// Delivered events per second, 50 events a request.
    Batch,
    /// Events of every kind, some of them refused or filtered, with a Wigzo that fails now and then.
    Mixed,
    /// Time until the reply at half of the service's own greatest load, with a Wigzo that answers at once, after 500 ms, never.
    Latency,
    /// Processor time at 10, 100, 1 000 and 5 000 events a second: commits are shared by few then.
    Pace,
    /// Delivered events per second when Wigzo takes 50 ms, 200 ms and 1 s.
    SlowWigzo,
    /// 1 000 organizations with skewed traffic, beside one.
    Organizations,
    /// A million waiting events: memory, disk, start, and how fast they drain, alone and under load.
    Backlog,
}

impl Scenario {
    const ALL: [Self; 8] = [
        Self::Single,
        Self::Batch,
        Self::Mixed,
        Self::Latency,
        Self::Pace,
        Self::SlowWigzo,
        Self::Organizations,
        Self::Backlog,
    ];
}

const PROGRAMS: [Program; 6] =
    [Program::Ours, Program::Guided, Program::Bare, Program::Fastify, Program::Bullmq, Program::Nginx];

/// How long a program may go without a call while events are due before the round counts as failed.
const STUCK: Duration = Duration::from_secs(60);

/// One program in one round.
struct Figures {
    /// Delivered events per second, from the first request until the last call was answered.
    delivered: f64,
    /// Accepted events per second while load was sent.
    accepted: f64,
    /// Microseconds of CPU for each delivered event.
    cpu: f64,
    /// Bytes.
    peak_memory: u64,
    sent: Sent,
}

pub async fn run(run: &Run) -> Result<(), Box<dyn std::error::Error>> {
    machine();
    let scenarios = if run.scenarios.is_empty() { &Scenario::ALL[..] } else { &run.scenarios };
    for scenario in scenarios {
        match scenario {
            Scenario::Single => throughput(run, 1).await?,
            Scenario::Batch => throughput(run, 50).await?,
            Scenario::Mixed => mixed(run).await?,
            Scenario::Latency => latency(run).await?,
            Scenario::Pace => pace(run).await?,
            Scenario::SlowWigzo => slow_wigzo(run).await?,
            Scenario::Organizations => organizations(run).await?,
            Scenario::Backlog => backlog(run).await?,
        }
    }
    Ok(())
}

impl Run {
    fn wants(&self, program: Program) -> bool {
        let named = self.programs.contains(&program);
        let is_there = program != Program::Guided || self.guided.exists();
        named || (self.programs.is_empty() && is_there)
    }

    fn binary(&self, program: Program) -> &Path {
        if program == Program::Guided { &self.guided } else { &self.binary }
    }

    fn plan(&self, content: Content) -> Plan {
        Plan {
            connections: self.connections,
            content,
            lasting: Duration::from_secs(self.seconds),
            rate: None,
            events: u64::MAX,
            organizations: 1,
        }
    }

    async fn measure(
        &self,
        program: Program,
        plan: Plan,
        manner: Manner,
    ) -> Result<Figures, Box<dyn std::error::Error>> {
        let stand_in = Running::stand_in(manner)?;
        let running = Running::start(program, self.binary(program), stand_in.address, plan.organizations)?;
        let warm = load::send(running.address, plan.warm_up()).await?;
        drained(stand_in.address, warm.accepted, program).await?;
        let (cpu, began) = (running.cpu(), Instant::now());
        let sent = load::send(running.address, plan).await?;
        let accepting = began.elapsed();
        drained(stand_in.address, warm.accepted + sent.accepted, program).await?;
        let (took, cpu) = (began.elapsed(), running.cpu() - cpu);
        let events = sent.accepted as f64;
        Ok(Figures {
            delivered: events / took.as_secs_f64(),
            accepted: events / accepting.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e6 / events,
            peak_memory: running.peak_memory(),
            sent,
        })
    }
}

/// Waits until the stand-in has answered so many calls.
async fn drained(
    stand_in: SocketAddr,
    expected: u64,
    program: Program,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut before, mut moved_at) = (0, Instant::now());
    loop {
        let count = stand_in::count(stand_in).await?;
        if count >= expected {
            return Ok(());
        }
        if count > before {
            (before, moved_at) = (count, Instant::now());
        }
        if moved_at.elapsed() > STUCK {
            return Err(format!("{} delivered {count} of {expected} events", program.name()).into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Measures the programs in turns; each one's rounds.
async fn in_turns<T>(
    run: &Run,
    programs: &[Program],
    mut measure: impl AsyncFnMut(Program) -> Result<T, Box<dyn std::error::Error>>,
) -> Result<Vec<Vec<T>>, Box<dyn std::error::Error>> {
    let mut rounds: Vec<Vec<T>> = programs.iter().map(|_| Vec::new()).collect();
    for round in 1..=run.rounds {
        for (program, rounds) in programs.iter().zip(&mut rounds) {
            eprintln!("round {round} of {}: {}", run.rounds, program.name());
            rounds.push(measure(*program).await?);
        }
    }
    Ok(rounds)
}

async fn throughput(run: &Run, per_request: usize) -> Result<(), Box<dyn std::error::Error>> {
    let programs: Vec<_> = PROGRAMS
        .into_iter()
        .filter(|program| run.wants(*program) && (per_request == 1 || program.takes_batches()))
        .collect();
    let plan = run.plan(Content::Tracks(per_request));
    let rounds =
        in_turns(run, &programs, async |program| run.measure(program, plan, Manner::default()).await).await?;
    println!(
        "\n## {per_request} event(s) a request, {} connections, medians of {}\n",
        run.connections, run.rounds
    );
    println!(
        "| program | on disk before 200 | delivered/s | accepted/s | CPU µs/event | p50 ms | p99 ms | peak MB | refused |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (program, figures) in programs.iter().zip(&rounds) {
        println!(
            "| {} | {} | {:.0} | {:.0} | {:.1} | {:.2} | {:.2} | {:.0} | {} |",
            program.name(),
            if program.is_durable() { "yes" } else { "no" },
            median(figures, |it| it.delivered),
            median(figures, |it| it.accepted),
            median(figures, |it| it.cpu),
            median(figures, |it| millis(&it.sent, 0.5)),
            median(figures, |it| millis(&it.sent, 0.99)),
            median(figures, |it| it.peak_memory as f64 / 1e6),
            figures.iter().map(|it| it.sent.refused).sum::<u64>(),
        );
    }
    Ok(())
}

/// What one call costs is not what an event costs here: some become several, some none.
async fn mixed(run: &Run) -> Result<(), Box<dyn std::error::Error>> {
    println!("\n## Events of every kind, {} connections, medians of {}\n", run.connections, run.rounds);
    println!("| program | accepted events/s | calls per event | CPU µs/event | requests refused |");
    println!("| --- | --- | --- | --- | --- |");
    let programs: Vec<_> =
        [Program::Ours, Program::Guided].into_iter().filter(|program| run.wants(*program)).collect();
    let rounds = in_turns(run, &programs, async |program| {
        let stand_in = Running::stand_in(Manner { failing: NonZeroU64::new(1_000), ..Manner::default() })?;
        let running = Running::start(program, run.binary(program), stand_in.address, 1)?;
        let sent = load::send(running.address, run.plan(Content::Mixed)).await?;
        let calls = quiet(stand_in.address).await?;
        let cpu = running.cpu().as_secs_f64() * 1e6 / sent.accepted as f64;
        Ok((sent, calls, cpu))
    })
    .await?;
    for (program, rounds) in programs.iter().zip(&rounds) {
        println!(
            "| {} | {:.0} | {:.2} | {:.1} | {} |",
            program.name(),
            median(rounds, |(sent, ..)| sent.accepted as f64 / run.seconds as f64),
            median(rounds, |(sent, calls, _)| *calls as f64 / sent.accepted as f64),
            median(rounds, |(.., cpu)| *cpu),
            rounds.iter().map(|(sent, ..)| sent.refused).sum::<u64>(),
        );
    }
    Ok(())
}

/// Waits until the stand-in has had no call for a second; how many it has answered.
async fn quiet(stand_in: SocketAddr) -> std::io::Result<u64> {
    let mut before = stand_in::count(stand_in).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = stand_in::count(stand_in).await?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
}

/// At half of what the service delivers at most, requests are sent at a fixed rate, whatever the answers do.
async fn latency(run: &Run) -> Result<(), Box<dyn std::error::Error>> {
    let most = run.measure(Program::Ours, run.plan(Content::Tracks(1)), Manner::default()).await?.delivered;
    println!(
        "\n## Time until the reply at half of the greatest load ({:.0} requests/s), medians of {}\n",
        most / 2.0,
        run.rounds
    );
    println!("| Wigzo answers | p50 ms | p99 ms | p99.9 ms | refused |");
    println!("| --- | --- | --- | --- | --- |");
    for (name, delay) in [("at once", 0), ("after 500 ms", 500), ("not within the time-out", 3_600_000)] {
        let mut rounds = Vec::new();
        for round in 1..=run.rounds {
            eprintln!("round {round} of {}: {name}", run.rounds);
            let stand_in = Running::stand_in(Manner::slow(Duration::from_millis(delay)))?;
            let running = Running::start(Program::Ours, &run.binary, stand_in.address, 1)?;
            let plan = Plan { rate: Some(most / 2.0), ..run.plan(Content::Tracks(1)) };
            load::send(running.address, plan.warm_up()).await?;
            rounds.push(load::send(running.address, plan).await?);
        }
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} | {} |",
            median(&rounds, |it| millis(it, 0.5)),
            median(&rounds, |it| millis(it, 0.99)),
            median(&rounds, |it| millis(it, 0.999)),
            rounds.iter().map(|it| it.refused).sum::<u64>(),
        );
    }
    Ok(())
}

/// What a program takes of a processor when it has less to do than it could.
async fn pace(run: &Run) -> Result<(), Box<dyn std::error::Error>> {
    println!("\n## Processor time at a steady pace, medians of {}\n", run.rounds);
    println!("| program | events/s | CPU µs/event | of one core |");
    println!("| --- | --- | --- | --- |");
    for program in [Program::Ours, Program::Bare].into_iter().filter(|program| run.wants(*program)) {
        for rate in [10.0, 100.0, 1_000.0, 5_000.0] {
            let mut rounds = Vec::new();
            for round in 1..=run.rounds {
                eprintln!("round {round} of {}: {}, {rate} events/s", run.rounds, program.name());
                let plan = Plan { rate: Some(rate), ..run.plan(Content::Tracks(1)) };
                rounds.push(run.measure(program, plan, Manner::default()).await?);
            }
            let cpu = median(&rounds, |it| it.cpu);
            println!("| {} | {rate} | {cpu:.0} | {:.1} % |", program.name(), cpu * rate / 1e4);
        }
    }
    Ok(())
}

async fn slow_wigzo(run: &Run) -> Result<(), Box<dyn std::error::Error>> {
    println!("\n## A slow Wigzo, {} connections, medians of {}\n", run.connections, run.rounds);
    println!("| Wigzo answers after | accepted/s | delivered/s | CPU µs/event |");
    println!("| --- | --- | --- | --- |");
    for delay in [50, 200, 1_000] {
        let mut rounds = Vec::new();
        for round in 1..=run.rounds {
            eprintln!("round {round} of {}: {delay} ms", run.rounds);
            // A backlog that any sane concurrency drains within the round's patience.
            let plan = Plan { rate: Some(2_000.0), ..run.plan(Content::Tracks(1)) };
            rounds.push(run.measure(Program::Ours, plan, Manner::slow(Duration::from_millis(delay))).await?);
        }
        println!(
            "| {delay} ms | {:.0} | {:.0} | {:.1} |",
            median(&rounds, |it| it.accepted),
            median(&rounds, |it| it.delivered),
            median(&rounds, |it| it.cpu)
        );
    }
    Ok(())
}

async fn organizations(run: &Run) -> Result<(), Box<dyn std::error::Error>> {
    println!("\n## Many organizations, {} connections, medians of {}\n", run.connections, run.rounds);
    println!("| organizations | delivered/s | CPU µs/event |");
    println!("| --- | --- | --- |");
    let mut rounds = [Vec::new(), Vec::new()];
    let counts = [1, 1_000];
    for round in 1..=run.rounds {
        for (count, rounds) in counts.iter().zip(&mut rounds) {
            eprintln!("round {round} of {}: {count} organizations", run.rounds);
            let plan = Plan { organizations: *count, ..run.plan(Content::Tracks(1)) };
            rounds.push(run.measure(Program::Ours, plan, Manner::default()).await?);
        }
    }
    for (count, rounds) in counts.iter().zip(&rounds) {
        println!(
            "| {count} | {:.0} | {:.1} |",
            median(rounds, |it| it.delivered),
            median(rounds, |it| it.cpu)
        );
    }
    Ok(())
}

async fn backlog(run: &Run) -> Result<(), Box<dyn std::error::Error>> {
    eprintln!("the same load without a backlog");
    let steady = run.measure(Program::Ours, run.plan(Content::Tracks(1)), Manner::default()).await?;
    let silent = Running::stand_in(Manner::slow(Duration::from_secs(3_600)))?;
    let mut running = Running::start(Program::Ours, &run.binary, silent.address, 1)?;
    let (ready_empty, idle) = (running.ready_after, running.memory());
    eprintln!("filling a backlog of {} events", run.backlog);
    let plan =
        Plan { lasting: Duration::from_secs(600), events: run.backlog, ..run.plan(Content::Tracks(50)) };
    let sent = load::send(running.address, plan).await?;
    let (filled, on_disk) = (running.memory(), running.disk()?);
    let awake = Running::stand_in(Manner::default())?;
    running.restart_ours(&run.binary, awake.address)?;
    let ready_filled = running.ready_after;
    eprintln!("draining it under load");
    let plan = run.plan(Content::Tracks(1));
    let warm = load::send(running.address, plan.warm_up()).await?;
    let (before, began) = (stand_in::count(awake.address).await?, Instant::now());
    let beside = load::send(running.address, plan).await?;
    let (took, after) = (began.elapsed().as_secs_f64(), stand_in::count(awake.address).await?);
    let (beside_accepted, beside_delivered) = (beside.accepted as f64 / took, (after - before) as f64 / took);
    if after >= sent.accepted {
        return Err("the backlog was gone before the load was: a larger one is needed (--backlog)".into());
    }
    eprintln!("draining the rest");
    let (began, accepted) = (Instant::now(), sent.accepted + warm.accepted + beside.accepted);
    drained(awake.address, accepted, Program::Ours).await?;
    let (rate, peak) = ((accepted - after) as f64 / began.elapsed().as_secs_f64(), running.peak_memory());
    // Space is given back when there is nothing else to do.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (raw, mb) = (sent.accepted as f64 * 1_024.0, |bytes: u64| bytes as f64 / 1e6);
    println!("\n## A backlog of {} events\n", sent.accepted);
    println!("| figure | |\n| --- | --- |");
    println!("| ready after start, empty | {:.0} ms |", ready_empty.as_secs_f64() * 1e3);
    println!("| ready after a kill, with the backlog | {:.0} ms |", ready_filled.as_secs_f64() * 1e3);
    println!("| memory idle | {:.0} MB |", mb(idle));
    println!("| memory with the backlog | {:.0} MB |", mb(filled));
    println!("| greatest memory while it drains | {:.0} MB |", mb(peak));
    println!(
        "| disk with the backlog | {:.0} MB, {:.2} × the events' bytes |",
        mb(on_disk),
        on_disk as f64 / raw
    );
    println!("| disk 10 s after it is gone | {:.0} MB |", mb(running.disk()?));
    println!("| drained, nothing else to do | {rate:.0} events/s |");
    println!(
        "| under load without a backlog | {:.0} accepted/s, {:.0} delivered/s |",
        steady.accepted, steady.delivered
    );
    println!(
        "| the same load, with the backlog | {beside_accepted:.0} accepted/s, {beside_delivered:.0} delivered/s |"
    );
    Ok(())
}

fn millis(sent: &Sent, quantile: f64) -> f64 {
    sent.latency.value_at_quantile(quantile) as f64 / 1e3
}

fn median<T>(all: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut figures: Vec<f64> = all.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The facts without which a figure says nothing.
fn machine() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |it| it.1);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory: u64 = memory.split_whitespace().nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{cores} × {model}, {} GiB, Linux {}", memory >> 20, kernel.trim());
}
