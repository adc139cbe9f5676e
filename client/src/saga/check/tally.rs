//! Units by line: sums, compared line by line.

use std::fmt;

/// Units by the number of the line, each line once, without lines of no units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(Vec<(u32, u64)>);

impl FromIterator<(u32, u64)> for Tally {
    fn from_iter<I: IntoIterator<Item = (u32, u64)>>(units: I) -> Self {
        let mut lines: Vec<(u32, u64)> = units.into_iter().filter(|(_, units)| *units > 0).collect();
        lines.sort_by_key(|(line, _)| *line);
        lines.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = kept.1.saturating_add(next.1);
            }
            same
        });
        Self(lines)
    }
}

impl Tally {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn units(&self, line: u32) -> u64 {
        self.0.binary_search_by_key(&line, |(line, _)| *line).map_or(0, |at| self.0[at].1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// What is left of it without the other; a line never falls below nothing.
    pub(crate) fn less(&self, other: &Self) -> Self {
        self.iter().map(|(line, units)| (line, units.saturating_sub(other.units(line)))).collect()
    }

    /// Whether no line has more than in the other.
    pub(crate) fn within(&self, other: &Self) -> bool {
        self.iter().all(|(line, units)| units <= other.units(line))
    }

    /// The lines that are not the same in both, as they stand here and as they stand there.
    pub(crate) fn apart(&self, other: &Self) -> (Self, Self) {
        let here = self.iter().filter(|(line, units)| other.units(*line) != *units).collect();
        let there = other.iter().filter(|(line, units)| self.units(*line) != *units).collect();
        (here, there)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Lines that are named; orders have up to a thousand.
        const NAMED_MAX: usize = 6;
        if self.0.is_empty() {
            return formatter.write_str("no units");
        }
        for (index, (line, units)) in self.iter().take(NAMED_MAX).enumerate() {
            write!(formatter, "{}{units} of line {line}", if index == 0 { "" } else { ", " })?;
        }
        match self.0.len().checked_sub(NAMED_MAX) {
            Some(more) if more > 0 => write!(formatter, " and {more} more lines"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(units: &[(u32, u64)]) -> Tally {
        units.iter().copied().collect()
    }

    #[test]
    fn lines_are_summed_and_empty_ones_are_none() {
        let sum = tally(&[(2, 1), (1, 4), (2, 5), (3, 0)]);
        assert_eq!(sum, tally(&[(1, 4), (2, 6)]));
        assert_eq!((sum.units(2), sum.units(3)), (6, 0));
        assert!(tally(&[(3, 0)]).is_empty());
        assert_eq!(sum.to_string(), "4 of line 1, 6 of line 2");
        let many: Tally = (1..=8).map(|line| (line, 1)).collect();
        assert!(many.to_string().ends_with("1 of line 6 and 2 more lines"), "{many}");
    }

    #[test]
    fn tallies_are_compared_line_by_line() {
        let (one, other) = (tally(&[(1, 4), (2, 6)]), tally(&[(1, 4), (2, 7), (5, 1)]));
        assert!(one.within(&other) && !other.within(&one));
        assert_eq!(one.apart(&other), (tally(&[(2, 6)]), tally(&[(2, 7), (5, 1)])));
        assert_eq!(other.less(&one), tally(&[(2, 1), (5, 1)]));
        assert_eq!(one.less(&other), Tally::default());
        assert_eq!(one.plus(&other), tally(&[(1, 8), (2, 13), (5, 1)]));
    }
}
