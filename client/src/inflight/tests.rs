//! Goal: whatever the network and the server do, no append is written twice,
//! none that was acked is missing, order holds, and a failed one is not in the
//! log unless it was said that it may be.
//!
//! Method: a model of the server that keeps the contract, connections that
//! break at any moment and whose requests may still arrive later, and refusals
//! of every kind at random; then the log is compared with what the client was
//! told. Each run prints its seed on failure.

use std::collections::{BTreeMap, VecDeque};

use super::*;

type Flight = Inflight<u32, &'static str>;

fn sent(flight: &mut Flight) -> Vec<(u64, u32)> {
    let mut out = Vec::new();
    while let Some(entry) = flight.send(1) {
        out.push((entry.sequence, entry.payload));
    }
    out
}

fn flight(payloads: std::ops::Range<u32>) -> Flight {
    let mut flight = Inflight::new(5);
    for payload in payloads {
        flight.push(payload, 10);
    }
    flight
}

#[test]
fn answers_move_the_mark_below_which_nothing_is_needed() {
    let mut flight = flight(0..3);
    assert_eq!(sent(&mut flight), [(5, 0), (6, 1), (7, 2)]);
    assert_eq!((flight.in_flight(), flight.in_flight_bytes()), (3, 30));
    assert_eq!(flight.answered_below(), 5);
    assert_eq!(flight.answer(Answer::Accepted), Some(0));
    assert_eq!(flight.answered_below(), 6);
    assert_eq!(flight.answer(Answer::Forgotten), Some(1));
    assert_eq!(flight.answer(Answer::Accepted), Some(2));
    assert_eq!(flight.answered_below(), 8);
    assert!(flight.is_empty() && !flight.is_drained());
}

#[test]
fn a_refusal_moves_the_rest_up_when_every_answer_is_there() {
    let mut flight = flight(0..3);
    sent(&mut flight);
    flight.answer(Answer::Refused("bad"));
    assert!(!flight.is_drained());
    flight.push(3, 10);
    assert_eq!(sent(&mut flight), [], "nothing is sent during a drain");
    flight.answer(Answer::Gap { next: 5 });
    flight.answer(Answer::Gap { next: 5 });
    assert!(flight.is_drained());
    let failed = Failed { payload: 0, error: "bad", maybe_written: false };
    assert_eq!(flight.settle(true), Settled::Renumbered(vec![failed]));
    assert_eq!(sent(&mut flight), [(5, 1), (6, 2), (7, 3)]);
}

#[test]
fn what_can_be_accepted_later_keeps_its_number() {
    let mut flight = flight(0..2);
    sent(&mut flight);
    flight.answer(Answer::Later);
    flight.answer(Answer::Gap { next: 5 });
    assert_eq!(flight.settle(true), Settled::Resend);
    assert_eq!(sent(&mut flight), [(5, 0), (6, 1)]);
}

#[test]
fn a_broken_stream_changes_no_number() {
    let mut flight = flight(0..3);
    sent(&mut flight);
    flight.answer(Answer::Accepted);
    flight.broke();
    assert_eq!(flight.settle(true), Settled::Resend);
    assert_eq!(sent(&mut flight), [(6, 1), (7, 2)]);
}

#[test]
fn numbers_do_not_move_past_an_old_copy_without_a_fence() {
    let mut flight = flight(0..3);
    sent(&mut flight);
    flight.broke();
    assert_eq!(flight.settle(true), Settled::Resend);
    sent(&mut flight);
    flight.answer(Answer::Refused("bad"));
    flight.answer(Answer::Gap { next: 5 });
    flight.answer(Answer::Gap { next: 5 });
    assert_eq!(flight.settle(true), Settled::Fence);
    // The old copy of 5 had arrived before the fence: it is in the log.
    let failed = flight.fenced(6);
    assert_eq!(failed, [Failed { payload: 0, error: "bad", maybe_written: true }]);
    assert_eq!(sent(&mut flight), [(6, 1), (7, 2)]);
}

#[test]
fn a_gap_at_the_front_goes_on_from_where_the_server_stands() {
    let mut flight = flight(0..2);
    sent(&mut flight);
    flight.answer(Answer::Gap { next: 3 });
    flight.answer(Answer::Gap { next: 3 });
    assert_eq!(flight.settle(true), Settled::Renumbered(vec![]));
    assert_eq!(sent(&mut flight), [(3, 0), (4, 1)]);
}

#[test]
fn a_forgotten_producer_is_renewed_only_when_nothing_is_on_its_way() {
    let mut renewed = flight(0..2);
    sent(&mut renewed);
    renewed.answer(Answer::NoProducer("who"));
    renewed.answer(Answer::NoProducer("who"));
    assert_eq!(renewed.settle(true), Settled::Renew);
    renewed.renewed(1);
    assert_eq!(sent(&mut renewed), [(1, 0), (2, 1)]);

    let mut named = flight(0..1);
    sent(&mut named);
    named.answer(Answer::NoProducer("who"));
    assert_eq!(named.settle(false), Settled::Lost("who"));

    let mut unknown = flight(0..1);
    sent(&mut unknown);
    unknown.broke();
    assert_eq!(unknown.settle(true), Settled::Resend);
    sent(&mut unknown);
    unknown.answer(Answer::NoProducer("who"));
    assert_eq!(unknown.settle(true), Settled::Lost("who"));
}

#[test]
fn giving_up_tells_what_was_ever_sent() {
    let mut flight = flight(0..2);
    flight.send(1);
    let given_up: Vec<_> = flight.give_up().collect();
    assert_eq!(given_up, [(0, true), (1, false)]);
}

/// SplitMix64: enough for choosing, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// One copy of an append on its way.
#[derive(Clone, Copy)]
struct Copy {
    epoch: u64,
    sequence: u64,
    payload: u32,
}

/// A server that keeps the contract, over connections that it may still read
/// from after the client has given them up.
struct Server {
    epoch: u64,
    next: u64,
    accepted: BTreeMap<u64, u32>,
    log: Vec<u32>,
    connections: Vec<VecDeque<Copy>>,
    answers: VecDeque<Answer<&'static str>>,
}

impl Server {
    fn new() -> Self {
        Self {
            epoch: 1,
            next: 5,
            accepted: BTreeMap::new(),
            log: Vec::new(),
            connections: vec![VecDeque::new()],
            answers: VecDeque::new(),
        }
    }

    /// Reads one request from any connection that still has one.
    fn step(&mut self, chance: &mut Chance) {
        let waiting: Vec<usize> = (0..self.connections.len()).filter(|at| !self.connections[*at].is_empty()).collect();
        if waiting.is_empty() {
            return;
        }
        let at = waiting[chance.next() as usize % waiting.len()];
        let copy = self.connections[at].pop_front().expect("it has one");
        let answer = self.decide(copy, chance);
        if at + 1 == self.connections.len() {
            self.answers.push_back(answer);
        }
    }

    fn decide(&mut self, copy: Copy, chance: &mut Chance) -> Answer<&'static str> {
        // Admission comes first and knows nothing of duplicates.
        if copy.payload.is_multiple_of(7) && !chance.one_in(3) {
            return Answer::Refused("bad");
        }
        if chance.one_in(20) {
            return Answer::Later;
        }
        if copy.epoch < self.epoch {
            return Answer::Refused("fenced");
        }
        match self.accepted.get(&copy.sequence) {
            Some(payload) => {
                assert_eq!(*payload, copy.payload, "a number was used for two appends");
                return Answer::Accepted;
            }
            None if copy.sequence > self.next => return Answer::Gap { next: self.next },
            None => {}
        }
        assert_eq!(copy.sequence, self.next, "a number below the next one was never used");
        self.accepted.insert(copy.sequence, copy.payload);
        self.log.push(copy.payload);
        self.next += 1;
        if chance.one_in(40) { Answer::Unknown } else { Answer::Accepted }
    }

    fn reconnect(&mut self, chance: &mut Chance) {
        self.answers.clear();
        // What was on its way may be lost, or a part of it arrives later.
        let last = self.connections.last_mut().expect("there is one");
        let kept = chance.next() as usize % (last.len() + 1);
        last.truncate(kept);
        self.connections.push(VecDeque::new());
    }
}

struct Told {
    acked: Vec<u32>,
    failed: Vec<u32>,
    maybe: Vec<u32>,
}

fn settle(flight: &mut Flight, server: &mut Server, told: &mut Told) {
    let failed = match flight.settle(true) {
        Settled::Resend => vec![],
        Settled::Renumbered(failed) => failed,
        Settled::Fence => {
            server.epoch += 1;
            flight.fenced(server.next)
        }
        Settled::Renew | Settled::Lost(_) => panic!("the producer is never forgotten here"),
    };
    for entry in failed {
        if entry.maybe_written { &mut told.maybe } else { &mut told.failed }.push(entry.payload);
    }
}

fn run(seed: u64) {
    let mut chance = Chance(seed);
    let mut server = Server::new();
    let mut flight: Flight = Inflight::new(5);
    let mut told = Told { acked: vec![], failed: vec![], maybe: vec![] };
    let mut pushed = 0;
    for _ in 0..100_000 {
        match chance.next() % 8 {
            0 if pushed < 60 => {
                flight.push(pushed, 1);
                pushed += 1;
            }
            1 | 2 if flight.in_flight() < 6 => {
                if let Some(entry) = flight.send(1) {
                    let copy = Copy { epoch: server.epoch, sequence: entry.sequence, payload: entry.payload };
                    server.connections.last_mut().expect("there is one").push_back(copy);
                }
            }
            3 | 4 => server.step(&mut chance),
            5 | 6 => {
                if let Some(answer) = server.answers.pop_front() {
                    told.acked.extend(flight.answer(answer));
                }
            }
            _ if chance.one_in(10) => {
                server.reconnect(&mut chance);
                flight.broke();
            }
            _ => {}
        }
        if flight.is_drained() {
            settle(&mut flight, &mut server, &mut told);
        }
        if pushed == 60 && flight.is_empty() {
            break;
        }
    }
    assert!(flight.is_empty(), "the run came to an end");
    let position = |payload: &u32| server.log.iter().position(|other| other == payload);
    assert!(server.log.is_sorted_by(|a, b| a < b), "in order and once: {:?}", server.log);
    assert!(told.acked.iter().all(|payload| position(payload).is_some()), "acked and missing");
    assert!(told.failed.iter().all(|payload| position(payload).is_none()), "failed and written");
    assert_eq!(told.acked.len() + told.failed.len() + told.maybe.len(), 60, "each has one answer");
}

#[test]
fn nothing_is_lost_or_written_twice_whatever_breaks() {
    for seed in 0..3_000 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "the run failed seed={seed}");
    }
}
