/// The protocol without one of its mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// P1 stamp-before-read: the stamp is taken when the value is there.
    StampAfterRead,
    /// P2 only-current-is-served: L1 takes what is out of date.
    InsertOutdated,
    /// P2 only-current-is-served: an advance does not remove the entry that L1 holds.
    AdvanceWithoutRemoval,
    /// P3 clean-lease-commits: a commit does not look whose lease it is.
    CommitWithoutLease,
    /// P3 clean-lease-commits: a commit does not look at the mark.
    CommitMarked,
    /// P3 clean-lease-commits: a commit does not look what D is.
    CommitOverForeign,
    /// P4 l1-read-from-l2: what was committed enters L1 without being read.
    KeepUnread,
    /// P5 invalidation-marks-writers: an invalidation leaves a reader's lease.
    InvalidationLeavesReader,
    /// P5 invalidation-marks-writers: an invalidation deletes a writer's lease.
    InvalidationDeletesWriter,
    /// P5 invalidation-marks-writers: an invalidation does not mark a writer's lease.
    InvalidationDoesNotMark,
    /// P6 one-writer-first: a writer takes another writer's lease.
    WriterBreaksWriter,
    /// P6 one-writer-first: a writer leaves a reader's lease.
    WriterLeavesReader,
    /// P7 wake-own-waiters: own scripts do not wake own waiters.
    OwnScriptsDoNotWake,
    /// P8 register-then-claim: a waiter is registered when the answer is there.
    RegisterAfterClaim,
    /// P9 reply-invalidates-again: the cell is advanced before the script is sent, and not after
    /// its reply.
    AdvanceBeforeScript,
    /// P9 reply-invalidates-again: the row's cell is advanced before a clear only.
    ClearAdvancesOnce,
    /// P10 loss-told-before-successor: a lost connection advances nothing.
    LossAdvancesNothing,
    /// P10 loss-told-before-successor: the cell is advanced, and then the connection is withdrawn.
    AdvanceBeforeWithdrawal,
    /// P11 unsent-goes-first: what could not be sent is forgotten.
    PendingForgotten,
    /// P11 unsent-goes-first: what could not be sent is sent after others read through the lane.
    PendingSentLater,
    /// P12 tracking-never-assumed: without tracking, entries live as long as with it.
    TrackingAssumed,
    /// P12 tracking-never-assumed: a connection is not told of what is evicted for its own
    /// commands.
    NoLoop,
    /// P14 no-wait-for-expiry-push: a waiter sleeps until it is told.
    SleepWithoutEnd,
    /// P15 writer-ends-by-compare: a writer's value enters L1 with its first stamp.
    NoCompareAndAdvance,
    /// P16 only-for-earlier-callers: an answer of L2 is for all who joined.
    AnswerForAll,
    /// P16 only-for-earlier-callers: a refused value is for all who joined.
    RefusedForAll,
    /// P16 only-for-earlier-callers: a committed value is for all who joined.
    CommittedForAll,
    /// P17 pushes-before-replies: replies overtake pushes.
    RepliesOvertakePushes,
    /// P18 failed-write-invalidates: a failed writer only gives up its lease.
    FailedWriterKeeps,
    /// P18 failed-write-invalidates: a refused writer does nothing more.
    RefusedWriterKeeps,
    /// P21 tags-pinned-in-time: a value is served whatever its tag.
    TagIgnored,
    /// P21 tags-pinned-in-time: a missing T is a hit.
    MissingTagIsHeld,
    /// P21 tags-pinned-in-time: a lost E starts where it first did.
    OrderGoesBack,
    /// P22 epoch-before-load: E is read after the load.
    OrderAfterLoad,
    /// P23 tags-pinned-before-commit: the tag is not held before the commit.
    CommitWithoutHolding,
    /// P23 tags-pinned-before-commit: T is created whatever E is.
    HoldWithoutOrder,
    /// P23 tags-pinned-before-commit: E is looked at in one step, and T created in another.
    HoldInTwoSteps,
    /// P23 tags-pinned-before-commit: who joins while the tag is held gets what is committed.
    HeldForAll,
    /// P24 tags-known-by-lane: a number enters a cell that was made unknown since it was asked for.
    LearnForgotten,
    /// P24 tags-known-by-lane: a lost lane forgets no tags.
    LossKeepsTags,
    /// P24 tags-known-by-lane: a tag is known through another lane than the value's.
    TagThroughAnotherLane,
    /// P25 clear-leaves-nothing: a clear removes values only.
    ClearInOnePass,
    /// P26 scripts-publish: scripts tell nobody.
    ScriptsAreSilent,
    /// P26 scripts-publish: a lost subscription is not noticed.
    LostSubscriptionIgnored,
    /// P26 scripts-publish: a tag that the bus has not told of is believed.
    BusIsTrustedWithTags,
    /// P27 channel-proves-alive: nobody tries whether pushes arrive.
    NoProbe,
    /// P28 stale-only-while-current: a stale value is served as it was found, whatever was told
    /// since.
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
