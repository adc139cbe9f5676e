//! Places between any two steps of a processor's road where a test may have it killed.
//!
//! `TILLROLL_FAIL_POINT=after-decide:17` aborts the process when the named point is reached the 17th time. A point
//! costs one look at a number that nobody writes. [`ALL`] is made from the same list as the points themselves, so a
//! test that walks over it leaves none out.

use std::{
    fmt,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

/// Where the point and its count are named.
pub const VARIABLE: &str = "TILLROLL_FAIL_POINT";

/// No point is armed.
const NONE: u8 = u8::MAX;

static ARMED: AtomicU8 = AtomicU8::new(NONE);
static LEFT: AtomicU64 = AtomicU64::new(0);

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// A place on the road of a processor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum FailPoint { $($(#[$doc])* $name,)+ }

        /// Every point, in the order of the road.
        pub const ALL: &[FailPoint] = &[$(FailPoint::$name),+];

        impl FailPoint {
            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }
        }
    };
}

points! {
    /// Partitions of a whole unit have come, and nothing of its state is made.
    BeforeLoad = "before-load",
    /// The state of a unit is made, and no step of it.
    AfterLoad = "after-load",
    /// An input is observed, and nothing else of its step is done.
    AfterObserve = "after-observe",
    /// A call is about to be made.
    BeforeCall = "before-call",
    /// A call is answered, and nobody knows it.
    AfterCall = "after-call",
    /// Every call of a step is answered, and it is not decided.
    BeforeDecide = "before-decide",
    /// A step is decided, and what it says is not applied.
    AfterDecide = "after-decide",
    /// What a step says is applied to the state, and not sent.
    AfterApply = "after-apply",
    /// A timer is due, and its step is not begun.
    TimerDue = "timer-due",
    /// An append is gathered, and not sent.
    BeforeAppend = "before-append",
    /// An append is handed to the connection.
    AfterAppend = "after-append",
    /// An append is acknowledged, and nobody knows it.
    AfterAck = "after-ack",
    /// Cursors are about to be moved that nothing was said for.
    BeforeCursors = "before-cursors",
    /// An append was refused, and the producer is about to be taken over.
    BeforeTakeOver = "before-take-over",
    /// The producer is taken over, and nothing is sent again.
    AfterTakeOver = "after-take-over",
    /// A unit has to be given back, and nothing is done about it.
    AfterRevoking = "after-revoking",
    /// A unit is finished, and not given back.
    BeforeRelease = "before-release",
    /// A snapshot is written under another name.
    BeforeRename = "before-rename",
    /// A snapshot has its name, and the directory is not synced.
    AfterRename = "after-rename",
    /// Everything is finished, and the group is about to be left.
    BeforeLeave = "before-leave",
}

impl fmt::Display for FailPoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Arms the point that the environment names.
///
/// **Errors**: text that names none.
pub(super) fn arm() -> Result<(), String> {
    let Ok(text) = std::env::var(VARIABLE) else { return Ok(()) };
    let (point, count) = parse(&text).ok_or_else(|| format!("{VARIABLE} names no point text={text:?}"))?;
    LEFT.store(count, Ordering::Relaxed);
    ARMED.store(point as u8, Ordering::Release);
    Ok(())
}

fn parse(text: &str) -> Option<(FailPoint, u64)> {
    let (name, count) = text.split_once(':').unwrap_or((text, "1"));
    let point = ALL.iter().find(|point| point.name() == name)?;
    let count = count.parse().ok().filter(|count| *count > 0)?;
    Some((*point, count))
}

/// The road passes here.
#[inline]
pub(super) fn reach(point: FailPoint) {
    if ARMED.load(Ordering::Relaxed) == point as u8 {
        count_down(point);
    }
}

#[cold]
fn count_down(point: FailPoint) {
    if LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        // Whoever waits for the process wants to know that it was no other death.
        eprintln!("fail point {point} reached");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_as_they_are_written() {
        let mut names: Vec<&str> = ALL.iter().map(|point| point.name()).collect();
        for point in ALL {
            assert_eq!(parse(point.name()), Some((*point, 1)));
            assert_eq!(parse(&format!("{point}:17")), Some((*point, 17)));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.len() < usize::from(NONE));
        assert!(["", "nowhere:1", "after-ack:0", "after-ack:x"].iter().all(|text| parse(text).is_none()));
    }
}
