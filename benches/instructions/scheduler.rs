//! The scheduler: an envelope is offered, started and finished, each in a lane of its own.

use std::sync::Arc;
use std::time::Duration;

use wigzo_destination::clock::UnixMillis;
use wigzo_destination::delivery::scheduler::{
    Answer, EndpointNews, Finish, Finished, Item, LaneKey, Limits, News, Scheduler, Share, Waits,
};
use wigzo_destination::queue::Seq;
use wigzo_destination::wigzo::Endpoint;

/// Organizations among which the turn goes round.
pub(crate) const MANY: usize = 1_000;

/// One organization has everything.
pub(crate) fn one(rounds: usize) {
    schedule(1, rounds);
}

/// Each of many organizations has an envelope.
pub(crate) fn many(rounds: usize) {
    schedule(MANY, rounds);
}

fn schedule(organizations: usize, rounds: usize) {
    let probes = |base| Waits { base: Duration::from_secs(base), cap: Duration::from_mins(10) };
    let mut scheduler = Scheduler::new(Limits {
        in_flight: 256,
        window: 1_000,
        window_bytes: 16 << 20,
        refused: probes(30),
        failing: probes(1),
        failing_lanes: 10,
        lane_hold: Some(Duration::from_mins(15)),
    });
    let names: Vec<Arc<str>> =
        (0..organizations).map(|n| Arc::from(format!("organization-{n:04}"))).collect();
    let mut now = UnixMillis(1_767_323_101_200);
    let share = Share { weight: 1, max_in_flight: 64, rate: None };
    for name in &names {
        scheduler.serve(name, share, now);
    }
    // Nothing waits on disk: from now on what is offered is taken.
    loop {
        let reads = scheduler.reads(now);
        if reads.is_empty() {
            break;
        }
        for read in &reads {
            scheduler.read(read, Vec::new(), now);
        }
    }
    let good = EndpointNews {
        answer: Answer::Good,
        answered: true,
        latency: Some(Duration::from_millis(20)),
        attempts: 1,
        ..EndpointNews::default()
    };
    let good = News::at(Endpoint::Event, good);
    let mut seq = 0;
    for _ in 0..rounds {
        for name in &names {
            seq += 1;
            let lane = LaneKey::of(&format!("user-{:04}", seq % 5_000));
            let item = Item {
                seq: Seq(seq),
                lane,
                due: None,
                failing_since: None,
                endpoint: Endpoint::Event,
                size: 1_200,
                load: (),
            };
            scheduler.offer(name, item, now);
        }
        let mut ended = 0;
        while ended < names.len() {
            scheduler.tick(now);
            let started: Vec<_> = std::iter::from_fn(|| scheduler.start(now)).collect();
            assert!(!started.is_empty(), "nothing holds them back");
            now = now.plus(Duration::from_millis(20));
            for (mut ticket, _, permit) in started {
                ended += 1;
                scheduler.called(&mut ticket, Some(permit), &good, now);
                assert!(matches!(
                    scheduler.finish(ticket, Finish::Ended, News::default(), now),
                    Finished::Done
                ));
            }
        }
    }
}
