//! The subcommand that shows a cluster in a terminal, as one node sees it.

mod screen;

use std::{
    error::Error,
    io::{IsTerminal, stdout},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use self::screen::Screen;
use crate::client::{Target, read_events};

/// How often the node is asked.
const REFRESH: Duration = Duration::from_millis(500);

/// How often the terminal is drawn. A lease runs down meanwhile.
const DRAW: Duration = Duration::from_millis(100);

/// How many members a page key passes.
const PAGE: usize = 10;

#[derive(Args, Debug)]
pub(crate) struct Top {
    /// The HTTP address of the node, host:port
    #[arg(long, value_name = "ADDRESS")]
    http: String,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Quit,
    Up(usize),
    Down(usize),
    Nothing,
}

impl Action {
    fn of(key: KeyEvent) -> Self {
        match key.code {
            _ if key.kind == KeyEventKind::Release => Self::Nothing,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Self::Quit,
            KeyCode::Char('q') | KeyCode::Esc => Self::Quit,
            KeyCode::Up => Self::Up(1),
            KeyCode::Down => Self::Down(1),
            KeyCode::PageUp => Self::Up(PAGE),
            KeyCode::PageDown => Self::Down(PAGE),
            _ => Self::Nothing,
        }
    }
}

impl Top {
    /// Shows the node until a key ends that.
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        if !stdout().is_terminal() {
            return Err("top needs a terminal; use status, members and events elsewhere".into());
        }
        let target = Target::at(self.http);
        let shared = Arc::new(Mutex::new(Screen::new(target.address())));
        let of_poller = (target.clone(), shared.clone());
        thread::Builder::new().spawn(move || poll(&of_poller.0, &of_poller.1))?;
        let of_follower = shared.clone();
        thread::Builder::new().spawn(move || follow(&target, &of_follower))?;
        let mut terminal = ratatui::try_init()?;
        let ended = loop {
            if let Err(error) = terminal.draw(|frame| lock(&shared).draw(frame, Instant::now())) {
                break Err(error);
            }
            match next_key() {
                Ok(Action::Quit) => break Ok(()),
                Ok(Action::Up(by)) => lock(&shared).scroll_up(by),
                Ok(Action::Down(by)) => lock(&shared).scroll_down(by),
                Ok(Action::Nothing) => {}
                Err(error) => break Err(error),
            }
        };
        ratatui::restore();
        Ok(ended?)
    }
}

/// The key that is pressed before it is time to draw again.
fn next_key() -> std::io::Result<Action> {
    if !event::poll(DRAW)? {
        return Ok(Action::Nothing);
    }
    Ok(match event::read()? {
        Event::Key(key) => Action::of(key),
        _ => Action::Nothing,
    })
}

fn lock(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks the node what it is doing, again and again.
fn poll(target: &Target, screen: &Mutex<Screen>) {
    loop {
        match target.value("cluster") {
            Ok(overview) => {
                // A node that is about to stop may not explain itself any more.
                let explanation = target.value("explain").ok();
                lock(screen).answered(overview, explanation, Instant::now());
            }
            Err(error) => lock(screen).failed(error.to_string()),
        }
        thread::sleep(REFRESH);
    }
}

/// Reads the events of the node, also after a restart.
fn follow(target: &Target, screen: &Mutex<Screen>) {
    let mut seen = String::new();
    loop {
        // The other thread reports that the node does not answer.
        let _ = read_events(target, &mut seen, |_, event| {
            lock(screen).happened(event);
            Ok(false)
        });
        thread::sleep(REFRESH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_ctrl_c_quit() {
        let press = |code| Action::of(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!([KeyCode::Char('q'), KeyCode::Esc].map(press), [Action::Quit; 2]);
        assert_eq!(Action::of(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Action::Quit);
        assert_eq!([KeyCode::Char('c'), KeyCode::Enter].map(press), [Action::Nothing; 2]);
        assert_eq!([KeyCode::Up, KeyCode::PageDown].map(press), [Action::Up(1), Action::Down(PAGE)]);
        let mut released = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        released.kind = KeyEventKind::Release;
        assert_eq!(Action::of(released), Action::Nothing);
    }
}
