//! `copepod members`: the servers of the cluster.

use bytes::Bytes;
use clap::{Args, Subcommand};
use copepod_client::Client;
use copepod_client::join::MEMBERS;
use copepod_model::Status;
use copepod_server::members::Member;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;

use super::Error;
use crate::connect::{Connect, refused};
use crate::say::say;

/// The servers of the cluster: who they are, who votes, who leaves.
#[derive(Debug, Args)]
pub struct Members {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the servers.
    List,
    /// Let a learner vote.
    Promote {
        /// Its ID or name.
        member: String,
        /// A server, dead or alive, that is taken out in the same step, by its ID or name.
        #[arg(long, value_name = "MEMBER")]
        replacing: Option<String>,
    },
    /// Take a server out, dead or alive; one that is alive stops. Its data folder is of no more use.
    Remove {
        /// Its ID or name.
        member: String,
    },
}

#[derive(Deserialize)]
struct List {
    members: Vec<Member>,
}

/// Longest answer, in bytes.
const ANSWER: usize = 1 << 20;

impl Members {
    /// Does what was said.
    pub async fn run(self) -> Result<(), Error> {
        let (client, _) = self.connect.client()?;
        let members = list(&client).await.map_err(refused)?;
        match self.verb {
            Verb::List => say(table(&members))?,
            Verb::Promote { member, replacing } => {
                let one = find(&members, &member)?;
                let old = replacing.map(|old| find(&members, &old)).transpose()?;
                let path = format!("{MEMBERS}/{}/promote", one.id);
                let path = old.map_or(path.clone(), |old| format!("{path}?replacing={}", old.id));
                ask(&client, Method::POST, &path).await.map_err(refused)?;
                let place = old.map_or(String::new(), |old| format!(" in the place of {} ({})", old.id, old.name));
                say(format!("member {} ({}) votes{place}\n", one.id, one.name))?;
            }
            Verb::Remove { member } => {
                let one = find(&members, &member)?;
                ask(&client, Method::DELETE, &format!("{MEMBERS}/{}", one.id)).await.map_err(refused)?;
                say(format!("member {} ({}) removed\n", one.id, one.name))?;
            }
        }
        Ok(())
    }
}

async fn list(client: &Client) -> Result<Vec<Member>, Status> {
    let bytes = ask(client, Method::GET, MEMBERS).await?;
    serde_json::from_slice::<List>(&bytes).map(|l| l.members).map_err(Status::internal)
}

async fn ask(client: &Client, method: Method, path: &str) -> Result<Bytes, Status> {
    let request = Request::builder().method(method).uri(path).body(Bytes::new());
    let answer = client.raw(request.map_err(|e| Status::bad_request(e.to_string()))?).await?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER).collect().await;
    let body = body.map_err(|e| Status::unavailable(format!("the answer broke off: {e}")))?.to_bytes();
    if code.is_success() { Ok(body) } else { Err(Status::from_json(code.as_u16(), &body)) }
}

/// The one with this ID or name. Names of servers may be numbers: an ID comes first.
fn find<'a>(members: &'a [Member], which: &str) -> Result<&'a Member, Error> {
    let by_id = which.parse().ok().and_then(|id: u64| members.iter().find(|m| m.id == id));
    let found = by_id.or_else(|| members.iter().find(|m| m.name == which));
    found.ok_or_else(|| refused(Status::not_found("members", which)))
}

fn table(members: &[Member]) -> String {
    let yes = |b: bool| if b { "yes" } else { "no" };
    let rows = members.iter().map(|m| {
        let role = match (m.leader, m.voter) {
            (true, _) => "leader",
            (_, true) => "voter",
            _ => "learner",
        };
        [m.id.to_string(), m.name.clone(), role.into(), yes(m.reachable).into(), m.api.clone(), m.peer.clone()]
    });
    let head = ["ID", "NAME", "ROLE", "REACHABLE", "API", "PEER"].map(String::from);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|r| r[column].len()).max().unwrap_or(0);
    let line = |row: &[String; 6]| {
        let cells: Vec<String> = (0..row.len()).map(|i| format!("{:<w$}", row[i], w = width(i))).collect();
        cells.join("   ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, voter: bool, leader: bool) -> Member {
        let at = |port: u16| format!("10.0.0.{id}:{port}");
        Member {
            id,
            name: name.into(),
            peer: at(2380),
            api: at(6443),
            voter,
            leader,
            reachable: leader,
            learner: false,
        }
    }

    #[test]
    fn members_are_shown_and_found_by_id_or_name() {
        let members = [member(1, "a", true, true), member(2, "bee", true, false), member(7, "1", false, false)];
        let want = "\
ID   NAME   ROLE      REACHABLE   API             PEER
1    a      leader    yes         10.0.0.1:6443   10.0.0.1:2380
2    bee    voter     no          10.0.0.2:6443   10.0.0.2:2380
7    1      learner   no          10.0.0.7:6443   10.0.0.7:2380
";
        assert_eq!(table(&members), want);
        for (which, id) in [("2", Some(2)), ("bee", Some(2)), ("1", Some(1)), ("7", Some(7)), ("c", None)] {
            assert_eq!(find(&members, which).ok().map(|m| m.id), id, "{which}");
        }
    }
}
