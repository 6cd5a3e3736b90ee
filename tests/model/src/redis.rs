//! The scripts, each an atomic step, and the pushes of their changes.

use crate::{
    Mutant, Protocol,
    state::{Holder, Kind, Lease, Link, Message, Name, Op, Reply, State, Step, Stored},
};

impl Protocol {
    /// Pushes a name to each connection that tracks it, also to the one that changed it, and ends
    /// the tracking. On the bus, the process that changed it ignores the message.
    pub(crate) fn tell(&self, state: &mut State, name: Name, writer: Option<usize>) {
        for at in 0..state.processes.len() {
            if self.bus {
                let tells =
                    writer.is_some() && writer != Some(at) && !self.is(Mutant::ScriptsAreSilent);
                if tells && state.processes[at].subscribed && state.processes[at].alive {
                    state.processes[at].channel.push(name);
                }
                continue;
            }
            let tracks = &mut state.redis.tracks[at];
            let tracked = match name {
                Name::Value => &mut tracks.value,
                Name::Lease => &mut tracks.lease,
                Name::Tag => &mut tracks.tag,
                Name::Policy => continue,
            };
            let is_own = self.is(Mutant::NoLoop) && writer == Some(at);
            let told = std::mem::take(tracked) && !is_own && !state.processes[at].deaf;
            if !told {
                continue;
            }
            if name == Name::Tag && self.is(Mutant::TagThroughAnotherLane) {
                state.processes[at].channel.push(name);
            } else {
                state.processes[at].inbox.push(Message::Push(name));
            }
        }
    }

    fn track(&self, state: &mut State, name: Name, reader: usize) {
        if self.bus || self.blind || state.processes[reader].link != Link::Up {
            return;
        }
        let tracks = &mut state.redis.tracks[reader];
        match name {
            Name::Value => tracks.value = true,
            Name::Lease => tracks.lease = true,
            Name::Tag => tracks.tag = true,
            Name::Policy => {}
        }
    }

    /// P33 only-kept-is-tracked: a value, and not its absence. A lane may track both.
    pub(crate) fn get(&self, state: &mut State, by: usize) -> Reply {
        let is_found = state.redis.value.is_some() && !self.is(Mutant::FoundUntracked);
        if is_found || self.tracks_absences {
            self.track(state, Name::Value, by);
        }
        Reply::Value(state.redis.value)
    }

    pub(crate) fn read_tag(&self, state: &mut State, by: usize) -> Reply {
        self.track(state, Name::Tag, by);
        Reply::Tag(state.redis.tag)
    }

    pub(crate) fn claim(&self, state: &mut State, op: usize, by: usize) -> Reply {
        let is_found = state.redis.value.is_some() && state.redis.value != state.ops[op].replaces;
        if (is_found && !self.is(Mutant::ClaimedUntracked)) || self.tracks_absences {
            self.track(state, Name::Value, by);
        }
        if is_found {
            return Reply::Value(state.redis.value);
        }
        let Some(lease) = state.redis.lease else {
            self.take_lease_for(state, op, Holder::Reader);
            return Reply::Leased;
        };
        if !self.is(Mutant::BusyUntracked) {
            self.track(state, Name::Lease, by);
        }
        Reply::Busy(lease.new_to & bit(op) != 0)
    }

    fn take_lease_for(&self, state: &mut State, op: usize, holder: Holder) {
        state.redis.lease = Some(Lease {
            owner: op,
            holder,
            new_to: refreshes_under_way(state),
        });
        self.tell(state, Name::Lease, Some(state.ops[op].process));
    }

    /// Extends the lease. Its time then no longer tells when it was taken.
    pub(crate) fn renew(&self, state: &mut State) {
        let new_to = self.new_to_after_renewal(state);
        if let Some(lease) = &mut state.redis.lease {
            lease.new_to = new_to;
        }
    }

    pub(crate) fn new_to_after_renewal(&self, state: &State) -> u8 {
        match self.is(Mutant::RenewalLooksNew) {
            true => refreshes_under_way(state),
            false => 0,
        }
    }

    pub(crate) fn begin_write(&self, state: &mut State, op: usize, by: usize) -> Reply {
        if let Some(lease) = state.redis.lease {
            if lease.holder != Holder::Reader && !self.is(Mutant::WriterBreaksWriter) {
                if !self.is(Mutant::BusyUntracked) {
                    self.track(state, Name::Lease, by);
                }
                return Reply::Busy(false);
            }
            if lease.holder == Holder::Reader && self.is(Mutant::WriterLeavesReader) {
                self.delete_value(state, by);
                return Reply::Leased;
            }
        }
        self.delete_value(state, by);
        self.take_lease_for(state, op, Holder::Writer);
        Reply::Leased
    }

    fn delete_value(&self, state: &mut State, by: usize) {
        if state.redis.value.take().is_some() || self.bus {
            self.tell(state, Name::Value, Some(by));
        }
    }

    fn end_lease(&self, state: &mut State, by: usize) {
        if state.redis.lease.take().is_some() {
            self.tell(state, Name::Lease, Some(by));
        }
    }

    pub(crate) fn commit(&self, state: &mut State, op: usize, by: usize) -> Reply {
        let held = state.redis.lease.filter(|lease| lease.owner == op);
        if held.is_none() && !self.is(Mutant::CommitWithoutLease) {
            return Reply::Committed(false);
        }
        if held.is_some() {
            self.end_lease(state, by);
        }
        let is_marked = held.is_some_and(|lease| lease.holder == Holder::Marked);
        // The value that a reload replaces may have expired meanwhile: in the model, an eviction.
        let has_ended =
            state.redis.value.is_none() && matches!(state.ops[op].kind, Kind::Reload { .. });
        let is_as_found = state.redis.value == state.ops[op].replaces || has_ended;
        if (is_marked && !self.is(Mutant::CommitMarked))
            || (!is_as_found
                && !self.is(Mutant::CommitOverForeign)
                && !self.is(Mutant::CommitWithoutLease))
        {
            return Reply::Committed(false);
        }
        state.redis.value = state.ops[op].value;
        self.tell(state, Name::Value, Some(by));
        Reply::Committed(true)
    }

    pub(crate) fn release(&self, state: &mut State, op: usize, by: usize) {
        if state.redis.lease.is_some_and(|lease| lease.owner == op) {
            self.end_lease(state, by);
        }
    }

    /// Invalidates the key; the lease of `own` ends with it.
    pub(crate) fn invalidate(&self, state: &mut State, own: Option<usize>, by: usize) -> Reply {
        self.delete_value(state, by);
        self.invalidate_lease(state, own, by);
        Reply::Done
    }

    pub(crate) fn invalidate_lease(&self, state: &mut State, own: Option<usize>, by: usize) {
        let Some(lease) = state.redis.lease else {
            return;
        };
        let is_own = own == Some(lease.owner);
        match lease.holder {
            Holder::Reader if !is_own && self.is(Mutant::InvalidationLeavesReader) => {}
            Holder::Writer | Holder::Marked
                if !is_own && !self.is(Mutant::InvalidationDeletesWriter) =>
            {
                if !self.is(Mutant::InvalidationDoesNotMark) {
                    state.redis.lease = Some(Lease {
                        holder: Holder::Marked,
                        ..lease
                    });
                    self.tell(state, Name::Lease, Some(by));
                }
            }
            _ => self.end_lease(state, by),
        }
    }

    pub(crate) fn clear_values(&self, state: &mut State, by: usize) -> Reply {
        if state.redis.value.take().is_some() {
            self.tell(state, Name::Value, Some(by));
        }
        if self.bus {
            self.tell(state, Name::Policy, Some(by));
        }
        Reply::Done
    }

    /// Reads E. If the server has lost it, E starts with the server's time.
    pub(crate) fn epoch(&self, state: &mut State) -> u8 {
        if state.redis.epoch == 0 {
            state.redis.epoch = if self.is(Mutant::EpochGoesBack) {
                1
            } else {
                state.redis.time
            };
        }
        state.redis.epoch
    }

    pub(crate) fn invalidate_tag(&self, state: &mut State, by: usize) -> Reply {
        // The time is always larger than E ever was.
        state.redis.time += 1;
        state.redis.epoch = if self.is(Mutant::EpochGoesBack) {
            state.redis.epoch + 1
        } else {
            state.redis.time
        };
        if state.redis.tag.take().is_some() || self.bus {
            self.tell(state, Name::Tag, Some(by));
        }
        Reply::Done
    }

    pub(crate) fn pin_tag(&self, state: &mut State, epoch: u8, by: usize) -> Reply {
        let is_unchanged = state.redis.epoch == epoch || self.is(Mutant::PinWithoutEpoch);
        if state.redis.tag.is_none() && is_unchanged {
            self.create_tag(state, epoch, by);
        }
        self.read_tag(state, by)
    }

    pub(crate) fn create_tag(&self, state: &mut State, epoch: u8, by: usize) {
        if state.redis.tag.is_none() {
            state.redis.tag = Some(epoch);
            self.tell(state, Name::Tag, Some(by));
        }
    }

    /// Writes D, as a foreign program.
    pub(crate) fn set(&self, state: &mut State, version: u8) {
        state.redis.value = Some(Stored {
            version,
            epoch: None,
        });
        self.tell(state, Name::Value, None);
    }
}

fn bit(op: usize) -> u8 {
    1 << op
}

/// The refreshes that have sent their first claim, and not ended.
fn refreshes_under_way(state: &State) -> u8 {
    let is_under_way = |op: &Op| {
        op.kind == Kind::Refresh && op.asked > 0 && !matches!(op.step, Step::Done | Step::Dead)
    };
    let bits = |(nth, op)| if is_under_way(op) { bit(nth) } else { 0 };
    state.ops.iter().enumerate().map(bits).sum()
}
