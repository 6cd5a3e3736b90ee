//! Another server takes the place of the one before, or the same one has other data.

use larder_core::{LaneIndex, LaneState, Lanes};
use larder_redis::{OnDataLoss, RedisStore};
use larder_testkit::{Proxy, RedisServer};

use super::{CHOICES, MINUTE, config, expect, replicate, wait_for, write};

/// The server does not say that another one has taken its place. So a lane that finds the other one
/// takes the store's lanes there: an invalidation must not go to the earlier server alone.
#[tokio::test]
async fn lane_that_finds_another_server_takes_the_others_with_it() {
    let (master, replica) = (
        RedisServer::start().await.unwrap(),
        RedisServer::start().await.unwrap(),
    );
    let proxy = Proxy::start(&master.addr()).await.unwrap();
    let store = RedisStore::connect(config(proxy.url(), OnDataLoss::Redo))
        .await
        .unwrap();
    write(&store, "item:1", "v1").await;
    replicate(&master, &replica).await;
    replica.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    proxy.lead_to(&replica.addr());
    let lanes = lanes_at_least(&master, 2).await;
    master
        .command(&["CLIENT", "KILL", "ID", &lanes[0]])
        .await
        .unwrap();
    lanes_at_least(&replica, 2).await;
}

/// A lane that is about to be in service at an earlier server is stopped, too: nothing would take
/// it from there later.
#[tokio::test]
async fn lane_that_finds_another_server_overtakes_those_that_connect_to_the_earlier_one() {
    let (earlier, later) = (
        RedisServer::start().await.unwrap(),
        RedisServer::start().await.unwrap(),
    );
    let proxy = Proxy::start(&earlier.addr()).await.unwrap();
    let config = config(proxy.url(), OnDataLoss::Redo).probe_interval(MINUTE);
    let config = config.command_timeout(MINUTE);
    let store = RedisStore::connect(config).await.unwrap();
    // Writes wait, so a lane that connects now waits with its first mark.
    let pause = ["CLIENT", "PAUSE", "60000", "WRITE"];
    earlier.command(&pause).await.unwrap();
    let lanes = lanes_at_least(&earlier, 2).await;
    let kill = async |lane: &str| {
        earlier
            .command(&["CLIENT", "KILL", "ID", lane])
            .await
            .unwrap()
    };
    kill(&lanes[0]).await;
    waiting(&earlier).await;
    proxy.lead_to(&later.addr());
    kill(&lanes[1]).await;
    lanes_at_least(&later, 1).await;
    let is_up = |lane| store.lane_state(LaneIndex(lane)) == LaneState::Tracking;
    let one_is_up = async || (is_up(0) || is_up(1)).then_some(());
    wait_for("no lane is in service", one_is_up).await;
    earlier.command(&["CLIENT", "UNPAUSE"]).await.unwrap();
    lanes_at_least(&later, 2).await;
}

/// Waits until so many connections of lanes are there, and returns their ids.
async fn lanes_at_least(server: &RedisServer, many: usize) -> Vec<String> {
    let look = async || Some(lanes_at(server).await).filter(|lanes| lanes.len() >= many);
    wait_for("a lane stays where it was", look).await
}

/// Waits until a client waits for the end of a pause.
async fn waiting(server: &RedisServer) {
    wait_for("it does not wait", async || {
        let said = server.command(&["INFO", "clients"]).await.unwrap();
        let waits = said.text().unwrap().contains("blocked_clients:1\r\n");
        waits.then_some(())
    })
    .await;
}

/// The server becomes a replica of one that lagged, and is promoted again, in one run.
#[tokio::test]
async fn server_that_followed_a_lagging_replica_and_leads_again_brings_nothing_back() {
    for (choice, found) in CHOICES {
        let (first, second) = (
            RedisServer::start().await.unwrap(),
            RedisServer::start().await.unwrap(),
        );
        let proxy = Proxy::start(&first.addr()).await.unwrap();
        // The one mark is written when the store connects.
        let config = config(proxy.url(), choice).probe_interval(MINUTE);
        let store = RedisStore::connect(config).await.unwrap();
        write(&store, "item:1", "v1").await;
        replicate(&first, &second).await;
        second.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        write(&store, "item:1", "v2").await;
        proxy.refuse(true);
        proxy.cut();
        first.command(&["DEL", "item:1"]).await.unwrap(); // until it has the other's
        replicate(&second, &first).await;
        first.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        proxy.refuse(false);
        expect(&store, "item:1", found, choice).await;
    }
}

/// The ids of the connections that the server tracks.
async fn lanes_at(server: &RedisServer) -> Vec<String> {
    let clients = server.command(&["CLIENT", "LIST"]).await.unwrap();
    let clients = clients.text().unwrap();
    let field = |client: &str, name: &str| {
        let mut fields = client.split(' ');
        let value = fields.find_map(|field| field.strip_prefix(name));
        value.unwrap_or_default().to_owned()
    };
    let tracked = clients
        .lines()
        .filter(|client| field(client, "flags=").contains('t'));
    tracked.map(|client| field(client, "id=")).collect()
}
