use copepod_model::Time;
use copepod_runtime_wasm::{LogSink, LogStream};
use http_body_util::BodyExt;

use super::*;

fn id(attempt: u32) -> ContainerId {
    ContainerId { pod_uid: "u".into(), container: "c".into(), attempt }
}

async fn text(body: copepod_client::Body) -> String {
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn say(file: &Arc<LogFile>, what: &str) {
    Sink(file.clone()).write(LogStream::Stdout, what.as_bytes());
}

#[tokio::test]
async fn options_choose_what_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path());
    let file = logs.create(&id(0), "ns", "p");
    say(&file, "one\ntwo\nthree\n");
    let path = logs.path(&id(0), "ns", "p");
    let show = async |o: LogOptions| text(stream(path.clone(), None, o)).await;
    assert_eq!(show(LogOptions::default()).await, "one\ntwo\nthree\n");
    assert_eq!(show(LogOptions { tail: Some(2), ..LogOptions::default() }).await, "two\nthree\n");
    assert_eq!(show(LogOptions { tail: Some(0), ..LogOptions::default() }).await, "");
    assert_eq!(show(LogOptions { tail: Some(9), ..LogOptions::default() }).await, "one\ntwo\nthree\n");
    assert_eq!(show(LogOptions { limit: Some(5), ..LogOptions::default() }).await, "one\nt");
    let later = LogOptions { since: Some(Time(u64::MAX / 2)), ..LogOptions::default() };
    assert_eq!(show(later).await, "");
    let stamped = show(LogOptions { timestamps: true, tail: Some(1), ..LogOptions::default() }).await;
    assert!(stamped.ends_with("Z three\n") && stamped.len() == 30 + 1 + 6, "{stamped}");
    assert_eq!(text(stream(dir.path().join("none"), None, LogOptions::default())).await, "");
}

#[tokio::test]
async fn following_ends_with_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path());
    let file = logs.create(&id(0), "ns", "p");
    say(&file, "early\n");
    let live = logs.live(&id(0));
    assert!(live.is_some());
    let mut body = stream(logs.path(&id(0), "ns", "p"), live, LogOptions { follow: true, ..LogOptions::default() });
    let mut next = async || body.frame().await.map(|f| f.unwrap().into_data().unwrap());
    assert_eq!(next().await.unwrap(), "early\n");
    say(&file, "late\n");
    assert_eq!(next().await.unwrap(), "late\n");
    file.end();
    assert!(next().await.is_none());
}

#[tokio::test]
async fn rotation_loses_nothing_of_the_last_two_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = Arc::new(LogFile::new(dir.path().join("0.log"), Arc::default()).rotating_at(100));
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    say(&file, "0\n");
    let mut body = stream(file.path().into(), Some(file.clone()), follow);
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "0\n");
    for i in 1..6 {
        say(&file, &format!("{i}\n"));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), format!("{i}\n"), "across a rotation");
    }
    assert_eq!(file.rotations(), 2);
    let tail = LogOptions { tail: Some(2), ..LogOptions::default() };
    assert_eq!(text(stream(file.path().into(), None, tail)).await, "4\n5\n");
}

#[test]
fn old_attempts_and_pods_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path());
    for attempt in 0..4 {
        say(&logs.create(&id(attempt), "ns", "p"), "x\n");
    }
    let there: Vec<bool> = (0..4).map(|a| logs.path(&id(a), "ns", "p").exists()).collect();
    assert_eq!(there, [false, false, true, true]);
    logs.sweep(|uid| uid == "u");
    assert!(logs.path(&id(3), "ns", "p").exists());
    logs.sweep(|_| false);
    assert!(!logs.path(&id(3), "ns", "p").exists());
}

#[test]
fn idle_files_are_closed_and_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path());
    let file = logs.create(&id(0), "ns", "p");
    say(&file, "a\n");
    assert_eq!(lock(&logs.open).len(), 1);
    logs.close_idle();
    assert_eq!(lock(&logs.open).len(), 1, "was busy");
    logs.close_idle();
    assert_eq!(lock(&logs.open).len(), 0);
    say(&file, "b\n");
    let written = std::fs::read_to_string(file.path()).unwrap();
    assert_eq!(written.lines().count(), 2);
}
