//! What recovery does with the end of the journal, as a table.
//!
//! L is the last frame of the last whole group on the chain (or the tables' LSN when the chain holds nothing after
//! it). M is the greatest lower bound of what was durable that anything on the disk still tells:
//!
//! ```text
//!   L against M   behind L     clean stop at L   then
//!   L ≥ M         nothing      –                 keep
//!   L ≥ M         something    yes               drop, report                       nothing can have been lost
//!   L ≥ M         something    no                drop, report, possible loss        a power cut may hide groups
//!   L < M         –            –                 refuse: L+1…M were durable, rotten
//! ```
//!
//! What tells M: the tables' LSN; the clean mark; the watermark; `durable_lsn` of later frames; and the last frame of
//! every block that the tables list, since flush writes blocks of durable frames only. The tables carry that frame
//! with each segment, so no segment is read for it.
//!
//! Example of the third row: groups 7 and 8 are written, 7 is synced and acked, the power goes. The watermark was
//! never synced and says 5. The disk kept a torn 7. Nothing left says that 7 was durable: on one node this cannot be
//! decided, so it is said.

use crate::id::Lsn;

/// What is known at the end of the scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// L.
    pub last: Lsn,
    /// What the newest whole tables stand for.
    pub tables: Lsn,
    /// What `control` says of a clean stop; 0 when there was none.
    pub clean: Lsn,
    /// What the watermark says; 0 when it is not believed.
    pub watermark: Lsn,
    /// The greatest durable LSN that any later frame tells.
    pub lookahead: Lsn,
    /// The last frame that a block holds which the tables list.
    pub flushed: Lsn,
    /// Something stands behind the last whole group.
    pub has_more: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on behind L.
    Keep,
    /// Drop what stands behind L, and say so.
    Drop {
        /// Whether an acked group may have been among it.
        possible_loss: bool,
    },
    /// Durable frames are damaged: refuse to open.
    Rotten {
        /// First frame that is missing.
        from: Lsn,
        /// Last frame that was durable.
        to: Lsn,
    },
}

impl Facts {
    /// M.
    pub fn durable(&self) -> Lsn {
        let told = self.tables.max(self.clean).max(self.watermark).max(self.lookahead);
        if cfg!(bug = "blocks_unbelieved") { told } else { told.max(self.flushed) }
    }
}

/// The table.
pub fn decide(facts: &Facts) -> Verdict {
    let durable = facts.durable();
    match (facts.last < durable, facts.has_more) {
        (true, _) => Verdict::Rotten { from: facts.last.next(), to: durable },
        (false, false) => Verdict::Keep,
        (false, true) => Verdict::Drop { possible_loss: facts.clean != facts.last || facts.clean == Lsn(0) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row of the table, told in other words than the code.
    #[test]
    fn every_row_of_the_table_holds() {
        let mut rows = [0; 4];
        for bits in 0..4_u32.pow(6) * 2 {
            let digit = |place: u32| Lsn(u64::from(bits / 2 / 4_u32.pow(place) % 4));
            let facts = Facts {
                last: digit(0),
                tables: digit(1),
                clean: digit(2),
                watermark: digit(3),
                lookahead: digit(4),
                flushed: digit(5),
                has_more: bits % 2 == 1,
            };
            let told = [facts.tables, facts.clean, facts.watermark, facts.lookahead, facts.flushed];
            let rotten = told.iter().any(|mark| *mark > facts.last);
            let verdict = decide(&facts);
            match verdict {
                Verdict::Rotten { from, to } => {
                    assert!(rotten && from.0 == facts.last.0 + 1 && told.contains(&to) && to >= from, "{facts:?}");
                    rows[3] += 1;
                }
                Verdict::Keep => {
                    assert!(!rotten && !facts.has_more, "{facts:?}");
                    rows[0] += 1;
                }
                Verdict::Drop { possible_loss } => {
                    assert!(!rotten && facts.has_more, "{facts:?}");
                    assert_eq!(possible_loss, !(facts.clean > Lsn(0) && facts.clean == facts.last), "{facts:?}");
                    rows[if possible_loss { 2 } else { 1 }] += 1;
                }
            }
        }
        assert!(rows.iter().all(|count| *count > 0), "a row was never reached: {rows:?}");
    }
}
