//! The subcommands that ask a running node over HTTP.

use std::{
    error::Error,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write, stdout},
    path::PathBuf,
    process::ExitCode,
    thread::sleep,
    time::{Duration, SystemTime},
};

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use formation_core::{Address, Explanation, VoterReport};
use formation_host::SourceReport;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::{Agent, RequestBuilder, http::Response, typestate::WithBody};

#[cfg(feature = "top")]
use crate::top::Top;
use crate::{
    keygen::Keygen,
    replay::{Look, is_closed},
    settings::Settings,
};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The names of the subcommands.
const VERBS: [&str; 12] = [
    "status",
    "members",
    "events",
    "explain",
    "voters",
    "top",
    "leave",
    "resign",
    "keygen",
    "replay",
    "completions",
    "man",
];

/// How long a node may take to answer, apart from a stream of events.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take to leave: as long as a supervisor waits for that.
const LEAVE_PATIENCE: Duration = Duration::from_secs(90);

/// How long a stream of events may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// How long to wait before a node that does not answer is asked for its events again.
const AGAIN: Duration = Duration::from_secs(1);

/// The last moment that can be written as a date, in milliseconds since 1970.
const END_OF_9999: u64 = 253_402_300_799_999;

/// Asks a running node that was started with --http, or shows a recorded run of a node.
///
/// Exit codes: 0 when the node has answered, 1 when it has not or has refused, 2 for wrong flags. `replay` exits with 1 if the run cannot
/// be repeated.
#[derive(Debug, Parser)]
#[command(version)]
struct Client {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Who is the master, and what the node is doing
    Status(Target),
    /// The members of the cluster
    Members(Target),
    /// The last events, one per line
    Events {
        #[command(flatten)]
        target: Target,
        /// Go on with those to come, also after a restart of the node
        #[arg(long)]
        follow: bool,
    },
    /// What the node is doing, and why it is not doing more
    Explain(Target),
    /// The voters, and what the node finds at the address of each. With a subcommand, the voters change: ask the master
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Voters {
        #[command(flatten)]
        target: Option<Target>,
        #[command(subcommand)]
        change: Option<VotersChange>,
    },
    /// Show the cluster in this terminal, as the node sees it, until q is pressed
    #[cfg(feature = "top")]
    Top(Top),
    /// Make the node leave the cluster
    Leave(Control),
    /// Make the node hand its mastership over
    Resign(Control),
    /// Show a run of a node that was recorded with --record-to: each input, and what the node has done
    Replay(Look),
    /// Make a cluster key, or a token for HTTP: 32 random bytes in hexadecimal digits
    Keygen(Keygen),
    /// Print the completions of a shell, to be read by its start-up file
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, in the format of man
    Man {
        /// The subcommand that the page is about
        subcommand: Option<String>,
    },
}

/// A change of the voters while the cluster runs. Only the master takes it, and another node names the master.
#[derive(Debug, Subcommand)]
enum VotersChange {
    /// Make the member at this address a voter. It has to store its votes (--state-dir)
    Add {
        /// The address that the member advertises, host:port
        address: Address,
        #[command(flatten)]
        control: Control,
    },
    /// Make the node at this address no voter any more. It stays a member, if it runs
    Remove {
        /// The address of the voter, host:port
        address: Address,
        #[command(flatten)]
        control: Control,
    },
    /// Make exactly these addresses the voters. The present voters give up a change that waits
    Set {
        /// The addresses, host:port
        #[arg(required = true)]
        addresses: Vec<Address>,
        #[command(flatten)]
        control: Control,
    },
}

impl VotersChange {
    fn run(self) -> Fallible<()> {
        let (control, asked) = match self {
            Self::Add { address, control } => (control, json!({ "add": address })),
            Self::Remove { address, control } => (control, json!({ "remove": address })),
            Self::Set { addresses, control } => (control, json!({ "set": addresses })),
        };
        let request = control.request("voters")?.header("Content-Type", "application/json");
        let answer = text(request.send(&asked.to_string()).map_err(|error| control.target.failed(&error))?)?;
        match control.target.json {
            true => print(&json!({ "asked": asked, "answer": answer.trim_end() }).to_string()),
            false => print(answer.trim_end()),
        }
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// The HTTP address of the node, host:port
    #[arg(long, value_name = "ADDRESS")]
    http: String,
    /// Print JSON for a program
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Control {
    #[command(flatten)]
    target: Target,
    /// The file with the token that the node was given
    #[arg(long, value_name = "FILE")]
    http_token_file: PathBuf,
}

/// Runs the subcommand of these arguments. `None`: there is none of this name.
pub(crate) fn run(name: &'static str, arguments: &[OsString]) -> Option<ExitCode> {
    let is_verb = |argument: &OsString| VERBS.iter().any(|verb| argument == verb);
    arguments.get(1).filter(|argument| is_verb(argument))?;
    let matches = Client::command().name(name).try_get_matches_from(arguments);
    let client = match matches.and_then(|matches| Client::from_arg_matches(&matches)) {
        Ok(client) => client,
        Err(error) => {
            // It fails if nobody reads it.
            let _ = error.print();
            return Some(ExitCode::from(if error.use_stderr() { 2 } else { 0 }));
        }
    };
    Some(match client.verb.run(name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    })
}

impl Verb {
    fn run(self, name: &'static str) -> Fallible<()> {
        match self {
            Self::Completions { shell } => {
                generate(shell, &mut whole(), name, &mut stdout());
                Ok(())
            }
            Self::Man { subcommand } => manual(name, subcommand.as_deref()),
            Self::Keygen(keygen) => keygen.run(),
            #[cfg(feature = "top")]
            Self::Top(top) => top.run(),
            Self::Status(target) => {
                let mut overview = target.value("cluster")?;
                if target.json {
                    overview["view"].take();
                    return print(&overview.to_string());
                }
                print(&status(&overview))
            }
            Self::Members(target) => {
                let cluster = target.value("cluster")?;
                let view = cluster.get("view").ok_or("the answer has no view: is that the port of a node?")?;
                if target.json { print(&view.to_string()) } else { print(&members(view)) }
            }
            Self::Explain(target) => {
                let text = target.get("explain")?;
                if target.json {
                    return print(&text);
                }
                // The node may be of another version. Then its answer is shown as it is.
                match serde_json::from_str::<Explanation>(&text) {
                    Ok(explanation) => print(explanation.to_string().trim_end()),
                    Err(_) => print(&text),
                }
            }
            Self::Voters { change: Some(change), .. } => change.run(),
            Self::Voters { target, change: None } => {
                let target = target.ok_or("--http is missing")?;
                let mut explanation = target.value("explain")?;
                let voters = explanation["voters"].take();
                if target.json {
                    return print(&voters.to_string());
                }
                let voters: Vec<VoterReport> = serde_json::from_value(voters)
                    .map_err(|error| format!("{error}; is the node of another version? --json shows its answer"))?;
                voters.iter().try_for_each(|voter| print(&voter.to_string()))?;
                match explanation["target"].as_array() {
                    Some(target) => {
                        let target: Vec<_> = target.iter().map(word).collect();
                        print(&format!("changing to: {}", target.join(", ")))
                    }
                    None => Ok(()),
                }
            }
            Self::Events { target, follow } => events(&target, follow),
            Self::Leave(control) => control.post("leave"),
            Self::Resign(control) => control.post("resign"),
            Self::Replay(look) => look.run(),
        }
    }
}

/// The flags of a node, and all subcommands. The flags stand before them, as `run` can be left out.
fn whole() -> Command {
    let subcommands = Client::command();
    let run = Settings::command().name("run");
    let all = subcommands.get_subcommands().cloned().chain([run]);
    Settings::command().subcommands(all)
}

/// Prints the manual page of the program, or of one of its subcommands.
fn manual(name: &'static str, subcommand: Option<&str>) -> Fallible<()> {
    let mut command = whole().name(name);
    command.build();
    let page = match subcommand {
        None => command,
        Some(verb) => {
            let found = command.find_subcommand(verb).cloned();
            let all = || command.get_subcommands().map(Command::get_name).collect::<Vec<_>>().join(", ");
            found.ok_or_else(|| format!("there is no subcommand {verb:?}, but: {}", all()))?
        }
    };
    Ok(Man::new(page).render(&mut stdout())?)
}

/// An agent that leaves the answers of the node, also the bad ones, to the caller.
fn agent(patience: Option<Duration>) -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).timeout_connect(Some(PATIENCE));
    // The node is asked itself. A proxy that the environment names would see the token.
    let config = config.proxy(None).max_redirects(0);
    // A stream of events has a sign of life every ten seconds.
    let silence = patience.is_none().then_some(SILENCE);
    config.timeout_per_read(silence).timeout_global(patience).build().into()
}

impl Target {
    #[cfg(feature = "top")]
    pub(crate) fn at(http: String) -> Self {
        Self { http, json: false }
    }

    #[cfg(feature = "top")]
    pub(crate) fn address(&self) -> &str {
        &self.http
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.http)
    }

    fn failed(&self, error: &ureq::Error) -> Box<dyn Error> {
        format!("{} does not answer: {error}; was the node started with --http?", self.http).into()
    }

    fn get(&self, path: &str) -> Fallible<String> {
        let answer = agent(Some(PATIENCE)).get(self.url(path)).call();
        text(answer.map_err(|error| self.failed(&error))?)
    }

    pub(crate) fn value(&self, path: &str) -> Fallible<Value> {
        Ok(serde_json::from_str(&self.get(path)?)?)
    }
}

impl Control {
    fn request(&self, path: &str) -> Fallible<RequestBuilder<WithBody>> {
        let secret = fs::read_to_string(&self.http_token_file)
            .map_err(|error| format!("cannot read {}: {error}", self.http_token_file.display()))?;
        let request = agent(Some(LEAVE_PATIENCE)).post(self.target.url(path));
        Ok(request.header("Authorization", format!("Bearer {}", secret.trim())))
    }

    fn post(self, path: &str) -> Fallible<()> {
        let request = self.request(path)?;
        let answer = text(request.send_empty().map_err(|error| self.target.failed(&error))?)?;
        if self.target.json { print(&json!({ "done": path }).to_string()) } else { print(answer.trim_end()) }
    }
}

/// The text of a good answer.
fn text(answer: Response<ureq::Body>) -> Fallible<String> {
    let status = answer.status();
    let text = answer.into_body().read_to_string()?;
    if status.is_success() {
        return Ok(text);
    }
    let hint = if status.as_u16() == 404 { "; was the node started with --http-token-file?" } else { "" };
    Err(format!("the node answers {status}: {}{hint}", text.trim_end()).into())
}

fn print(text: &str) -> Fallible<()> {
    Ok(writeln!(stdout(), "{text}")?)
}

/// A text of the node, as it is.
pub(crate) fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn status(overview: &Value) -> String {
    let (node, status) = (&overview["node"], &overview["status"]);
    let readiness = if overview["is_ready"] == true { "ready" } else { "not ready" };
    let mut lines = vec![format!(
        "{} in {} at {}: {}, {readiness}",
        word(&node["id"]),
        word(&overview["cluster"]),
        word(&overview["address"]),
        word(&status["phase"]).to_lowercase()
    )];
    lines.push(master(overview).unwrap_or_else(|| format!("no master: {}", word(&overview["no_master"]))));
    if let Some(left) = overview["lease_ms"].as_u64() {
        lines.push(format!("lease: {left} ms left"));
    }
    let members = overview["view"]["members"].as_array().map_or(0, Vec::len);
    lines.push(format!("members: {members}, links: {}", status["links"]));
    lines.extend(sources(overview));
    lines.join("\n")
}

/// The master, if there is one.
pub(crate) fn master(overview: &Value) -> Option<String> {
    let master = &overview["master"];
    let id = master["node"]["id"].as_str()?;
    Some(format!("master: {id} at {}, term {}", word(&master["address"]), master["term"]))
}

/// The sources of addresses, and what they have found. A node of an older version does not say so.
pub(crate) fn sources(overview: &Value) -> Vec<String> {
    let reports = overview["sources"].as_array().into_iter().flatten();
    let reports = reports.filter_map(|report| SourceReport::deserialize(report).ok());
    reports.map(|report| format!("discovery: {report}")).collect()
}

fn members(view: &Value) -> String {
    let rows = view["members"].as_array().into_iter().flatten();
    let rows = rows.map(|it| [word(&it["node"]["id"]), word(&it["state"]).to_lowercase(), word(&it["address"])]);
    let rows: Vec<_> = [["NODE", "STATE", "ADDRESS"].map(str::to_owned)].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (first, second) = (width(0), width(1));
    let line = |[id, state, address]: &[String; 3]| format!("{id:first$}  {state:second$}  {address}");
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Prints events. Without `follow`, those up to the newest one.
fn events(target: &Target, follow: bool) -> Fallible<()> {
    let newest = target.value("cluster")?["newest_event"].as_u64().unwrap_or_default();
    if newest == 0 && !follow {
        return Ok(());
    }
    let (mut seen, mut known) = (String::new(), String::new());
    loop {
        let read = read_events(target, &mut seen, |data, event| {
            print_event(target, data, event)?;
            Ok(!follow && event["number"].as_u64().unwrap_or_default() >= newest)
        });
        match read {
            Ok(()) if !follow => return Ok(()),
            Err(error) if !follow || is_closed(&*error) => return Err(error),
            Err(error) => {
                // Once for each reason: a node that restarts does not answer for a while.
                let reason = error.to_string();
                if reason != known {
                    eprintln!("warning: {reason}; it is asked again");
                    known = reason;
                }
                sleep(AGAIN);
            }
            Ok(()) => sleep(AGAIN),
        }
    }
}

/// When an event has happened. A wrong time of the node is shown as the last moment that can be written.
pub(crate) fn happened_at(event: &Value) -> SystemTime {
    let unix_ms = event["unix_ms"].as_u64().unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms.min(END_OF_9999))
}

/// Prints an event, and its line of JSON if that was asked for.
fn print_event(target: &Target, data: &str, event: &Value) -> Fallible<()> {
    if target.json {
        return print(data);
    }
    let Some(sentence) = event["line"].as_str() else { return Ok(()) };
    let time = humantime::format_rfc3339_millis(happened_at(event));
    print(&format!("{time} {sentence}"))
}

/// Reads the events of one stream after the one that was seen last, until `each` returns true, or the end of the stream.
pub(crate) fn read_events(
    target: &Target,
    seen: &mut String,
    mut each: impl FnMut(&str, &Value) -> Fallible<bool>,
) -> Fallible<()> {
    let answer = agent(None).get(target.url("events")).header("Last-Event-ID", seen.as_str()).call();
    let answer = answer.map_err(|error| target.failed(&error))?;
    if !answer.status().is_success() {
        return text(answer).map(drop);
    }
    for line in BufReader::new(answer.into_body().into_reader()).lines() {
        let line = line?;
        if let Some(id) = line.strip_prefix("id: ") {
            id.clone_into(seen);
        }
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if each(data, &serde_json::from_str(data)?)? {
            return Ok(());
        }
    }
    Ok(())
}
