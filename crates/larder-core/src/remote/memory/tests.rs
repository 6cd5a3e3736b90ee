use futures_util::FutureExt;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl PushListener for Heard {
    fn on_push(&self, push: Push<'_>) {
        lock(&self.0).push(format!("{push:?}"));
    }
}

#[test]
fn what_a_server_evicts_is_gone_and_who_tracks_it_is_told() {
    let server = MemoryServer::new(Clock::system());
    let (one, heard) = (server.connect(), Arc::new(Heard::default()));
    let weak: Weak<Heard> = Arc::downgrade(&heard);
    one.subscribe(weak);
    let claim = |token: &Token| {
        let claim = one.claim("k", token, MINUTE, Replacing::Nothing, Track::Value);
        claim.now_or_never().unwrap().unwrap()
    };
    let pins = || one.tags(LANE, &["t"]).now_or_never().unwrap().unwrap();
    let pin = one.pin_tags(LANE, &["t"], TagEpoch(0), MINUTE);
    assert_eq!(pin.now_or_never().unwrap().unwrap(), [Some(TagEpoch(0))]);
    assert_eq!(claim(&Token::new()), Claim::Leased);
    assert!(matches!(claim(&Token::new()), Claim::Busy(_)));
    server.evict_lease("k");
    server.evict_tag("t");
    assert_eq!(
        *lock(&heard.0),
        ["Lease(\"k\")", "Tag(LaneIndex(0), \"t\")"]
    );
    assert_eq!((claim(&Token::new()), pins()), (Claim::Leased, vec![None]));
    server.write("k", "1", None);
    server.flush();
    assert_eq!(server.read("k"), None);
    assert_eq!(lock(&heard.0).last().unwrap(), "Lane(LaneIndex(0))");
    let epoch = one.tag_epoch(LANE).now_or_never().unwrap().unwrap();
    assert_eq!((claim(&Token::new()), epoch), (Claim::Leased, TagEpoch(1)));
}
