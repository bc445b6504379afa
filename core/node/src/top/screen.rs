//! What is on the screen: the last answers of the node, and how they are drawn.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use formation_core::{Address, Explanation, VoterReport};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::Line,
    widgets::{Block, Paragraph, Row, Table, Wrap},
};
use serde_json::Value;

use crate::client::{happened_at, master, sources, word};

/// How many events are kept.
const EVENTS: usize = 200;

/// How wide the bar of a lease is, in characters.
const BAR: usize = 30;

/// The last answers of a node.
#[derive(Debug)]
pub(super) struct Screen {
    address: String,
    overview: Value,
    explanation: Option<Explanation>,
    /// The last events, the oldest first.
    events: VecDeque<String>,
    /// When the node has answered last.
    read_at: Option<Instant>,
    /// Why it does not answer now.
    failure: Option<String>,
    /// How many members are above the first one that is shown.
    scrolled: usize,
}

impl Screen {
    pub(super) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            overview: Value::Null,
            explanation: None,
            events: VecDeque::new(),
            read_at: None,
            failure: None,
            scrolled: 0,
        }
    }

    /// The node has answered. An explanation of another version is left out.
    pub(super) fn answered(&mut self, overview: Value, explanation: Option<Value>, now: Instant) {
        (self.overview, self.read_at, self.failure) = (overview, Some(now), None);
        self.explanation = explanation.and_then(|explanation| serde_json::from_value(explanation).ok());
    }

    pub(super) fn failed(&mut self, why: String) {
        self.failure = Some(why);
    }

    /// There is a new event.
    pub(super) fn happened(&mut self, event: &Value) {
        let Some(sentence) = event["line"].as_str() else { return };
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        let at = humantime::format_rfc3339_seconds(happened_at(event)).to_string();
        // The time of the day, in UTC.
        self.events.push_back(format!("{} {sentence}", at.get(11..19).unwrap_or(&at)));
    }

    pub(super) fn scroll_up(&mut self, by: usize) {
        self.scrolled = self.scrolled.saturating_sub(by);
    }

    pub(super) fn scroll_down(&mut self, by: usize) {
        let last = self.members().map_or(0, Vec::len).saturating_sub(1);
        self.scrolled = (self.scrolled + by).min(last);
    }

    fn members(&self) -> Option<&Vec<Value>> {
        self.overview["view"]["members"].as_array()
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>, now: Instant) {
        let head = self.head(now);
        let width = usize::from(frame.area().width).max(1);
        let lines: usize = head.iter().map(|line| line.width().div_ceil(width).max(1)).sum();
        let voters = self.explanation.as_ref().map_or(0, |explanation| explanation.voters.len());
        let areas = Layout::vertical([
            Constraint::Length(u16::try_from(lines).unwrap_or(u16::MAX)),
            Constraint::Fill(2),
            Constraint::Length(u16::try_from(voters.min(8) + 3).unwrap_or(u16::MAX)),
            Constraint::Fill(1),
            Constraint::Length(1),
        ]);
        let [top, members, voters, events, keys] = areas.areas(frame.area());
        frame.render_widget(Paragraph::new(head).wrap(Wrap { trim: false }), top);
        self.draw_members(frame, members);
        self.draw_voters(frame, voters);
        self.draw_events(frame, events);
        frame.render_widget("q quits, the arrows scroll the members", keys);
    }

    /// What the node is doing, who is the master, and how long its lease is.
    fn head(&self, now: Instant) -> Vec<Line<'static>> {
        let it = &self.overview;
        let bold = |text: String| Line::styled(text, Style::new().add_modifier(Modifier::BOLD));
        let mut lines = Vec::new();
        if let Some(failure) = &self.failure {
            lines.push(bold(format!("{failure}; what follows is the last answer")));
        }
        let Some(read_at) = self.read_at else {
            lines.push(Line::raw(format!("asking {}", self.address)));
            return lines;
        };
        let passed = now.saturating_duration_since(read_at);
        let readiness = if it["is_ready"] == true { "ready" } else { "not ready" };
        let role = if it["is_voter"] == true { "a voter" } else { "no voter" };
        lines.push(bold(format!(
            "{} in {} at {}: {}, {role}, {readiness}",
            word(&it["node"]["id"]),
            word(&it["cluster"]),
            word(&it["address"]),
            word(&it["status"]["phase"]).to_lowercase()
        )));
        match master(it) {
            Some(master) => lines.push(Line::raw(master)),
            None => {
                let since = Duration::from_millis(it["without_master_ms"].as_u64().unwrap_or_default()) + passed;
                lines.push(bold(format!("no master for {} s: {}", since.as_secs(), word(&it["no_master"]))));
            }
        }
        if let Some(left) = it["lease_ms"].as_u64() {
            let left = Duration::from_millis(left).saturating_sub(passed);
            lines.push(lease(left, Duration::from_millis(it["lease_length_ms"].as_u64().unwrap_or_default())));
        }
        lines.extend(sources(it).into_iter().map(Line::raw));
        lines
    }

    fn draw_members(&self, frame: &mut Frame<'_>, area: Rect) {
        let members = self.members().map_or(&[][..], Vec::as_slice);
        let (own, master) = (&self.overview["node"]["id"], &self.overview["master"]["node"]["id"]);
        let row = |member: &Value| {
            let id = &member["node"]["id"];
            let mark = match (id == master, id == own) {
                (true, true) => "master, this node",
                (true, false) => "master",
                (false, true) => "this node",
                (false, false) => "",
            };
            let state = word(&member["state"]).to_lowercase();
            let is_active = state == "active";
            let cells = [word(id), state, mark.to_owned(), word(&member["address"])];
            let style = if is_active { Style::new() } else { Style::new().add_modifier(Modifier::REVERSED) };
            Row::new(cells).style(style)
        };
        let rows = members.iter().skip(self.scrolled).take(usize::from(area.height)).map(row);
        let widths = [Constraint::Fill(2), Constraint::Length(8), Constraint::Length(17), Constraint::Fill(3)];
        let header = Row::new(["NODE", "STATE", "", "ADDRESS"]);
        let title = format!("{} members", members.len());
        frame.render_widget(Table::new(rows, widths).header(header).block(Block::bordered().title(title)), area);
    }

    fn draw_voters(&self, frame: &mut Frame<'_>, area: Rect) {
        let (voters, quorum) = match &self.explanation {
            Some(explanation) => (explanation.voters.as_slice(), explanation.quorum),
            None => (&[][..], 0),
        };
        let rows = voters.iter().map(|voter| Row::new([voter.address.to_string(), state_of(voter)]));
        let header = Row::new(["SEED", "VOTER"]);
        let target = self.explanation.as_ref().and_then(|explanation| explanation.target.as_ref());
        let changing = target.map_or_else(String::new, |target| format!(", changing to {}", list(target)));
        let title = format!("{} voters, {quorum} elect a master{changing}", voters.len());
        let table = Table::new(rows, [Constraint::Fill(1), Constraint::Fill(2)]).header(header);
        frame.render_widget(table.block(Block::bordered().title(title)), area);
    }

    fn draw_events(&self, frame: &mut Frame<'_>, area: Rect) {
        let room = usize::from(area.height.saturating_sub(2));
        let newest = self.events.iter().rev().take(room).map(|line| Line::raw(line.as_str()));
        let lines: Vec<Line<'_>> = newest.collect();
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("events, the newest first")), area);
    }
}

fn list(addresses: &BTreeSet<Address>) -> String {
    addresses.iter().map(Address::as_str).collect::<Vec<_>>().join(", ")
}

/// What is known of a voter.
fn state_of(voter: &VoterReport) -> String {
    match (&voter.node, voter.problem) {
        (Some(node), _) if voter.abstains => format!("{node}, cannot vote now"),
        (Some(node), _) => node.to_string(),
        (None, Some(problem)) => format!("not linked: {problem}"),
        (None, None) => "not linked".to_owned(),
    }
}

/// A lease that runs down.
fn lease(left: Duration, whole: Duration) -> Line<'static> {
    let (left, whole) = (left.as_millis(), whole.as_millis().max(1));
    let full = usize::try_from(left * BAR as u128 / whole).unwrap_or(BAR).min(BAR);
    Line::raw(format!("lease:  [{}{}] {left} ms left", "#".repeat(full), "-".repeat(BAR - full)))
}

#[cfg(test)]
mod tests;
