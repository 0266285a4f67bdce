//! A WASI preview 1 command. Without arguments it prints its arguments and environment. The first argument chooses
//! something else, mostly ways to end.

use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = || args.get(2).and_then(|n| n.parse::<i32>().ok());
    match args.get(1).map(String::as_str) {
        None => show(&args),
        Some("exit") => exit(number().unwrap_or(0)),
        Some("err") => eprintln!("this goes to stderr"),
        Some("loop") => tick(number()),
        Some("sleep") => sleep(Duration::from_secs(number().unwrap_or(3600).max(0) as u64)),
        Some("spin") => loop {
            std::hint::spin_loop()
        },
        Some("alloc") => {
            let mib = number().unwrap_or(1).max(0) as usize;
            println!("{} bytes filled", std::hint::black_box(vec![1u8; mib << 20]).len());
        }
        Some("trap") => panic!("asked to trap"),
        Some(other) => {
            eprintln!("unknown command {other:?}; known: exit N, err, loop [N], sleep [S], spin, alloc MIB, trap");
            exit(2);
        }
    }
}

fn show(args: &[String]) {
    for (at, arg) in args.iter().enumerate() {
        println!("arg {at}: {arg}");
    }
    for (name, value) in std::env::vars() {
        println!("env {name}={value}");
    }
}

/// A line every 100 ms, `times` of them or for ever.
fn tick(times: Option<i32>) {
    for at in 1.. {
        println!("tick {at}");
        if Some(at) == times {
            break;
        }
        sleep(Duration::from_millis(100));
    }
}
