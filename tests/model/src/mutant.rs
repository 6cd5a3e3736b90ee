/// The protocol without one of its mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// P1: the stamp is taken when the value is there.
    StampAfterRead,
    /// P2: L1 takes what is out of date.
    InsertOutdated,
    /// P2: an advance does not remove the entry that L1 holds.
    AdvanceWithoutRemoval,
    /// P3: a commit does not look whose lease it is.
    CommitWithoutLease,
    /// P3: a commit does not look at the mark.
    CommitMarked,
    /// P3: a commit does not look what D is.
    CommitOverForeign,
    /// P4: what was committed enters L1 without being read.
    KeepUnread,
    /// P5: an invalidation leaves a reader's lease.
    InvalidationLeavesReader,
    /// P5: an invalidation deletes a writer's lease.
    InvalidationDeletesWriter,
    /// P5: an invalidation does not mark a writer's lease.
    InvalidationDoesNotMark,
    /// P6: a writer takes another writer's lease.
    WriterBreaksWriter,
    /// P6: a writer leaves a reader's lease.
    WriterLeavesReader,
    /// P7: own scripts do not wake own waiters.
    OwnScriptsDoNotWake,
    /// P8: a waiter is registered when the answer is there.
    RegisterAfterClaim,
    /// P9: the cell is advanced before the script is sent, and not after its reply.
    AdvanceBeforeScript,
    /// P9: the row's cell is advanced before a clear only.
    ClearAdvancesOnce,
    /// P10: a lost connection advances nothing.
    LossAdvancesNothing,
    /// P10: the cell is advanced, and then the connection is withdrawn.
    AdvanceBeforeWithdrawal,
    /// P11: what could not be sent is forgotten.
    PendingForgotten,
    /// P11: what could not be sent is sent after others read through the lane.
    PendingSentLater,
    /// P12: without tracking, entries live as long as with it.
    TrackingAssumed,
    /// P12: a connection is not told of what is evicted for its own commands.
    NoLoop,
    /// P14: a waiter sleeps until it is told.
    SleepWithoutEnd,
    /// P15: a writer's value enters L1 with its first stamp.
    NoCompareAndAdvance,
    /// P16: an answer of L2 is for all who joined.
    AnswerForAll,
    /// P16: a refused value is for all who joined.
    RefusedForAll,
    /// P16: a committed value is for all who joined.
    CommittedForAll,
    /// P17: replies overtake pushes.
    RepliesOvertakePushes,
    /// P18: a failed writer only gives up its lease.
    FailedWriterKeeps,
    /// P18: a refused writer does nothing more.
    RefusedWriterKeeps,
    /// P21: a value is served whatever its tag.
    TagIgnored,
    /// P21: a missing T is a hit.
    MissingTagIsHeld,
    /// P21: a lost E starts where it first did.
    OrderGoesBack,
    /// P22: E is read after the load.
    OrderAfterLoad,
    /// P23: the tag is not held before the commit.
    CommitWithoutHolding,
    /// P23: T is created whatever E is.
    HoldWithoutOrder,
    /// P23: E is looked at in one step, and T created in another.
    HoldInTwoSteps,
    /// P23: who joins while the tag is held gets what is committed.
    HeldForAll,
    /// P24: a number enters a cell that was made unknown since it was asked for.
    LearnForgotten,
    /// P24: a lost lane forgets no tags.
    LossKeepsTags,
    /// P24: a tag is known through another lane than the value's.
    TagThroughAnotherLane,
    /// P25: a clear removes values only.
    ClearInOnePass,
    /// P26: scripts tell nobody.
    ScriptsAreSilent,
    /// P26: a lost subscription is not noticed.
    LostSubscriptionIgnored,
    /// P26: a tag that the bus has not told of is believed.
    BusIsTrustedWithTags,
    /// P27: nobody tries whether pushes arrive.
    NoProbe,
    /// P28: a stale value is served as it was found, whatever was told since.
    StaleUnchecked,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 47] = [
        Self::StampAfterRead,
        Self::InsertOutdated,
        Self::AdvanceWithoutRemoval,
        Self::CommitWithoutLease,
        Self::CommitMarked,
        Self::CommitOverForeign,
        Self::KeepUnread,
        Self::InvalidationLeavesReader,
        Self::InvalidationDeletesWriter,
        Self::InvalidationDoesNotMark,
        Self::WriterBreaksWriter,
        Self::WriterLeavesReader,
        Self::OwnScriptsDoNotWake,
        Self::RegisterAfterClaim,
        Self::AdvanceBeforeScript,
        Self::ClearAdvancesOnce,
        Self::LossAdvancesNothing,
        Self::AdvanceBeforeWithdrawal,
        Self::PendingForgotten,
        Self::PendingSentLater,
        Self::TrackingAssumed,
        Self::NoLoop,
        Self::SleepWithoutEnd,
        Self::NoCompareAndAdvance,
        Self::AnswerForAll,
        Self::RefusedForAll,
        Self::CommittedForAll,
        Self::RepliesOvertakePushes,
        Self::FailedWriterKeeps,
        Self::RefusedWriterKeeps,
        Self::TagIgnored,
        Self::MissingTagIsHeld,
        Self::OrderGoesBack,
        Self::OrderAfterLoad,
        Self::CommitWithoutHolding,
        Self::HoldWithoutOrder,
        Self::HoldInTwoSteps,
        Self::HeldForAll,
        Self::LearnForgotten,
        Self::LossKeepsTags,
        Self::TagThroughAnotherLane,
        Self::ClearInOnePass,
        Self::ScriptsAreSilent,
        Self::LostSubscriptionIgnored,
        Self::BusIsTrustedWithTags,
        Self::NoProbe,
        Self::StaleUnchecked,
    ];
}
