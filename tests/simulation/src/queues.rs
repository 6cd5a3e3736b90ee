//! Calls, replies and pushes on their way over the connections of a lane.

use std::collections::VecDeque;

use crate::{listeners::Told, question::Question};

/// The state of a lane.
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// Counts the connections: what waits for one does not go on over its successor.
    number: u64,
    pub(crate) queues: Vec<Queues>,
    /// The calls whose replies will not come, and whose callers do not know it yet.
    pub(crate) forsaken: Vec<Box<dyn Question>>,
    pub(crate) is_stalled: bool,
    pub(crate) is_deaf: bool,
    /// Whether the lane itself cuts or restores a connection just now.
    pub(crate) is_switching: bool,
    /// Unless the lane is in service and hears: the moment up to which the process has heard of
    /// everything.
    pub(crate) heard: u64,
}

/// The phases of a lane's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Calls go over it.
    InService,
    /// Calls go over it, and the process is yet to be told once more that the one before is lost.
    Installed,
    /// It is lost, and the process does not know it yet.
    Lost,
    /// It is lost, and the process knows.
    Away,
}

/// One connection.
#[derive(Default)]
pub(crate) struct Queues {
    /// Calls that were sent, and have not taken effect.
    pub(crate) requests: VecDeque<Box<dyn Question>>,
    /// Replies and pushes, each with the moment at which the server sent it.
    pub(crate) inbound: VecDeque<(u64, Arrival)>,
    /// While a call takes effect: the pushes that it causes for this connection.
    pub(crate) own: Option<Vec<Told>>,
}

/// Something that arrives at a process.
pub(crate) enum Arrival {
    Told(Told),
    Reply(Box<dyn Question>),
}

impl State {
    pub(crate) fn new(wires: usize) -> Self {
        Self {
            phase: Phase::InService,
            number: 0,
            queues: (0..wires).map(|_| Queues::default()).collect(),
            forsaken: Vec::new(),
            is_stalled: false,
            is_deaf: false,
            is_switching: false,
            heard: 0,
        }
    }

    pub(crate) fn is_in_service(&self) -> bool {
        matches!(self.phase, Phase::InService | Phase::Installed)
    }

    /// Whether the server has a connection to send to.
    pub(crate) fn is_connected(&self) -> bool {
        self.is_in_service()
    }

    /// The moment up to which the process has heard of everything that the server told it.
    pub(crate) fn heard(&self, now: u64) -> u64 {
        if self.is_deaf || self.phase != Phase::InService {
            return self.heard;
        }
        let sent = self.queues.iter().flat_map(|queues| &queues.inbound);
        let told = sent.filter(|(_, arrival)| matches!(arrival, Arrival::Told(_)));
        told.map(|(at, _)| *at).min().unwrap_or(now)
    }

    /// The connection over which the next call may take effect, if there is a call.
    pub(crate) fn next_request(&self, wire: usize) -> Option<u64> {
        let is_next = !self.is_stalled && !self.queues[wire].requests.is_empty();
        is_next.then_some(self.number)
    }

    pub(crate) fn take_request(&mut self, wire: usize, number: u64) -> Option<Box<dyn Question>> {
        self.next_request(wire).filter(|next| *next == number)?;
        self.queues[wire].requests.pop_front()
    }

    /// The connection over which something arrives next, if there is something.
    pub(crate) fn next_arrival(&self, wire: usize) -> Option<u64> {
        let is_next = !self.is_stalled && !self.queues[wire].inbound.is_empty();
        is_next.then_some(self.number)
    }

    pub(crate) fn take_arrival(&mut self, wire: usize, number: u64) -> Option<Arrival> {
        self.next_arrival(wire).filter(|next| *next == number)?;
        self.queues[wire]
            .inbound
            .pop_front()
            .map(|(_, arrival)| arrival)
    }

    /// Loses the connections. Returns the calls of each that arrive at the server all the same.
    pub(crate) fn lose(&mut self, now: u64) -> Vec<Vec<Box<dyn Question>>> {
        self.heard = self.heard(now);
        self.phase = Phase::Lost;
        self.number += 1;
        (self.is_stalled, self.is_deaf) = (false, false);
        let mut strays = Vec::new();
        for queues in &mut self.queues {
            for (_, arrival) in std::mem::take(&mut queues.inbound) {
                if let Arrival::Reply(question) = arrival {
                    self.forsaken.push(question);
                }
            }
            let mut sent = Vec::from(std::mem::take(&mut queues.requests));
            let lost = sent.split_off(fastrand::usize(0..=sent.len()));
            self.forsaken.extend(lost);
            sent.iter_mut().for_each(|question| question.forsake());
            strays.push(sent);
        }
        strays
    }

    /// Takes new connections into service.
    pub(crate) fn install(&mut self) {
        self.phase = Phase::Installed;
    }
}
