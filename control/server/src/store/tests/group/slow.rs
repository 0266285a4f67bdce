//! A group in which one member's disk hangs.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_write_through_a_follower_does_not_wait_for_a_leader_whose_disk_hangs() {
    let group = Group::on(3, |_| Some(Disk::default())).await;
    write(&group.store(1), "before").await;
    let unknown = async {
        loop {
            let leader = group.leader().await.member();
            let (disk, follower) = (group.disk(leader), group.store(leader % 3 + 1));
            disk.hold(LOG);
            match follower.propose(txn([put("held", "1")])).await {
                Err(ProposeError::Unknown(why)) => return (leader, why),
                // It led no more when it was asked, as happens under the load of other tests.
                _ => disk.release(),
            }
        }
    };
    let (slow, why) = timeout(Duration::from_secs(60), unknown).await.expect("an end of the wait");
    assert_eq!(why, format!("server {slow} was asked, and leads no more"));
    // Its disk hangs all the while, and nobody needs it.
    for id in (1..=3).filter(|id| *id != slow) {
        write(&group.store(id), &format!("by-{id}")).await;
    }
    group.disk(slow).release();
    let last = group.leader().await.read_index().await.unwrap().revision();
    let mut found = BTreeSet::new();
    for id in 1..=3 {
        until(&group.store(id), "all have all", |t| t.revision() >= last).await;
        found.insert(data(&group.store(id).snapshot(), "held"));
    }
    assert_eq!(found.len(), 1, "nobody knew what became of it, and it is the same everywhere");
}
