//! The subcommand that shows a recorded run of a node.

use std::{
    error::Error,
    io::{self, Write},
    path::PathBuf,
    time::SystemTime,
};

use clap::Args;
use formation_core::{Formation, Output};
use formation_host::{Replay, Step};
use humantime::{format_rfc3339_micros, parse_rfc3339_weak};

use crate::settings::key;

type Fallible<T> = Result<T, Box<dyn Error>>;

#[derive(Args, Debug)]
pub(crate) struct Look {
    /// A file of a recording, or the directory of --record-to
    #[arg(value_name = "FILE|DIRECTORY")]
    path: PathBuf,
    /// A file that holds the cluster key of the node; repeat it if the node had two
    #[arg(long, value_name = "FILE")]
    key_file: Vec<PathBuf>,
    /// Show only one input, by its number or the time, and the node after it. A time is that of the wall clock, as in
    /// 2026-01-31T23:59:59Z, and means the last input until then
    #[arg(long, value_name = "NUMBER|TIME", value_parser = moment)]
    at: Option<Moment>,
    /// Show only the inputs that lead to an event with this text, or of this name
    #[arg(long, value_name = "EVENT")]
    find: Option<String>,
    /// Print a Rust test that repeats the run up to the input of --at, or the first one of --find
    #[arg(long)]
    test: bool,
    /// Print lines of JSON for a program
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
enum Moment {
    Number(u64),
    Time(SystemTime),
}

fn moment(text: &str) -> Result<Moment, String> {
    let number = text.parse().map(Moment::Number);
    number
        .or_else(|_| parse_rfc3339_weak(text).map(Moment::Time))
        .map_err(|_| format!("{text:?} is neither the number of an input nor a time such as 2026-01-31T23:59:59Z"))
}

impl Look {
    /// Prints what was asked for. It ends early if nobody reads it.
    pub(crate) fn run(&self) -> Fallible<()> {
        match self.print(&mut io::BufWriter::new(io::stdout().lock())) {
            Err(error) if is_closed(&*error) => Ok(()),
            result => result,
        }
    }

    fn print(&self, out: &mut impl Write) -> Fallible<()> {
        let keys = self.key_file.iter().map(|path| key(path)).collect::<Result<Vec<_>, _>>()?;
        let mut replay = Replay::open(&self.path, &keys)?;
        if self.at.is_some() || self.test {
            let (replay, step) = self.seek(&mut replay, &keys)?;
            match self.test {
                true => write!(out, "{}", self.test_of(&replay, &step)?)?,
                false => self.print_moment(out, &replay, &step)?,
            }
            return Ok(out.flush()?);
        }
        let (mut differs, mut problems) = (None, 0);
        for step in replay.by_ref() {
            match step {
                Ok(step) => {
                    differs = differs.or(step.difference.map(|_| step.number));
                    if self.is_wanted(&step) {
                        self.print_step(out, &step)?;
                    }
                }
                Err(error) => {
                    problems += 1;
                    eprintln!("warning: {error}");
                }
            }
        }
        out.flush()?;
        if replay.incomplete_bytes() > 0 {
            eprintln!("the recording ends within an entry: {} bytes are left out", replay.incomplete_bytes());
        }
        match (differs, problems) {
            (None, 0) => Ok(()),
            (None, _) => Err("a part of the recording cannot be replayed".into()),
            (Some(number), _) => Err(format!(
                "input {number} is the first that led to something else in the recorded run: another build of this version may have \
                 recorded it"
            )
            .into()),
        }
    }

    fn is_wanted(&self, step: &Step) -> bool {
        self.find.as_deref().is_none_or(|text| !found(step, text).is_empty())
    }

    /// The wanted step, and the replay right after it.
    fn seek(&self, replay: &mut Replay, keys: &[formation_core::ClusterKey]) -> Fallible<(Replay, Step)> {
        let wanted = self.wanted(replay)?;
        let mut again = Replay::open(&self.path, keys)?;
        // Each file begins with a node of its own, so only a difference in the same file matters.
        let (mut path, mut differs) = (PathBuf::new(), None);
        while let Some(step) = again.next() {
            let Ok(step) = step else { continue };
            if path != again.path() {
                (path, differs) = (again.path().to_owned(), None);
            }
            differs = differs.or(step.difference.map(|_| step.number));
            if (step.number, step.unix_us) == (wanted.number, wanted.unix_us) {
                break;
            }
        }
        if let Some(number) = differs {
            let problem = format!("input {number} in {} led to something else in the recorded run", path.display());
            if self.test {
                return Err(format!("{problem}: a test would not repeat that run").into());
            }
            eprintln!("warning: {problem}: the node after it may be another one than the recorded node");
        }
        Ok((again, wanted))
    }

    /// The step that was asked for.
    fn wanted(&self, replay: &mut Replay) -> Fallible<Step> {
        let mut wanted: Option<Step> = None;
        // Inputs are numbered from 1 in each run, so several may have the number.
        let mut places = Vec::new();
        while let Some(step) = replay.next() {
            let step = match step {
                Ok(step) => step,
                Err(error) => {
                    eprintln!("warning: {error}");
                    continue;
                }
            };
            let (is_candidate, is_past) = match self.at {
                Some(Moment::Number(number)) => (step.number == number, false),
                Some(Moment::Time(time)) => (step.wall_clock() <= time, step.wall_clock() > time),
                None => (self.find.is_some(), false),
            };
            if is_candidate && self.is_wanted(&step) {
                if let Some(Moment::Number(_)) = self.at {
                    let time = format_rfc3339_micros(step.wall_clock());
                    places.push(format!("at {time} in {}", replay.path().display()));
                }
                wanted = Some(step);
            }
            let is_first = self.at.is_none() && wanted.is_some();
            if is_past || is_first {
                break;
            }
        }
        if places.len() > 1 {
            let places = places.join(", ");
            return Err(
                format!("several runs have an input of this number: {places}; name its file, or its time").into()
            );
        }
        let missing = match self.at {
            Some(_) => "there is no such input in the recording",
            None if self.find.is_some() => "there is no such event in the recording",
            None => "--test needs --at or --find, which names what the test shows",
        };
        Ok(wanted.ok_or(missing)?)
    }

    fn print_step(&self, out: &mut impl Write, step: &Step) -> Fallible<()> {
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string(step)?)?,
            false => writeln!(out, "{} {step}", format_rfc3339_micros(step.wall_clock()))?,
        }
        Ok(())
    }

    fn print_moment(&self, out: &mut impl Write, replay: &Replay, step: &Step) -> Fallible<()> {
        let node = replay.node();
        if self.json {
            let all = serde_json::json!({
                "step": step,
                "status": node.status(),
                "leadership": node.leadership(replay.now()),
                "view": { "id": node.view().id(), "members": node.view().iter().collect::<Vec<_>>() },
                "explanation": node.explain(),
            });
            return Ok(writeln!(out, "{all}")?);
        }
        self.print_step(out, step)?;
        writeln!(out, "\n{}", text_of(node))?;
        Ok(())
    }

    /// A test that repeats the run from the begin of the file that the step is in.
    fn test_of(&self, replay: &Replay, step: &Step) -> Fallible<String> {
        let path = replay.path().canonicalize()?;
        let events = match &self.find {
            Some(text) => found(step, text),
            None => step.outputs.iter().filter(|output| matches!(output, Output::Event(_))).collect(),
        };
        let shown = events.first().copied().or(step.outputs.first());
        let shown = shown
            .map(|output| output.to_string())
            .ok_or("nothing follows from this input, so a test would show nothing")?;
        let keys = match self.key_file.as_slice() {
            [] => "[]".to_owned(),
            files => {
                let keys =
                    files.iter().map(|file| Ok(format!("include_str!({:?}).trim_end().into()", file.canonicalize()?)));
                format!("[{}]", keys.collect::<io::Result<Vec<_>>>()?.join(", "))
            }
        };
        let (version, number, time) =
            (env!("CARGO_PKG_VERSION"), step.number, format_rfc3339_micros(step.wall_clock()));
        let node = replay.node().node();
        Ok(format!(
            "//! In `Cargo.toml`: `formation-host = {{ version = \"={version}\", features = [\"recorder\"] }}`.\n\
             \n\
             /// Node {node} at {time}.\n\
             #[test]\n\
             fn input_{number}_has_the_recorded_consequence() {{\n    \
                 let recording = include_bytes!({path:?});\n    \
                 let replay = formation_host::Replay::from_bytes(recording, &{keys}).expect(\"this version has recorded it\");\n    \
                 let mut steps = replay.map(|step| step.expect(\"it is whole\"));\n    \
                 let step = steps.find(|step| step.number == {number}).expect(\"the input was recorded\");\n    \
                 let consequences: Vec<String> = step.outputs.iter().map(ToString::to_string).collect();\n    \
                 let expected = {shown:?};\n    \
                 assert!(consequences.iter().any(|it| it == expected), \"{{consequences:#?}}\");\n\
             }}\n"
        ))
    }
}

/// The events of a step with this text or this name.
fn found<'a>(step: &'a Step, text: &str) -> Vec<&'a Output> {
    let text = text.to_lowercase();
    let is_wanted = |output: &&Output| match output {
        Output::Event(event) => {
            event.to_string().to_lowercase().contains(&text) || format!("{event:?}").to_lowercase().starts_with(&text)
        }
        Output::Dial { .. }
        | Output::Send { .. }
        | Output::Close { .. }
        | Output::Persist { .. }
        | Output::Handoff { .. }
        | Output::StreamFailed { .. } => false,
    };
    step.outputs.iter().filter(is_wanted).collect()
}

fn text_of(node: &Formation) -> String {
    let mut lines = vec![node.status().to_string(), node.view().to_string()];
    lines.extend(node.view().iter().map(|member| format!("  {member}")));
    lines.push(node.explain().to_string().trim_end().to_owned());
    lines.join("\n")
}

/// Whether nobody reads the output any more.
pub(crate) fn is_closed(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
