//! The addresses that all sources have found, within the limits.

use std::{collections::BTreeSet, fmt, io};

use formation_core::Address;
use serde::{Deserialize, Serialize};

use super::{Answer, MAX_SOURCES};

/// How much of an error is kept, in characters.
const ERROR: usize = 200;

/// The state of a source of addresses. [`ClusterHandle::sources`](crate::ClusterHandle::sources) returns it. Its `Display` is a line for
/// people.
///
/// ```no_run
/// # fn example(cluster: &formation_host::ClusterHandle) {
/// use formation_host::SourceReport;
///
/// for SourceReport { source, problem, .. } in cluster.sources() {
///     if let Some(problem) = problem {
///         println!("look at {source}: {problem}");
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceReport {
    /// The name of the source.
    pub source: String,
    /// The addresses that it has found last; at most [`Limits::discovered`](formation_core::Limits::discovered). With several sources, fewer may be
    /// dialed.
    pub addresses: BTreeSet<Address>,
    /// Why these may be old. `None`: the source works, or has not been asked yet.
    pub problem: Option<String>,
}

/// `dns:orders.internal:7000: 2 addresses, which may be old: the name does not resolve`
impl fmt::Display for SourceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, plural) = (self.addresses.len(), if self.addresses.len() == 1 { "" } else { "es" });
        write!(f, "{}: {count} address{plural}", self.source)?;
        match &self.problem {
            Some(problem) => write!(f, ", which may be old: {problem}"),
            None => Ok(()),
        }
    }
}

/// The last addresses of each source, by the number of the source. There are at most `MAX_SOURCES`.
#[derive(Debug, Default)]
pub(crate) struct Found(Vec<Known>);

#[derive(Debug)]
struct Known {
    name: String,
    addresses: BTreeSet<Address>,
    /// The failure that was reported.
    failure: Option<String>,
    is_slow: bool,
    /// It has found more than it may.
    is_cut: bool,
}

/// What is to be logged about an answer of a source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has found other addresses than the last time.
    Changed {
        /// It has found more than it may, and had not the last time.
        is_cut_now: bool,
    },
    /// It has failed, in another way than the last time.
    Failed(String),
    /// It works again, and has found the same as before.
    Recovered,
    /// It does not answer.
    Slow,
    Nothing,
}

impl Found {
    /// The number of a new source. `None` if there are too many.
    pub(crate) fn add(&mut self, name: String) -> Option<usize> {
        let number = self.0.len();
        (number < MAX_SOURCES).then(|| {
            let (addresses, failure) = (BTreeSet::new(), None);
            self.0.push(Known { name, addresses, failure, is_slow: false, is_cut: false });
            number
        })
    }

    pub(crate) fn name(&self, number: usize) -> &str {
        &self.0[number].name
    }

    /// The addresses that the source has found the last time.
    pub(crate) fn of(&self, number: usize) -> &BTreeSet<Address> {
        &self.0[number].addresses
    }

    /// The source has answered. At most `limit` addresses of one source are kept.
    pub(crate) fn answered(&mut self, number: usize, answer: Answer, limit: usize) -> Outcome {
        let known = &mut self.0[number];
        match answer {
            Answer::Slow => {
                let was_slow = std::mem::replace(&mut known.is_slow, true);
                if was_slow { Outcome::Nothing } else { Outcome::Slow }
            }
            Answer::Found(Err(error)) => {
                let failure = shortened(&error);
                known.is_slow = false;
                let is_news = known.failure.as_ref() != Some(&failure);
                known.failure = Some(failure.clone());
                if is_news { Outcome::Failed(failure) } else { Outcome::Nothing }
            }
            Answer::Found(Ok(mut addresses)) => {
                let has_recovered = known.failure.take().is_some() | std::mem::take(&mut known.is_slow);
                let is_cut = addresses.len() > limit;
                if is_cut {
                    addresses = addresses.into_iter().take(limit).collect();
                }
                if addresses != known.addresses || is_cut != known.is_cut {
                    let is_cut_now = is_cut && !known.is_cut;
                    (known.addresses, known.is_cut) = (addresses, is_cut);
                    return Outcome::Changed { is_cut_now };
                }
                if has_recovered { Outcome::Recovered } else { Outcome::Nothing }
            }
        }
    }

    pub(crate) fn reports(&self) -> Vec<SourceReport> {
        let slow = |known: &Known| known.is_slow.then(|| "it does not answer".to_owned());
        let report = |known: &Known| SourceReport {
            source: known.name.clone(),
            addresses: known.addresses.clone(),
            problem: slow(known).or_else(|| known.failure.clone()),
        };
        self.0.iter().map(report).collect()
    }

    /// All addresses, at most `limit`. If there are more, each source gets the same share, as far as it needs that.
    pub(crate) fn all(&self, limit: usize, is_needed: impl Fn(&Address) -> bool) -> BTreeSet<Address> {
        let mut sources: Vec<_> = self.0.iter().map(|known| known.addresses.iter().filter(|a| is_needed(a))).collect();
        let mut all = BTreeSet::new();
        while !sources.is_empty() {
            sources.retain_mut(|source| {
                let next = source.find(|address| !all.contains(*address)).filter(|_| all.len() < limit);
                next.is_some_and(|address| all.insert(address.clone()))
            });
        }
        all
    }
}

/// The text of an error, on one line and not too long.
fn shortened(error: &io::Error) -> String {
    error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(ERROR).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: impl IntoIterator<Item = String>) -> BTreeSet<Address> {
        names.into_iter().map(|name| Address::new(name).unwrap()).collect()
    }

    fn numbered(prefix: &str, count: usize) -> Answer {
        Answer::Found(Ok(set((0..count).map(|number| format!("{prefix}{number}:1")))))
    }

    fn failed(why: &str) -> Answer {
        Answer::Found(Err(io::Error::other(why.to_owned())))
    }

    const MOST: usize = 12;

    #[test]
    fn a_bad_source_does_not_push_out_the_others() {
        let mut found = Found::default();
        let sources: Vec<_> = ["bad", "good", "small"].map(|name| found.add(name.to_owned()).unwrap()).to_vec();
        let outcomes = [numbered("bad", 1000), numbered("good", 8), numbered("small", 1)];
        for (number, answer) in sources.into_iter().zip(outcomes) {
            found.answered(number, answer, MOST);
        }
        assert_eq!(found.of(0).len(), MOST);
        let all = found.all(MOST, |_| true);
        let count = |prefix: &str| all.iter().filter(|address| address.as_str().starts_with(prefix)).count();
        assert_eq!((count("bad"), count("good"), count("small")), (6, 5, 1));
        assert_eq!(found.all(MOST, |address| !address.as_str().starts_with("bad")).len(), 9);
        assert!(found.all(0, |_| true).is_empty());
    }

    #[test]
    fn a_source_is_cut_at_the_limit_and_that_is_said_once() {
        let mut found = Found::default();
        let number = found.add("dns".to_owned()).unwrap();
        assert_eq!(found.answered(number, numbered("a", MOST), MOST), Outcome::Changed { is_cut_now: false });
        assert_eq!(found.answered(number, numbered("a", MOST + 1), MOST), Outcome::Changed { is_cut_now: true });
        assert_eq!(found.answered(number, numbered("a", MOST + 1), MOST), Outcome::Nothing);
        assert_eq!(found.answered(number, numbered("b", MOST + 1), MOST), Outcome::Changed { is_cut_now: false });
    }

    #[test]
    fn a_failure_is_news_once_and_keeps_the_addresses() {
        let mut found = Found::default();
        let number = found.add("dns".to_owned()).unwrap();
        found.answered(number, numbered("a", 2), MOST);
        assert_eq!(found.answered(number, failed("down"), MOST), Outcome::Failed("down".to_owned()));
        assert_eq!(found.answered(number, failed("down"), MOST), Outcome::Nothing);
        let shown = |found: &Found| found.reports()[0].to_string();
        assert_eq!(shown(&found), "dns: 2 addresses, which may be old: down");
        assert_eq!(found.all(MOST, |_| true).len(), 2);
        assert_eq!(found.answered(number, Answer::Slow, MOST), Outcome::Slow);
        assert_eq!(shown(&found), "dns: 2 addresses, which may be old: it does not answer");
        assert_eq!(found.answered(number, Answer::Slow, MOST), Outcome::Nothing);
        assert_eq!(found.answered(number, numbered("a", 2), MOST), Outcome::Recovered);
        assert_eq!(found.answered(number, numbered("a", 1), MOST), Outcome::Changed { is_cut_now: false });
        assert_eq!(shown(&found), "dns: 1 address");
        let Outcome::Failed(long) = found.answered(number, failed(&"x".repeat(5000)), MOST) else {
            panic!("it is news")
        };
        assert_eq!(long.len(), ERROR);
    }

    #[test]
    fn sources_are_bounded() {
        let mut found = Found::default();
        let added = (0..100).filter(|number| found.add(number.to_string()).is_some()).count();
        assert_eq!(added, MAX_SOURCES);
    }
}
