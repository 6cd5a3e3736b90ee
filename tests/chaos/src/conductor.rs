use std::{path::PathBuf, sync::Arc, time::Duration};

use indicatif::ProgressBar;
use larder_testkit::Reply;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Problem,
    clock::now,
    database::Database,
    faults::{FaultKind, Topology},
    foreign::Foreign,
    keys::{Key, Namespace, PolicyName},
    member::{Common, Copies, Member},
    node::{Caches, Config},
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

    let disturbed = disturb(settings, &database, &mut scene, &foreign).await;
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
        loads: database.loads(),
        start,
        seed: settings.seed,
    })
}

/// Starts the servers and the nodes.
async fn set<'a>(settings: &'a Settings, database: &Database) -> Result<Scene<'a>, Problem> {
    let mut random = fastrand::Rng::with_seed(settings.seed);
    let servers = Servers::start().await?;
    let told = Shared::default();
    let common = Common {
        program: &settings.program,
        database: database.addr(),
        on_data_loss: &settings.on_data_loss,
        readers: 4,
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
        random,
        told,
        places,
        quiet: Arc::default(),
        losses: watch::Sender::new(0),
    })
}

/// One fault after the other, each kind as often as any other, until the time is over.
async fn disturb(
    settings: &Settings,
    database: &Database,
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
        if next >= end
            || foreign.is_finished()
            || (settings.stops_early && is_over(scene, database))
        {
            return Ok(());
        }
        if kinds.is_empty() {
            kinds = settings.topology.faults();
            scene.random.shuffle(&mut kinds);
        }
        let kind = kinds.pop().unwrap_or(FaultKind::Cut);
        scene.inject(kind).await?;
    }
}

/// Whether some read has broken the promise already.
fn is_over(scene: &Scene<'_>, database: &Database) -> bool {
    let mut told = lock(&scene.told);
    // After the lock was taken: no read is of a later version.
    told.history.commits = database.commits();
    !told.failed_reads.is_empty() || !told.history.check().violations.is_empty()
}

/// The copies of every node, and those of a process that starts now, each with a name.
async fn copies(scene: &mut Scene<'_>) -> Result<Vec<(String, Copies)>, Problem> {
    let mut all = Vec::new();
    for member in &mut scene.members {
        all.push((format!("node {}", member.node), member.copies().await?));
    }
    for namespace in Namespace::ALL {
        let config = Config {
            node: u16::MAX,
            redis: scene.servers.url(namespace, &scene.servers.addresses()),
            places: Vec::new(),
            on_data_loss: "redo".to_owned(),
            database: String::new(),
            namespace,
            readers: 0,
            seed: 0,
        };
        let (_larder, caches) = Caches::connect(&config).await?;
        let mut copies = Vec::new();
        for policy in PolicyName::ALL {
            copies.extend(caches.copies(namespace, policy).await?);
        }
        all.push((format!("L2 in {}", namespace.name()), copies));
    }
    Ok(all)
}

/// The copies that differ from the database, and need not, each as a text.
fn differing(all: &[(String, Copies)], database: &Database, told: &Told) -> Vec<String> {
    let differs = |whose: &str, key: Key, copy: Option<u32>| {
        let (held, copy) = (database.version(key), copy?);
        (copy != held && !told.history.excuses(key, copy))
            .then(|| format!("{whose} has version {copy} of {key}; the database has {held}"))
    };
    all.iter()
        .flat_map(|(whose, copies)| copies.iter().map(move |(key, copy)| (whose, *key, *copy)))
        .filter_map(|(whose, key, copy)| differs(whose, key, copy))
        .collect()
}

/// The names in Redis that lie in no namespace: none should.
async fn names_outside(servers: &Servers) -> Result<Vec<String>, Problem> {
    let mut outside = Vec::new();
    for server in servers.all() {
        let Reply::Array(names) = server.command(&["KEYS", "*"]).await? else {
            return Err("the server does not say what it holds".into());
        };
        let names = names.iter().filter_map(Reply::text);
        let lies_outside = |name: &String| {
            !Namespace::ALL
                .iter()
                .any(|of| name.starts_with(&format!("{}/", of.name())))
        };
        outside.extend(
            names
                .filter(lies_outside)
                .map(|name| format!("{name} lies in no namespace")),
        );
    }
    Ok(outside)
}
