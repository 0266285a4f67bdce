//! Schedules of CronJobs.

use copepod_model::kinds::batch::schedule::Schedule;

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "cron_schedule",
    run,
    seeds,
    words: &[
        "*",
        "?",
        "/",
        "-",
        ",",
        " ",
        "@every ",
        "@daily",
        "TZ=",
        "CRON_TZ=UTC ",
        "jan",
        "SUN",
        "59",
        "60",
        "1h30m",
        "+",
        "4294967295",
    ],
    room: Room::BYTES,
};

fn run(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let schedule = match Schedule::parse(&text) {
        Ok(schedule) => schedule,
        Err(why) => return Outcome::refused(why),
    };
    let printed = print(&schedule);
    assert_eq!(Schedule::parse(&printed).as_ref(), Ok(&schedule), "{text:?} as {printed:?}");
    Outcome::taken(printed.len())
}

/// A text of the same schedule.
fn print(schedule: &Schedule) -> String {
    match schedule {
        Schedule::Every(interval) => {
            assert!(interval.as_secs() >= 1 && interval.subsec_nanos() == 0, "{interval:?}");
            format!("@every {}s", interval.as_secs())
        }
        Schedule::Calendar { minutes, hours, days, months, weekdays, either_day } => {
            let list = |bits: u64, min: u32, max: u32| {
                assert_eq!(
                    bits & !((u64::MAX >> (63 - max)) & (u64::MAX << min)),
                    0,
                    "{bits:b} is not within {min} to {max}"
                );
                (min..=max).filter(|n| bits >> n & 1 == 1).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
            };
            // A star among the days says that they are not restricted; one with a step is a restriction.
            let star = if *either_day { "" } else { ",*" };
            let (mut day, mut weekday) = (list(*days, 1, 31), list(*weekdays, 0, 6));
            if *days == u64::MAX >> 32 & !1 {
                day.push_str(star);
            } else if *weekdays == 0x7f {
                weekday.push_str(star);
            }
            let or_none = |text: String| if text.is_empty() { ",".to_string() } else { text };
            [list(*minutes, 0, 59), list(*hours, 0, 23), day, list(*months, 1, 12), weekday].map(or_none).join(" ")
        }
    }
}

fn seeds() -> Vec<Seed> {
    let all = [
        "* * * * *",
        "*/5 1-3 1,15 jan-mar mon-fri",
        "0 0 31 12 ?",
        "1/7 */2 * * 0",
        "@daily",
        "@every 1h30m",
        "@every 1.5s",
        "TZ=UTC 5 4 * * sun",
    ];
    all.iter().enumerate().map(|(i, text)| (format!("s{i}"), (*text).into())).collect()
}
