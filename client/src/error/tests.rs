//! Goal: a caller can act on an error without looking at its code or text.

use super::*;

fn refusal(code: Code, name: &str, facts: &[(&str, &str)]) -> Error {
    let mut details = ErrorDetails::new();
    details.set_error_info(
        name,
        reason::DOMAIN,
        facts
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<std::collections::HashMap<_, _>>(),
    );
    let status = tonic::Status::with_error_details(code, "it is so", details);
    Error::from_status("append to orders", &status)
}

#[test]
fn the_reason_decides_and_not_the_code() {
    let error = refusal(Code::Unavailable, reason::TOPIC_NOT_FOUND, &[("topic", "orders")]);
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!error.is_retryable());
    assert!(error.has_no_side_effects());
    assert_eq!(error.metadata()["topic"], "orders");
    assert_eq!(error.to_string(), "append to orders: it is so (hint: create it with: tillroll topic create orders)");
}

#[test]
fn a_similar_name_is_offered() {
    let facts = [("topic", "order"), ("similar", "orders")];
    let error = refusal(Code::NotFound, reason::TOPIC_NOT_FOUND, &facts);
    assert!(error.hint().is_some_and(|hint| hint.starts_with("did you mean orders?")));
}

#[test]
fn a_group_that_is_not_there_is_told_how_to_be_made() {
    let create = "tillroll group create mailr --topic TOPIC --from earliest --rule spread";
    let error = refusal(Code::NotFound, reason::GROUP_NOT_FOUND, &[("group", "mailr")]);
    assert_eq!(error.hint(), Some(format!("create it with: {create}").as_str()));
    let error = refusal(Code::NotFound, reason::GROUP_NOT_FOUND, &[("group", "mailr"), ("similar", "mailer")]);
    assert_eq!(error.hint(), Some(format!("did you mean mailer? or create it with: {create}").as_str()));
}

#[test]
fn a_moved_cursor_and_a_moved_end_have_hints_of_their_own() {
    let hint = |facts: &[(&str, &str)]| {
        let error = refusal(Code::Aborted, reason::EXPECTED_OFFSET_MISMATCH, facts);
        error.hint().expect("one").split(':').next().expect("a beginning").to_owned()
    };
    assert_eq!(hint(&[("topic", "orders")]), "somebody else appended");
    assert_eq!(hint(&[("topic", "orders"), ("group", "mailer")]), "somebody else moved the cursor");
}

#[test]
fn whoever_lost_a_partition_is_told_to_whom() {
    let hint = |facts: &[(&str, &str)]| {
        let error = refusal(Code::FailedPrecondition, reason::ASSIGNMENT_FENCED, facts);
        assert_eq!(error.kind(), ErrorKind::Fenced);
        error.hint().expect("one").to_owned()
    };
    assert!(hint(&[("group", "mailer"), ("holder", "mailer-1")]).starts_with("mailer-1 has the partition now"));
    assert!(hint(&[("group", "mailer")]).starts_with("the partition was taken back"));
}

#[test]
fn every_refusal_about_a_group_says_what_to_do() {
    let facts = [("group", "mailer"), ("topic", "orders"), ("end", "7")];
    for name in [
        reason::GROUP_NOT_FOUND,
        reason::GROUP_EXISTS,
        reason::GROUP_HAS_MEMBERS,
        reason::GROUP_CHANGED,
        reason::GROUPS_FULL,
        reason::START_REQUIRED,
        reason::CURSOR_BACKWARDS,
        reason::CURSOR_BEYOND_END,
        reason::ASSIGNMENT_FENCED,
        reason::TAKEN_OVER,
    ] {
        let error = refusal(Code::FailedPrecondition, name, &facts);
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{name}");
    }
    let backwards = refusal(Code::FailedPrecondition, reason::CURSOR_BACKWARDS, &facts);
    assert!(backwards.hint().is_some_and(|hint| hint.ends_with("set-cursor mailer --topic orders --to PLACE")));
}

#[test]
fn only_unknown_outcomes_and_forgotten_answers_may_have_written() {
    for name in reason::ALL {
        let wrote = matches!(*name, reason::OUTCOME_UNKNOWN | reason::SEQUENCE_FORGOTTEN);
        assert_eq!(refusal(Code::Unknown, name, &[]).has_no_side_effects(), !wrote, "{name}");
    }
}

#[test]
fn every_reason_has_a_kind() {
    for name in reason::ALL {
        assert!(kind_of_reason(name).is_some(), "{name}");
    }
}

#[test]
fn without_a_reason_an_oversized_message_is_not_tried_again() {
    let status = tonic::Status::out_of_range("message length too large");
    let error = Error::from_status("read", &status);
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!error.is_retryable());
}

#[test]
fn an_unavailable_server_without_a_reason_may_have_written() {
    let error = Error::from_status("append", &tonic::Status::unavailable("gone"));
    assert!(error.is_retryable() && !error.has_no_side_effects());
}
