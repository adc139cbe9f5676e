//! Names for outputs of a step that name one another. Ids are given after the step is decided; until then output `k` is
//! called `output:k`.
//!
//! A refund names the capture that it gives back. When a return was accepted before the payment service heard that the
//! goods were shipped, both are due in one step, and the refund is decided before the capture has an id.

use super::service::{Fact, Output, Told};

const PREFIX: &str = "output:";

/// What output `k` of a step is called until it has an id. Ids of events never look like this.
pub fn sibling(k: usize) -> String {
    format!("{PREFIX}{k}")
}

/// Puts the id in the place of a name that [`sibling`] made; any other text stays.
pub fn resolve_sibling(name: &mut String, ids: &[String]) {
    let k = name.strip_prefix(PREFIX).and_then(|k| k.parse::<usize>().ok());
    if let Some(id) = k.and_then(|k| ids.get(k)) {
        name.clone_from(id);
    }
}

/// Gives each output of a step its id, and to those that name one another the ids of the others.
pub fn identify<F: Fact>(outputs: Vec<Output<F>>, mut id: impl FnMut() -> String) -> Vec<Told<F>> {
    let with_id = |Output { key, fact }| Told { key, id: id(), append_time_us: 0, fact };
    let mut told: Vec<Told<F>> = outputs.into_iter().map(with_id).collect();
    if told.len() > 1 {
        let ids: Vec<String> = told.iter().map(|told| told.id.clone()).collect();
        for told in &mut told {
            told.fact.name_siblings(&ids);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_siblings_are_replaced() {
        let ids = ["a".to_owned(), "b".to_owned()];
        for (name, expected) in [("output:1", "b"), ("output:2", "output:2"), ("output:x", "output:x"), ("c", "c")] {
            let mut name = name.to_owned();
            resolve_sibling(&mut name, &ids);
            assert_eq!(name, expected);
        }
        let mut name = sibling(0);
        resolve_sibling(&mut name, &ids);
        assert_eq!(name, "a");
    }
}
