//! Inputs and outputs as text, for those who look at a recorded run.

use core::fmt;

use crate::{
    api::electorate::List,
    api::input::{Command, Input},
    api::output::Output,
    wire::message::Message,
};

/// How many characters of a message are shown.
const SHOWN: usize = 400;

/// `conn 3: 24 bytes: Ping`
impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick => f.write_str("tick"),
            Self::Opened { conn, origin, remote } => {
                write!(f, "conn {conn} opened: {origin}")?;
                remote.addr.iter().try_for_each(|addr| write!(f, ", from {addr}"))
            }
            Self::DialFailed { dial, problem } => write!(f, "dial {dial} failed: {problem}"),
            Self::Certified { conn, seeds } => {
                write!(f, "conn {conn} is certified for")?;
                seeds.iter().try_for_each(|seed| write!(f, " {seed}"))
            }
            Self::Received { conn, chunk } => write!(f, "conn {conn}: {}", Frames(chunk)),
            Self::Flushed { conn } => write!(f, "conn {conn} flushed"),
            Self::Closed { conn } => write!(f, "conn {conn} closed"),
            Self::TlsFailed { conn, failure } => write!(f, "conn {conn} is not secured: {failure}"),
            Self::Persisted { seq } => write!(f, "persist {seq} is durable"),
            Self::PersistFailed { seq } => write!(f, "persist {seq} failed"),
            Self::Command(command) => write!(f, "command: {command}"),
            Self::StreamEnded { conn } => write!(f, "the stream on conn {conn} has ended"),
            Self::PersistDelayed { seq } => write!(f, "persist {seq} is delayed"),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leave => f.write_str("leave"),
            Self::Resign => f.write_str("resign"),
            Self::AddContacts(contacts) => {
                f.write_str("add contacts")?;
                contacts.iter().try_for_each(|contact| write!(f, " {contact}"))
            }
            Self::SetDiscovered(found) => {
                f.write_str("discovered are")?;
                found.iter().try_for_each(|address| write!(f, " {address}"))
            }
            Self::SetVoters(voters) => write!(f, "set voters {}", List(voters)),
            Self::OpenStream { stream, to, name } => write!(f, "open stream {stream}: {name:?} to {to}"),
            Self::ServeStreams(names) => {
                f.write_str("take the streams")?;
                names.iter().try_for_each(|name| write!(f, " {name:?}"))
            }
            Self::SetMetadata(metadata) => write!(f, "set metadata of {} bytes", metadata.len()),
        }
    }
}

/// `send on conn 3: 24 bytes: Ping`
impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial { dial, addr, timeout } => write!(f, "dial {dial} to {addr} within {timeout:?}"),
            Self::Send { conn, bytes } => write!(f, "send on conn {conn}: {}", Frames(bytes)),
            Self::Close { conn, reason } => write!(f, "close conn {conn}: {reason}"),
            Self::Persist { seq, state } => {
                write!(f, "persist {seq}: term {}", state.term)?;
                state.voted_for.iter().try_for_each(|node| write!(f, ", vote for {node}"))?;
                state.electorate.iter().try_for_each(|electorate| write!(f, ", electorate {electorate}"))
            }
            Self::Event(event) => write!(f, "event: {event}"),
            Self::Handoff { conn, stream, peer, name, unread } => {
                write!(f, "hand off conn {conn}")?;
                stream.iter().try_for_each(|stream| write!(f, " as stream {stream}"))?;
                write!(f, ": {name:?} with {peer}, {} bytes unread", unread.len())
            }
            Self::StreamFailed { stream, failure } => write!(f, "stream {stream} failed: {failure}"),
        }
    }
}

/// Bytes, with the messages of the whole frames at their start.
struct Frames<'a>(&'a [u8]);

impl fmt::Display for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        write!(f, "{} bytes", rest.len())?;
        while let Some((prefix, after)) = rest.split_first_chunk() {
            let Some((body, after)) = after.split_at_checked(u32::from_be_bytes(*prefix) as usize) else { break };
            let Ok(message) = Message::decode(body) else { break };
            let text = alloc::format!("{message:?}");
            let shown = text.char_indices().nth(SHOWN).map_or(&*text, |(end, _)| &text[..end]);
            write!(f, " | {shown}")?;
            rest = after;
        }
        match rest.len() {
            0 => Ok(()),
            len => write!(f, " | {len} bytes of a frame"),
        }
    }
}
