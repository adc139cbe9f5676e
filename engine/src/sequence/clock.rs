//! Jumps of the system's clock: append times never fall, so after a jump ahead and back they stand still, and an
//! operator has to know.

use crate::{notice::Notice, stage::Now};

/// A difference between the two clocks that no adjustment of the time makes within a moment.
const JUMP_US: i64 = 2_000_000;

/// Both clocks, as they were last.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: Option<Now>,
}

impl Clock {
    /// A jump since the last look; at the first one, since the newest frame, whose time is `newest_us`.
    pub(super) fn look(&mut self, now: Now, newest_us: i64) -> Option<Notice> {
        let expected_us = match self.last.replace(now) {
            Some(last) => last.wall_us.saturating_add_unsigned(now.mono_us.saturating_sub(last.mono_us)),
            // A log that was closed for long has an old newest frame.
            None => newest_us.max(now.wall_us),
        };
        let by_us = now.wall_us.saturating_sub(expected_us);
        let ahead_us = newest_us.saturating_sub(now.wall_us).max(0);
        (by_us.abs() >= JUMP_US).then_some(Notice::ClockJumped { by_us, ahead_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall_s: i64, mono_s: u64) -> Now {
        Now { wall_us: wall_s * 1_000_000, mono_us: mono_s * 1_000_000 }
    }

    fn jump(by_s: i64, ahead_s: i64) -> Notice {
        Notice::ClockJumped { by_us: by_s * 1_000_000, ahead_us: ahead_s * 1_000_000 }
    }

    #[test]
    fn a_jump_is_told_once_and_the_time_that_passes_is_none() {
        let mut clock = Clock::default();
        assert_eq!(clock.look(at(1_000, 5), 900_000_000), None, "closed for a while");
        assert_eq!(clock.look(at(1_060, 65), 1_000_000_000), None);
        assert_eq!(clock.look(at(5_061, 66), 1_060_000_000), Some(jump(4_000, 0)));
        assert_eq!(clock.look(at(5_062, 67), 5_061_000_000), None);
        assert_eq!(clock.look(at(1_063, 68), 5_062_000_000), Some(jump(-4_000, 3_999)));
        assert_eq!(clock.look(at(1_064, 69), 5_062_000_000), None, "it stands still and was told");
    }

    #[test]
    fn a_start_before_the_newest_frame_is_told() {
        assert_eq!(Clock::default().look(at(100, 1), 160_000_000), Some(jump(-60, 60)));
    }
}
