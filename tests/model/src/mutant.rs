/// The protocol without one of its mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// P1 stamp-before-read: the stamp is taken after the value was read.
    StampAfterRead,
    /// P2 only-current-is-served: an outdated value enters L1.
    InsertOutdated,
    /// P2 only-current-is-served: a bump does not remove the entry from L1.
    BumpWithoutRemoval,
    /// P3 clean-lease-commits: a commit does not check whose lease it is.
    CommitWithoutLease,
    /// P3 clean-lease-commits: a commit does not check the mark.
    CommitMarked,
    /// P3 clean-lease-commits: a commit does not check the value of D.
    CommitOverForeign,
    /// P4 l1-read-from-l2: a committed value enters L1 without being read.
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
    /// P7 wake-own-waiters: a process's own scripts do not wake its waiters.
    OwnScriptsDoNotWake,
    /// P8 register-then-claim: a waiter is registered after the reply.
    RegisterAfterClaim,
    /// P9 reply-invalidates-again: the generation is bumped before the script is sent, and not
    /// after its reply.
    BumpBeforeScript,
    /// P9 reply-invalidates-again: the policy's generation is bumped before a clear only.
    ClearBumpsOnce,
    /// P10 loss-told-before-successor: a lost connection bumps no generation.
    LossBumpsNothing,
    /// P10 loss-told-before-successor: the generation is bumped, and then the connection is
    /// withdrawn.
    BumpBeforeWithdrawal,
    /// P11 unsent-goes-first: unsent invalidations are forgotten.
    UnsentForgotten,
    /// P11 unsent-goes-first: unsent invalidations are sent after others read through the lane.
    UnsentSentLater,
    /// P12 tracking-never-assumed: without tracking, entries live as long as with it.
    TrackingAssumed,
    /// P12 tracking-never-assumed: a connection gets no push for evictions by its own commands.
    NoLoop,
    /// P14 no-wait-for-expiry-push: a waiter sleeps until a push comes.
    SleepWithoutEnd,
    /// P15 writer-ends-by-compare: a writer's value enters L1 with its first stamp.
    NoCompareAndBump,
    /// P16 only-for-earlier-callers: a reply of L2 is for all followers.
    ReplyForAll,
    /// P16 only-for-earlier-callers: a refused value is for all followers.
    RefusedForAll,
    /// P16 only-for-earlier-callers: a committed value is for all followers.
    CommittedForAll,
    /// P17 pushes-before-replies: replies overtake pushes.
    RepliesOvertakePushes,
    /// P18 failed-write-invalidates: a failed writer only releases its lease.
    FailedWriterKeeps,
    /// P18 failed-write-invalidates: a refused writer does nothing more.
    RefusedWriterKeeps,
    /// P21 tags-pinned-in-time: a value is served whatever its tag.
    TagIgnored,
    /// P21 tags-pinned-in-time: a missing T is a hit.
    MissingTagIsPinned,
    /// P21 tags-pinned-in-time: a lost E starts where it first did.
    EpochGoesBack,
    /// P22 epoch-before-load: E is read after the load.
    EpochAfterLoad,
    /// P23 tags-pinned-before-commit: the tag is not pinned before the commit.
    CommitWithoutPin,
    /// P23 tags-pinned-before-commit: T is created whatever E is.
    PinWithoutEpoch,
    /// P23 tags-pinned-before-commit: E is checked in one step, and T created in another.
    PinInTwoSteps,
    /// P23 tags-pinned-before-commit: callers that join while the tag is pinned get the committed
    /// value.
    PinnedForAll,
    /// P24 tags-known-by-lane: an epoch enters a cell that was made unknown since the question.
    LearnForgotten,
    /// P24 tags-known-by-lane: a lost lane forgets no tags.
    LossKeepsTags,
    /// P24 tags-known-by-lane: a tag is known through another lane than the value's.
    TagThroughAnotherLane,
    /// P25 clear-leaves-nothing: a clear removes values only.
    ClearInOnePass,
    /// P26 scripts-publish: scripts publish nothing.
    ScriptsAreSilent,
    /// P26 scripts-publish: a lost subscription is not noticed.
    LostSubscriptionIgnored,
    /// P26 scripts-publish: a known tag is trusted although the bus has no order with replies.
    BusIsTrustedWithTags,
    /// P27 channel-proves-alive: no process probes whether pushes arrive.
    NoProbe,
    /// P28 stale-only-while-current: a stale value is served also after an invalidation.
    StaleUnchecked,
    /// Refresh: it takes whatever value L2 has.
    RefreshTakesValue,
    /// Refresh: it takes the value of another load, also of one that began before the call.
    RefreshTakesHolder,
    /// Refresh: a renewed lease has the life of a new one.
    RenewalLooksNew,
    /// Refresh: it joins one that has begun.
    RefreshJoinsLate,
    /// Refresh: its commit leaves what this process has read before it.
    RefreshLeavesOlder,
    /// P30 forgotten-is-redone: a server that forgot is trusted.
    NoRedo,
    /// P30 forgotten-is-redone: others read through the lane before forgotten names are redone.
    RedoAfterReading,
    /// P30 forgotten-is-redone: the first segment that the server does not know is left out.
    RedoStartsLate,
    /// P30 forgotten-is-redone: leases stay.
    RedoKeepsLeases,
    /// P30 forgotten-is-redone: what was redone is no longer noted.
    RedoneUnnoted,
    /// P30 forgotten-is-redone: an operation is noted when it is answered, and not when it is sent.
    NotedOnAnswer,
    /// P30 forgotten-is-redone: a mark goes past operations that have no answer.
    MarkPassesUnanswered,
    /// P30 forgotten-is-redone: only an old mark tells that the server forgot.
    RunIgnored,
    /// P30 forgotten-is-redone: a log that does not reach back is trusted.
    ShortLogTrusted,
    /// P31 kept-only-while-away: a value is kept although the lane was connected again since L2 was
    /// asked.
    KeptOverReconnect,
    /// P31 kept-only-while-away: a lane bumps its generation only before it hands out a connection.
    BumpBeforeInstallOnly,
    /// P33 only-kept-is-tracked: a lookup has the server track nothing.
    FoundUntracked,
    /// P33 only-kept-is-tracked: a claim that finds a value has the server track nothing.
    ClaimedUntracked,
    /// P33 only-kept-is-tracked: a claim or a writer that finds a lease has the server track
    /// nothing.
    BusyUntracked,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 66] = [
        Self::StampAfterRead,
        Self::InsertOutdated,
        Self::BumpWithoutRemoval,
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
        Self::BumpBeforeScript,
        Self::ClearBumpsOnce,
        Self::LossBumpsNothing,
        Self::BumpBeforeWithdrawal,
        Self::UnsentForgotten,
        Self::UnsentSentLater,
        Self::TrackingAssumed,
        Self::NoLoop,
        Self::SleepWithoutEnd,
        Self::NoCompareAndBump,
        Self::ReplyForAll,
        Self::RefusedForAll,
        Self::CommittedForAll,
        Self::RepliesOvertakePushes,
        Self::FailedWriterKeeps,
        Self::RefusedWriterKeeps,
        Self::TagIgnored,
        Self::MissingTagIsPinned,
        Self::EpochGoesBack,
        Self::EpochAfterLoad,
        Self::CommitWithoutPin,
        Self::PinWithoutEpoch,
        Self::PinInTwoSteps,
        Self::PinnedForAll,
        Self::LearnForgotten,
        Self::LossKeepsTags,
        Self::TagThroughAnotherLane,
        Self::ClearInOnePass,
        Self::ScriptsAreSilent,
        Self::LostSubscriptionIgnored,
        Self::BusIsTrustedWithTags,
        Self::NoProbe,
        Self::StaleUnchecked,
        Self::RefreshTakesValue,
        Self::RefreshTakesHolder,
        Self::RenewalLooksNew,
        Self::RefreshJoinsLate,
        Self::RefreshLeavesOlder,
        Self::NoRedo,
        Self::RedoAfterReading,
        Self::RedoStartsLate,
        Self::RedoKeepsLeases,
        Self::RedoneUnnoted,
        Self::NotedOnAnswer,
        Self::MarkPassesUnanswered,
        Self::RunIgnored,
        Self::ShortLogTrusted,
        Self::KeptOverReconnect,
        Self::BumpBeforeInstallOnly,
        Self::FoundUntracked,
        Self::ClaimedUntracked,
        Self::BusyUntracked,
    ];
}
