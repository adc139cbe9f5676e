//! A name that is there and close to one that is not, for a refusal to offer.
//!
//! Looked for on the thread of whoever asked, on a copy of some names: nothing waits for it.

use std::collections::BTreeMap;

/// Names that are looked at: those that stand around the one that was asked for.
const NAMES_MAX: usize = 1_000;
/// Names that differ by more edits are not alike.
const EDITS_MAX: usize = 8;

/// Some of the names in a map, around `name` in their order. Bounded, to be called under a lock.
pub(crate) fn around<V>(names: &BTreeMap<String, V>, name: &str) -> Vec<String> {
    let behind = names.range(name.to_owned()..).take(NAMES_MAX / 2).map(|(other, _)| other.clone());
    let before = names.range(..name.to_owned()).rev().take(NAMES_MAX / 2).map(|(other, _)| other.clone());
    behind.chain(before).collect()
}

/// The name that is closest to another one, when at most a third of it is edited: within two edits of a short name
/// there are names that mean something else.
pub(crate) fn closest(names: Vec<String>, name: &str) -> Option<String> {
    let limit = (name.len() / 3).clamp(1, EDITS_MAX);
    let close = names.into_iter().filter_map(|other| Some((edits(name, &other, limit)?, other)));
    close.min().map(|(_, other)| other)
}

/// Edits between two names (Levenshtein, 1965), when they are at most `limit`: only places within `limit` of the
/// diagonal are looked at (Ukkonen, 1985).
fn edits(one: &str, other: &str, limit: usize) -> Option<usize> {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len().abs_diff(other.len()) > limit || one.len() > 256 {
        return None;
    }
    let far = limit + 1;
    let mut row: Vec<usize> = (0..=other.len()).map(|place| place.min(far)).collect();
    for (i, a) in one.iter().enumerate() {
        let (first, last) = ((i + 1).saturating_sub(limit).max(1), (i + 1 + limit).min(other.len()));
        let mut diagonal = row[first - 1];
        row[first - 1] = if first == 1 { (i + 1).min(far) } else { far };
        let mut nearest = row[first - 1];
        for j in first..=last {
            let substituted = diagonal + usize::from(*a != other[j - 1]);
            // Beyond the band nothing is nearer than the limit.
            diagonal = if j == i + 1 + limit { far } else { row[j] };
            row[j] = substituted.min(row[j - 1] + 1).min(diagonal + 1).min(far);
            nearest = nearest.min(row[j]);
        }
        if nearest > limit {
            return None;
        }
    }
    Some(row[other.len()]).filter(|edits| *edits <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(one: &str, other: &str) -> usize {
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (i, a) in one.bytes().enumerate() {
            let mut diagonal = i;
            row[0] = i + 1;
            for (j, b) in other.bytes().enumerate() {
                let substituted = diagonal + usize::from(a != b);
                diagonal = row[j + 1];
                row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row[other.len()]
    }

    proptest::proptest! {
        #[test]
        fn within_the_limit_the_edits_are_exact(one in "[ab]{0,12}", other in "[ab]{0,12}", limit in 1..6_usize) {
            let exact = plain(&one, &other);
            proptest::prop_assert_eq!(edits(&one, &other, limit), Some(exact).filter(|edits| *edits <= limit));
        }
    }

    #[test]
    fn a_similar_name_is_offered() {
        let names = |name: &str| {
            let known: BTreeMap<String, u8> = [("orders".to_owned(), 1), ("returns".to_owned(), 2)].into();
            closest(around(&known, name), name)
        };
        assert_eq!(names("ordres").as_deref(), Some("orders"));
        assert_eq!(names("rorders").as_deref(), Some("orders"));
        assert_eq!(names("payments"), None);
        let of_four = |name: &str| closest(vec!["cost".to_owned()], name);
        assert_eq!(
            [of_four("cos"), of_four("most"), of_four("mist"), of_four("cots")],
            [Some("cost".to_owned()), Some("cost".to_owned()), None, None]
        );
    }
}
