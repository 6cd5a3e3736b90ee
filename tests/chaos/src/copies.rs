//! The copies of every key, beside the database.

use larder_testkit::Reply;

use crate::{
    Problem,
    database::Database,
    keys::{Key, Namespace, PolicyName},
    member::Copies,
    node::{Caches, Config},
    scene::Scene,
    servers::Servers,
    told::Told,
};

/// The copies of every node, and those of a process that starts now, each with a name.
pub(crate) async fn copies(scene: &mut Scene<'_>) -> Result<Vec<(String, Copies)>, Problem> {
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
            timeout_ms: 10_000,
            database: String::new(),
            namespace,
            is_gentle: false,
            starts_alone: false,
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
pub(crate) fn differing(all: &[(String, Copies)], database: &Database, told: &Told) -> Vec<String> {
    let differs = |whose: &str, key: Key, copy: Option<u32>| {
        let (held, copy) = (database.version(key), copy?);
        let newest = told.history.commits[key.index()].last();
        (copy != held && !told.history.excuses(key, copy)).then(|| {
            format!("{whose} has version {copy} of {key}; the database has {held}: {newest:?}")
        })
    };
    all.iter()
        .flat_map(|(whose, copies)| copies.iter().map(move |(key, copy)| (whose, *key, *copy)))
        .filter_map(|(whose, key, copy)| differs(whose, key, copy))
        .collect()
}

/// The names in Redis that lie in no namespace: none should.
pub(crate) async fn names_outside(servers: &Servers) -> Result<Vec<String>, Problem> {
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
