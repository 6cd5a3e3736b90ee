use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Color};
use tokio::time::Instant;

use crate::{
    app::Instance,
    chart,
    claim::{Result, until},
    database::Database,
    model::User,
    page,
    patterns::NEEDS_REDIS,
    stage::Tour,
    steps::{At, Did, Steps},
};

const TOKEN: &str = "t-90d7";
const SAMPLES: usize = 2000;
/// An L1 hit is shorter than reading the clock is long, so that several are measured at once.
const HITS_PER_SAMPLE: u32 = 100;

pub(crate) async fn show(tour: &Tour) -> Result {
    let (page, a) = (&tour.page, &tour.a);
    page.section(
        "6  Multi-level",
        "What a read costs, by where its value is: medians of one task's reads.",
    )?;
    a.user(42).await?;
    a.open_session(TOKEN, 42).await?;

    let l1 = l1_hits(a).await?;
    let l2 = if tour.redis.is_some() {
        Some(l2_hits(a).await?)
    } else {
        None
    };
    let sqlite = database_reads(&tour.database).await?;
    page.claim(l1 < sqlite, || {
        format!("an L1 hit takes less than a statement: {l1:?}, {sqlite:?}")
    })?;
    let mut table = page.table(&["read", "median", "one task", "on a log scale", ""]);
    let mut row = |name: &str, median: Duration, colour: Color, note: &str| {
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(name),
            number(page::duration(median)).fg(colour),
            number(page::rate(1.0 / median.as_secs_f64())),
            Cell::new(chart::log_bar(median, 24)).fg(colour),
            Cell::new(note),
        ]);
    };
    row(
        "L1 hit",
        l1,
        page::L1,
        "no future allocated, no lock, no I/O",
    );
    if let Some(l2) = l2 {
        row(
            "L2 hit",
            l2,
            page::L2,
            "one round trip to Redis, over loopback",
        );
    }
    row(
        "SQLite",
        sqlite,
        page::LOAD,
        "by primary key, with no network between",
    );
    page.show(&table)?;

    match &tour.redis {
        Some(_) => foreign_write(tour).await,
        None => page.dim(NEEDS_REDIS),
    }
}

/// L2 has the value's JSON, so that any program can read it, and write it.
async fn foreign_write(tour: &Tour) -> Result {
    let (Some(redis), a) = (&tour.redis, &tour.a) else {
        return Ok(());
    };
    let mut steps = Steps::new(tour);
    let json = serde_json::to_string(&User {
        id: 42,
        name: "Augusta".to_owned(),
        logins: 1,
    })?;
    steps
        .call(At::A, "users.get_or_load(42)", a.user(42))
        .await?;
    steps.did(Did::l1_hits(1), "in A's L1")?;
    let set = ["SET", "user:42", &json, "EX", "3600"];
    steps
        .call(
            At::Foreign,
            "redis-cli SET user:42 '{…}' EX 3600",
            redis.command(&set),
        )
        .await?;
    steps.did(Did::nothing(), "another program, maybe not in Rust")?;
    let seen = until("A's noticing of a foreign write", || async {
        Ok((a.user(42).await?.name == "Augusta").then_some(()))
    });
    steps.call(At::A, "users.get_or_load(42)", seen).await?;
    steps.did_once_pushed(Did::l2_hits(1), "its value: the push came to A too")?;
    steps.show()
}

async fn l1_hits(a: &Instance) -> Result<Duration> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let start = Instant::now();
        for _ in 0..HITS_PER_SAMPLE {
            std::hint::black_box(a.user(42).await?);
        }
        samples.push(start.elapsed() / HITS_PER_SAMPLE);
    }
    Ok(median(samples))
}

/// Reads of a policy whose entries live in L2 alone.
async fn l2_hits(a: &Instance) -> Result<Duration> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let start = Instant::now();
        std::hint::black_box(a.session(TOKEN).await?);
        samples.push(start.elapsed());
    }
    Ok(median(samples))
}

async fn database_reads(database: &Database) -> Result<Duration> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let start = Instant::now();
        std::hint::black_box(database.user(42).await?);
        samples.push(start.elapsed());
    }
    Ok(median(samples))
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}
