use std::{path::PathBuf, sync::Arc, time::Duration};

use indicatif::ProgressBar;
use larder_testkit::{RedisServer, Reply};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Problem,
    clock::now,
    database::Database,
    faults::FaultKind,
    foreign::Foreign,
    inject::inject,
    keys::{Key, Namespace},
    member::{Copies, Member},
    node::Caches,
    outcome::{HEALED, Outcome},
    told::{Shared, Told, lock},
};

/// Three processes of one namespace, as the protocol's races need, and two beside them of another.
const NODES: [Namespace; 5] = [
    Namespace::North,
    Namespace::North,
    Namespace::North,
    Namespace::South,
    Namespace::South,
];

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program `chaos`.
    pub program: PathBuf,
    /// How long.
    pub length: Duration,
    /// The seed of all random choices.
    pub seed: u64,
    /// The least time between two faults.
    pub pause: Duration,
    /// Shows the progress of the run.
    pub progress: ProgressBar,
}

/// Runs nodes and faults, and checks what came of it.
///
/// # Errors
/// If the run itself did not work out: no server, or a node that ended or does not answer.
pub async fn run(settings: &Settings) -> Result<Outcome, Problem> {
    let mut random = fastrand::Rng::with_seed(settings.seed);
    let mut server = RedisServer::start().await?;
    let database = Arc::new(Database::start().await?);
    let told = Shared::default();
    let start = now();
    let mut members = start_members(settings, &server, &database, &mut random, &told).await?;
    let quiet = Arc::new(tokio::sync::Mutex::new(()));
    let foreign = Foreign {
        server: server.addr(),
        database: database.clone(),
        told: told.clone(),
        quiet,
    };
    let (quiet, stop) = (foreign.quiet.clone(), watch::Sender::new(false));
    let foreign =
        tokio::spawn(foreign.write_on(fastrand::Rng::with_seed(random.u64(..)), stop.subscribe()));

    disturb(settings, &mut server, &members, &mut random, &quiet, &told).await?;
    stop.send_replace(true);
    foreign.await??;
    for member in &mut members {
        member.stop().await?;
    }
    sleep(HEALED).await;
    let unequal = unequal(&mut members, &server, &database).await?;

    drop(members);
    let mut told = std::mem::take(&mut *lock(&told));
    told.history.commits = database.commits();
    let verdict = told.history.check();
    let Told {
        history,
        failed_reads,
        failed_writes,
        misses,
    } = told;
    Ok(Outcome {
        history,
        verdict,
        unequal,
        failed_reads,
        failed_writes,
        misses,
        start,
        seed: settings.seed,
    })
}

async fn start_members(
    settings: &Settings,
    server: &RedisServer,
    database: &Database,
    random: &mut fastrand::Rng,
    told: &Shared,
) -> Result<Vec<Member>, Problem> {
    let mut members = Vec::new();
    for (index, namespace) in (0..).zip(NODES) {
        members.push(
            Member::start(
                (index, namespace),
                &settings.program,
                server,
                database,
                random.u64(..),
                told.clone(),
            )
            .await?,
        );
    }
    Ok(members)
}

/// One fault after the other, each kind as often as any other, until the time is over.
async fn disturb(
    settings: &Settings,
    server: &mut RedisServer,
    members: &[Member],
    random: &mut fastrand::Rng,
    quiet: &tokio::sync::Mutex<()>,
    told: &Shared,
) -> Result<(), Problem> {
    let begin = Instant::now();
    let end = begin + settings.length;
    let mut kinds = Vec::new();
    loop {
        let next = Instant::now() + settings.pause + Duration::from_millis(random.u64(0..600));
        // The bar moves also between two faults.
        while Instant::now() < next.min(end) {
            sleep_until(
                (Instant::now() + Duration::from_millis(200))
                    .min(next)
                    .min(end),
            )
            .await;
            let told = lock(told);
            let (reads, faults) = (told.history.reads.len(), told.history.faults.len());
            settings.progress.set_position(begin.elapsed().as_secs());
            settings
                .progress
                .set_message(format!("{reads} reads, {faults} faults"));
        }
        if next >= end {
            return Ok(());
        }
        if kinds.is_empty() {
            kinds.extend(FaultKind::ALL);
            random.shuffle(&mut kinds);
        }
        let kind = kinds.pop().unwrap_or(FaultKind::Cut);
        let fault = inject(kind, server, members, random, quiet).await?;
        lock(told).history.faults.push(fault);
    }
}

/// Deviations when all is quiet: copies that differ from the database, and
/// names in no namespace.
async fn unequal(
    members: &mut [Member],
    server: &RedisServer,
    database: &Database,
) -> Result<Vec<String>, Problem> {
    let mut unequal = Vec::new();
    for (index, member) in members.iter_mut().enumerate() {
        let copies = member.copies().await?;
        unequal.extend(differing(&format!("node {index}"), copies, database));
    }
    unequal.extend(differing("L2", copies_of_l2(server).await?, database));
    unequal.extend(names_outside(server).await?);
    Ok(unequal)
}

/// A copy that differs from the database, as a text.
fn differing(whose: &str, copies: Copies, database: &Database) -> Vec<String> {
    let differs = |(key, copy): (Key, Option<u32>)| {
        let (held, copy) = (database.version(key), copy?);
        (copy != held)
            .then(|| format!("{whose} has version {copy} of {key}; the database has {held}"))
    };
    copies.into_iter().filter_map(differs).collect()
}

/// The names in Redis that lie in no namespace: none should.
async fn names_outside(server: &RedisServer) -> Result<Vec<String>, Problem> {
    let Reply::Array(names) = server.command(&["KEYS", "*"]).await? else {
        return Err("the server does not say what it holds".into());
    };
    let names = names.iter().filter_map(Reply::text);
    let lies_outside = |name: &String| {
        !Namespace::ALL
            .iter()
            .any(|of| name.starts_with(&format!("{}/", of.name())))
    };
    Ok(names
        .filter(lies_outside)
        .map(|name| format!("{name} lies in no namespace"))
        .collect())
}

/// The values that a process which starts now is served from L2.
async fn copies_of_l2(server: &RedisServer) -> Result<Copies, Problem> {
    let mut copies = Vec::new();
    for namespace in Namespace::ALL {
        let (_larder, caches) = Caches::connect(&server.url(), namespace).await?;
        for key in Key::all(namespace) {
            let copy = caches.of(key).get(key.in_policy()).await?;
            copies.push((key, copy.map(|value| value.version)));
        }
    }
    Ok(copies)
}
