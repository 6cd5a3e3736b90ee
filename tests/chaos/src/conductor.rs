use std::{path::PathBuf, sync::Arc, time::Duration};

use indicatif::ProgressBar;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Problem,
    clock::now,
    copies::{copies, differing, names_outside},
    database::Database,
    faults::{FaultKind, Topology},
    foreign::Foreign,
    keys::Namespace,
    member::{Common, Member},
    outcome::{HEALED, Outcome},
    scene::Scene,
    servers::{Places, Servers},
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
    /// How the servers belong together.
    pub topology: Topology,
    /// The kinds of faults: [`Topology::faults`], or some of them.
    pub faults: Vec<FaultKind>,
    /// The nodes' answer when a server comes back with older data: `redo`, `clear` or `trust`.
    pub on_data_loss: String,
    /// Whether the run ends when a read breaks the promise.
    pub stops_early: bool,
    /// Shows the progress of the run.
    pub progress: ProgressBar,
}

/// Runs nodes and faults, and checks what came of it.
///
/// # Errors
/// If the run itself did not work out: no server, or a node that ended or does not answer.
pub async fn run(settings: &Settings) -> Result<Outcome, Problem> {
    let (database, wants) = Database::start().await?;
    let database = Arc::new(database);
    let start = now();
    let mut scene = set(settings, &database).await?;
    let stop = watch::Sender::new(false);
    let foreign = Foreign {
        servers: scene.places.clone(),
        database: database.clone(),
        told: scene.told.clone(),
        quiet: scene.quiet.clone(),
        wants,
        losses: scene.losses.subscribe(),
    };
    let random = fastrand::Rng::with_seed(scene.random.u64(..));
    let foreign = tokio::spawn(foreign.write_on(random, stop.subscribe()));

    let disturbed = disturb(settings, &mut scene, &foreign).await;
    stop.send_replace(true);
    foreign.await??;
    disturbed?;
    for member in &mut scene.members {
        member.stop().await?;
    }
    sleep(HEALED).await;
    let (copies, outside) = (
        copies(&mut scene).await?,
        names_outside(&scene.servers).await?,
    );

    let told = scene.told.clone();
    drop(scene);
    let mut told = std::mem::take(&mut *lock(&told));
    told.history.commits = database.commits();
    let mut unequal = differing(&copies, &database, &told);
    unequal.extend(outside);
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
        loads: database.loads(0..u64::MAX),
        start,
        seed: settings.seed,
    })
}

/// Starts the servers and the nodes.
async fn set<'a>(settings: &'a Settings, database: &'a Database) -> Result<Scene<'a>, Problem> {
    let mut random = fastrand::Rng::with_seed(settings.seed);
    let servers = Servers::start(settings.topology).await?;
    let told = Shared::default();
    let common = Common {
        program: &settings.program,
        database: database.addr(),
        on_data_loss: &settings.on_data_loss,
        is_gentle: false,
    };
    let mut members = Vec::new();
    for (node, namespace) in (0..).zip(NODES) {
        let (seed, told) = (random.u64(..), told.clone());
        members.push(Member::start(node, namespace, &common, &servers, seed, told).await?);
    }
    let places = Places::default();
    places.set(servers.addresses());
    Ok(Scene {
        servers,
        next: u16::try_from(members.len())?,
        members,
        common,
        database,
        random,
        told,
        places,
        quiet: Arc::default(),
        left: None,
        losses: watch::Sender::new(0),
    })
}

/// One fault after the other, each kind as often as any other, until the time is over.
async fn disturb(
    settings: &Settings,
    scene: &mut Scene<'_>,
    foreign: &JoinHandle<Result<(), Problem>>,
) -> Result<(), Problem> {
    let begin = Instant::now();
    let end = begin + settings.length;
    let mut kinds = Vec::new();
    loop {
        let pause = settings.pause + Duration::from_millis(scene.random.u64(0..600));
        let next = Instant::now() + pause;
        // The bar moves also between two faults.
        while Instant::now() < next.min(end) {
            sleep_until(
                (Instant::now() + Duration::from_millis(200))
                    .min(next)
                    .min(end),
            )
            .await;
            let told = lock(&scene.told);
            let (reads, faults) = (told.history.reads.len(), told.history.faults.len());
            settings.progress.set_position(begin.elapsed().as_secs());
            settings
                .progress
                .set_message(format!("{reads} reads, {faults} faults"));
        }
        if next >= end || foreign.is_finished() || (settings.stops_early && is_over(scene)) {
            return Ok(());
        }
        if kinds.is_empty() {
            kinds.clone_from(&settings.faults);
            scene.random.shuffle(&mut kinds);
        }
        let kind = kinds.pop().unwrap_or(FaultKind::Cut);
        scene.inject(kind).await?;
    }
}

/// Whether some read has broken the promise already.
fn is_over(scene: &Scene<'_>) -> bool {
    let mut told = lock(&scene.told);
    // After the lock was taken: no read is of a later version.
    told.history.commits = scene.database.commits();
    !told.failed_reads.is_empty() || !told.history.check().violations.is_empty()
}
