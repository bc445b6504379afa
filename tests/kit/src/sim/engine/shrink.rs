//! The smallest part of a run that still fails.

/// Finds a small set of the numbers below `len` for which `fails` still returns true. It tries at most `tries` sets. The result is the
/// whole set if no smaller one fails.
///
/// It leaves out many numbers at once first, then single ones, until no single one can be left out.
pub fn smallest(len: usize, mut tries: usize, mut fails: impl FnMut(&[usize]) -> bool) -> Vec<usize> {
    let mut best: Vec<usize> = (0..len).collect();
    let mut progress = true;
    while std::mem::take(&mut progress) {
        let mut width = best.len().max(1);
        while width > 0 {
            let mut at = 0;
            while at < best.len() && tries > 0 {
                tries -= 1;
                let mut candidate = best.clone();
                candidate.drain(at..(at + width).min(best.len()));
                if fails(&candidate) {
                    (best, progress) = (candidate, true);
                } else {
                    at += width;
                }
            }
            width /= 2;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_failure_needs_is_left() {
        for needed in [vec![], vec![0], vec![3, 4], vec![1, 8, 19]] {
            let fails = |kept: &[usize]| needed.iter().all(|fault| kept.contains(fault));
            assert_eq!(smallest(20, 400, fails), needed);
        }
    }

    #[test]
    fn the_tries_are_limited() {
        let mut tried = 0;
        let left = smallest(20, 5, |_| {
            tried += 1;
            false
        });
        assert_eq!((tried, left.len()), (5, 20));
    }
}
