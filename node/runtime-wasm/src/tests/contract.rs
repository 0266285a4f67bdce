//! What every runtime must do, whatever it runs. Another runtime passes by implementing [`Subject`] over its own
//! images.

use std::time::Duration;

use super::fixture::{Node, Started};
use crate::{Exit, Reason};

/// What a container is to do.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// End with this code.
    Exit(i32),
    /// Print the environment and its arguments, then end.
    Show,
    /// Write a line to standard error, then end.
    Complain,
    /// Use the CPU for ever.
    Spin,
    /// Wait for ever.
    Sleep,
    /// Fill this many MiB, then end.
    Fill(u32),
    /// Crash.
    Crash,
}

/// A runtime under test.
trait Subject {
    type Container: Running;
    async fn start(&self, work: Work, memory_limit: Option<u64>) -> Self::Container;
}

/// A container of it.
trait Running {
    async fn exit(&mut self) -> Exit;
    async fn stop(&self, grace: Duration);
    fn kill(&self);
    fn cpu(&self) -> Duration;
    /// All output so far: `out: ` or `err: ` before each line.
    fn output(&self) -> String;
}

async fn the_exit_code_is_the_programs(subject: &impl Subject) {
    for (code, reason) in [(0, Reason::Completed), (1, Reason::Error), (42, Reason::Error)] {
        let exit = subject.start(Work::Exit(code), None).await.exit().await;
        assert_eq!((exit.code, exit.reason), (code, reason));
    }
}

async fn it_sees_its_arguments_and_environment(subject: &impl Subject) {
    let mut container = subject.start(Work::Show, None).await;
    container.exit().await;
    let output = container.output();
    assert!(output.contains("GREETING=ahoy"), "{output}");
    assert!(output.contains("HOSTNAME=pod-1"), "{output}");
}

async fn the_two_outputs_are_told_apart(subject: &impl Subject) {
    let mut container = subject.start(Work::Complain, None).await;
    container.exit().await;
    assert!(container.output().starts_with("err: "), "{}", container.output());
}

async fn a_crash_is_an_error_with_a_message(subject: &impl Subject) {
    let exit = subject.start(Work::Crash, None).await.exit().await;
    assert_eq!(exit.reason, Reason::Error);
    assert!(exit.code > 128, "{exit:?}");
    assert!(!exit.message.is_empty());
}

async fn too_much_memory_is_oom_killed(subject: &impl Subject) {
    let mut container = subject.start(Work::Fill(64), Some(16 << 20)).await;
    let exit = container.exit().await;
    assert_eq!((exit.code, exit.reason), (137, Reason::OomKilled), "{exit:?}");
    let exit = subject.start(Work::Fill(4), Some(16 << 20)).await.exit().await;
    assert_eq!(exit.reason, Reason::Completed, "what fits is let be: {exit:?}");
}

async fn kill_ends_it_whatever_it_does(subject: &impl Subject) {
    for work in [Work::Spin, Work::Sleep] {
        let mut container = subject.start(work, None).await;
        container.kill();
        assert_eq!(container.exit().await.code, 137, "{work:?}");
    }
}

async fn stop_ends_it(subject: &impl Subject) {
    let mut container = subject.start(Work::Sleep, None).await;
    container.stop(Duration::from_secs(3600)).await;
    assert!(matches!(container.exit().await.code, 137 | 143));
}

async fn spinning_containers_leave_room_for_others(subject: &impl Subject) {
    let mut spinning = Vec::new();
    for _ in 0..8 {
        spinning.push(subject.start(Work::Spin, None).await);
    }
    let exit = subject.start(Work::Show, None).await.exit().await;
    assert_eq!(exit.reason, Reason::Completed);
    while spinning[0].cpu() < Duration::from_millis(20) {
        tokio::task::yield_now().await; // its time is counted while it runs
    }
    for container in &mut spinning {
        container.kill();
        assert_eq!(container.exit().await.code, 137);
    }
}

/// The whole contract.
async fn contract(subject: &impl Subject) {
    the_exit_code_is_the_programs(subject).await;
    it_sees_its_arguments_and_environment(subject).await;
    the_two_outputs_are_told_apart(subject).await;
    a_crash_is_an_error_with_a_message(subject).await;
    too_much_memory_is_oom_killed(subject).await;
    kill_ends_it_whatever_it_does(subject).await;
    stop_ends_it(subject).await;
    spinning_containers_leave_room_for_others(subject).await;
}

impl Subject for Node {
    type Container = Started;

    async fn start(&self, work: Work, memory_limit: Option<u64>) -> Started {
        let args = match work {
            Work::Exit(code) => vec!["exit".to_owned(), code.to_string()],
            Work::Show => vec![],
            Work::Complain => vec!["err".to_owned()],
            Work::Spin => vec!["spin".to_owned()],
            Work::Sleep => vec!["sleep".to_owned()],
            Work::Fill(mib) => vec!["alloc".to_owned(), mib.to_string()],
            Work::Crash => vec!["trap".to_owned()],
        };
        Node::start(self, "preview1", |spec| {
            spec.args = args;
            spec.memory_limit = memory_limit;
        })
        .await
    }
}

impl Running for Started {
    async fn exit(&mut self) -> Exit {
        Started::exit(self).await
    }

    async fn stop(&self, grace: Duration) {
        self.container.stop(grace).await;
    }

    fn kill(&self) {
        self.container.kill();
    }

    fn cpu(&self) -> Duration {
        self.container.usage().cpu
    }

    fn output(&self) -> String {
        self.logs.text()
    }
}

#[tokio::test]
async fn wasm_keeps_the_contract() {
    contract(&Node::new()).await;
}
