use lifeboat_wire::Verdict;

use super::*;
use crate::config::Config;

fn board() -> (Arc<Board>, Post) {
    let config = Config::parse("dbs: [{path: /a.db, replica: {url: 'file:///x'}}]").unwrap();
    let board = Board::new(Watcher::start().unwrap());
    let post = board.add(&config.databases[0]);
    (board, post)
}

#[test]
fn what_is_not_known_is_null_and_not_zero() {
    let (board, _post) = board();
    let status = board.status().databases.remove(0);
    assert_eq!((status.lag_seconds, status.unreplicated_bytes, status.position), (None, None, None));
    assert!(!board.is_started() && !board.is_ready());
}

#[test]
fn the_lag_is_the_age_of_the_oldest_commit_that_waits() {
    let (board, post) = board();
    let committed = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    post.turned(20, Some(committed));
    assert!(board.status().databases[0].lag_seconds.unwrap() >= 0.02);
    post.turned(0, None);
    assert_eq!(board.status().databases[0].lag_seconds, Some(0.0));
}

/// It may be hours until it is opened.
#[test]
fn what_woke_a_database_waits_until_more_is_known() {
    let (board, post) = board();
    post.turned(0, None);
    post.falls_asleep();
    assert_eq!(board.status().databases[0].lag_seconds, Some(0.0));
    post.wakes_up();
    std::thread::sleep(Duration::from_millis(2));
    assert!(board.status().databases[0].lag_seconds.unwrap() > 0.0);
    post.turned(0, None);
    assert_eq!(board.status().databases[0].lag_seconds, Some(0.0));
}

#[test]
fn while_nobody_follows_the_lag_grows_and_how_much_waits_is_not_known() {
    let (board, post) = board();
    post.turned(0, None);
    post.ended();
    post.unfollowed();
    std::thread::sleep(Duration::from_millis(20));
    post.unfollowed();
    let status = board.status().databases.remove(0);
    assert!(status.lag_seconds.unwrap() >= 0.02, "it is not asked anew since when: {status:?}");
    assert_eq!(status.unreplicated_bytes, None);
    post.nothing_waits();
    assert_eq!(board.status().databases[0].lag_seconds, None, "nobody commits to what is not there");
    post.turned(0, None);
    assert_eq!(board.status().databases[0].lag_seconds, Some(0.0));
}

#[test]
fn spans_that_touch_are_one_and_only_the_last_ten_are_told() {
    let second = |n: i64| jiff::Timestamp::from_second(n).unwrap();
    let mut lost = Vec::new();
    assert!(lose(&mut lost, second(0), second(100)));
    assert!(!lose(&mut lost, second(101), second(200)));
    assert_eq!((lost.len(), lost[0].to.clone()), (1, second(200).to_string()));
    for n in 1..15 {
        assert!(lose(&mut lost, second(n * 1_000), second(n * 1_000 + 1)));
    }
    assert_eq!((lost.len(), lost[0].from.clone()), (10, second(5_000).to_string()));
}

#[test]
fn a_trouble_stays_until_it_is_over() {
    let (board, post) = board();
    post.troubled(&Failure::unavailable("gone"));
    assert_eq!(board.status().databases[0].message, "gone");
    post.waits("a turn");
    assert_eq!(board.status().databases[0].message, "gone");
    post.recovered();
    post.waits("a turn");
    let status = board.status().databases.remove(0);
    assert_eq!((status.verdict, status.message.as_str()), (None, "a turn"));
}

#[test]
fn what_keeps_no_commit_from_being_stored_is_told_on_after_one_is_stored() {
    let (board, post) = board();
    let told = || board.status().databases.remove(0);
    post.stands(Some(Failure::unavailable("the disk is full")));
    post.stored(position(Base { txid: 1, checksum: None }, None));
    assert_eq!((told().verdict, told().message.as_str()), (Some(Verdict::Retry), "the disk is full"));
    post.troubled(&Failure::fenced("gone"));
    assert_eq!(told().message, "gone", "what is worse comes first");
    post.recovered();
    assert_eq!(told().message, "the disk is full");
    post.stands(None);
    assert_eq!((told().verdict, told().message.as_str()), (None, ""));
}
