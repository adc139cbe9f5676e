//! Goal: everything that a client can send wrong is refused with its own reason and exact facts, writes nothing, and
//! leaves the connection as good as before.
//!
//! Method: a table of bad requests, sent as raw messages to a real server on a real directory. Every append goes in
//! twice, as a call and in the middle of a stream; around each bad request stands a good one on the same connection.
//! A reason that is not in the table must be tested elsewhere, by a test that is named here and exists.

mod appends;
mod calls;
mod groups;

use std::{collections::BTreeSet, fs, path::Path};

use tillroll_server::refusal::table;

/// Reasons that no request alone can bring about, and the tests that bring them about.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("DISK_FULL", "tests/tests/edges.rs", "a_full_disk_refuses_appends_and_everything_else_works"),
    ("JOURNAL_FULL", "tests/tests/edges.rs", "a_full_journal_refuses_when_nothing_will_empty_it"),
    ("LOG_POISONED", "tests/tests/edges.rs", "a_failed_sync_turns_writes_off_and_leaves_reads_on"),
    ("OUTCOME_UNKNOWN", "tests/tests/edges.rs", "a_failed_sync_turns_writes_off_and_leaves_reads_on"),
    (
        "TOO_MANY_IN_FLIGHT",
        "tests/tests/waits.rs",
        "an_append_that_waits_for_room_is_answered_when_room_comes_or_refused_at_its_deadline",
    ),
    ("SHUTTING_DOWN", "server/src/serve/tests.rs", SHUTTING_DOWN),
    ("DATA_DAMAGED", "tests/tests/corruption.rs", "every_damaged_byte_is_seen_or_harmless"),
    // Nothing that is served today moves a head, registers 100,000 producers or makes 10,000 topics in a test's time,
    // or fails a read: the words are held by the server's own table.
    ("OFFSET_BELOW_HEAD", "server/src/refusal/tests.rs", READ_WORDS),
    ("READ_FAILED", "server/src/refusal/tests.rs", READ_WORDS),
    ("PRODUCERS_FULL", "server/src/refusal/tests.rs", WRITE_WORDS),
    ("ANSWERS_FULL", "tests/tests/bounds.rs", "answers_that_nobody_confirms_stop_their_producer_and_no_other"),
    ("PARTITIONS_FULL", "tests/tests/bounds.rs", "partitions_of_all_topics_together_have_a_limit"),
    ("TOPICS_FULL", "server/src/refusal/tests.rs", WRITE_WORDS),
    ("GROUPS_FULL", "server/src/refusal/tests.rs", WRITE_WORDS),
    (
        "GROUP_HAS_MEMBERS",
        "tests/tests/consume/refusals.rs",
        "a_group_with_members_is_deleted_and_set_only_when_that_is_said",
    ),
    (
        "TAKEN_OVER",
        "tests/tests/consume/main.rs",
        "another_process_of_the_same_member_takes_over_and_ends_the_older_one",
    ),
    ("MEMBERSHIP_ENDED", "tests/tests/consume/main.rs", "a_member_that_promised_heartbeats_and_sends_none_is_let_go"),
];
const SHUTTING_DOWN: &str = "streams_end_with_the_server_and_say_so";
const READ_WORDS: &str = "every_unanswered_read_has_its_reason_its_place_and_its_facts";
const WRITE_WORDS: &str = "every_refused_write_has_its_reason_and_its_facts";

#[test]
fn every_reason_is_in_the_table_or_tested_elsewhere() {
    let here: BTreeSet<&str> = appends::reasons().chain(calls::reasons()).chain(groups::reasons()).collect();
    let elsewhere: BTreeSet<&str> = ELSEWHERE.iter().map(|(reason, ..)| *reason).collect();
    let both: Vec<_> = here.intersection(&elsewhere).collect();
    assert!(both.is_empty(), "tested here by now: {both:?}");
    let tested: BTreeSet<&str> = here.union(&elsewhere).copied().collect();
    let sent: BTreeSet<&str> = table::ALL.iter().map(|row| row.reason).collect();
    assert_eq!(tested, sent);
    for (reason, file, test) in ELSEWHERE {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        let text = fs::read_to_string(&path).expect("the file is there");
        assert!(text.contains(&format!("fn {test}(")), "{reason}: {file} has no test {test}");
    }
}
