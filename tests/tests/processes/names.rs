//! A name server for the pods: it has their addresses, and nothing else.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// The length of the header of a message.
const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;

/// The names and their addresses. A clone is a handle of the same names.
#[derive(Clone, Default)]
pub(crate) struct Names(Arc<Mutex<BTreeMap<String, Ipv4Addr>>>);

impl Names {
    /// Answers at port 53 of this address until the process ends.
    pub(crate) fn serve(&self, at: Ipv4Addr) -> io::Result<()> {
        let (socket, names) = (UdpSocket::bind((at, 53))?, self.clone());
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                if let Some(answer) = answer(&query[..length], |name| names.lock().get(name).copied()) {
                    // If it is lost, the client asks again.
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Ipv4Addr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn publish(&self, name: &str, address: Ipv4Addr) {
        self.lock().insert(name.to_ascii_lowercase(), address);
    }

    pub(crate) fn withdraw(&self, name: &str) {
        self.lock().remove(&name.to_ascii_lowercase());
    }
}

/// The answer to a query of one name. `None`: it is no such query.
fn answer(query: &[u8], lookup: impl Fn(&str) -> Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (HEADER, vec![]);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(std::str::from_utf8(query.get(at..at + length)?).ok()?.to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
    let question = query.get(HEADER..at + 4)?;
    let found = lookup(&labels.join("."));
    let records: Vec<_> = found.filter(|_| kind == TYPE_A).into_iter().collect();
    let code = if found.is_some() { NO_ERROR } else { NO_SUCH_NAME };
    // An answer with authority, one question, and the records.
    let mut answer = query[..2].to_vec();
    answer.extend([0x85, 0x80 | code, 0, 1, 0, u8::try_from(records.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(question);
    for address in records {
        // The name of the question, type A, class IN, no time to live, four bytes.
        answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

#[test]
fn a_name_server_answers_for_the_names_that_it_has() {
    let query = |kind| [&b"ID\x01\0\0\x01\0\0\0\0\0\0\x03Pod\x05nodes\0\0"[..], &[kind, 0, 1]].concat();
    let known = |name: &str| (name == "pod.nodes").then_some(Ipv4Addr::new(10, 99, 0, 7));
    let found = answer(&query(1), known).unwrap();
    assert_eq!((&found[..4], &found[6..8]), (&b"ID\x85\x80"[..], &[0, 1][..]));
    assert!(found.ends_with(&[0, 4, 10, 99, 0, 7]));
    // It has an address, but none of IPv6.
    assert_eq!(answer(&query(28), known).unwrap()[3..8], [0x80, 0, 1, 0, 0]);
    assert_eq!(answer(&query(1), |_| None).unwrap()[3..8], [0x83, 0, 1, 0, 0]);
    assert_eq!(answer(b"too short", known), None);
}
