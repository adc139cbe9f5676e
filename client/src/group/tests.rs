//! Goal: what a program says of a group is what goes over the wire, and what
//! comes from there is either understood or an error, never a guess.

use std::time::Duration;

use tillroll_proto::{reason, v1::start_position::At};

use super::*;
use crate::{Append, ErrorKind, Position, Record};

fn config() -> v1::GroupConfig {
    v1::GroupConfig {
        topics: vec!["orders".into(), "payments".into()],
        mode: v1::GroupMode::Members.into(),
        rule: v1::AssignmentRule::CoPartitioned.into(),
        start: Some(v1::StartPosition { at: Some(At::LastRecords(10)) }),
        below_head: v1::BelowHead::Earliest.into(),
        session_ms: 15_000,
        drain_ms: 1_500,
    }
}

fn options() -> GroupOptions {
    let mode = GroupMode::Members(AssignmentRule::CoPartitioned);
    GroupOptions::new(["orders", "payments"], mode, Position::Last(10))
        .below_head(BelowHead::Earliest)
        .session(Duration::from_secs(15))
        .drain(Duration::from_millis(1_500))
}

#[test]
fn options_go_over_the_wire_as_they_are() {
    assert_eq!(options().into_wire().expect("valid"), config());
    let plain = GroupOptions::new(["orders"], GroupMode::Manual, Position::Latest).into_wire().expect("valid");
    let expected = v1::GroupConfig {
        topics: vec!["orders".into()],
        mode: v1::GroupMode::Manual.into(),
        start: Some(v1::StartPosition { at: Some(At::Latest(true)) }),
        ..v1::GroupConfig::default()
    };
    assert_eq!(plain, expected, "what is not set is the server's to decide");
}

#[test]
fn every_mode_comes_back_as_it_was_sent() {
    let rules = [AssignmentRule::Spread, AssignmentRule::CoPartitioned, AssignmentRule::Single];
    for mode in rules.map(GroupMode::Members).into_iter().chain([GroupMode::Manual]) {
        let (sent, rule) = mode.to_wire();
        assert_eq!(GroupMode::from_wire(sent.into(), rule.into()).expect("known"), mode);
    }
    for (mode, rule) in [(0, 0), (9, 0), (1, 0), (1, 9)] {
        let unknown = GroupMode::from_wire(mode, rule).expect_err("no such mode");
        assert_eq!(unknown.kind(), ErrorKind::Protocol, "{mode} {rule}");
    }
}

#[test]
fn a_time_that_would_mean_the_default_is_refused() {
    for options in [options().session(Duration::ZERO), options().drain(Duration::from_micros(999))] {
        let refused = options.into_wire().expect_err("zero is the default's");
        assert_eq!((refused.kind(), refused.reason()), (ErrorKind::InvalidInput, Some(reason::FIELD_INVALID)));
        assert!(refused.has_no_side_effects());
    }
    let long = options().session(Duration::MAX).into_wire().expect("the server refuses it");
    assert_eq!(long.session_ms, u32::MAX);
}

#[test]
fn a_group_is_told_whole() {
    let held = v1::Assignment { topic: "orders".into(), partition: 1, assignment_epoch: 4, next_offset: 7 };
    let member = v1::Member {
        member_id: "mailer-0".into(),
        instance_id: "i1".into(),
        client: "mailer 1.0".into(),
        joined_time_us: 99,
        connected: true,
        assignments: vec![held],
    };
    let cursor = |partition, lag_records, lag_ms, holder: &str| v1::Cursor {
        topic: "orders".into(),
        partition,
        next_offset: 7,
        lag_records,
        lag_ms,
        holder: holder.into(),
        ..v1::Cursor::default()
    };
    let wire = v1::Group {
        name: "mailer".into(),
        config: Some(config()),
        etag: "3".into(),
        paused: true,
        pause_reason: "gateway down".into(),
        members: vec![member],
        cursors: vec![cursor(0, 5, 900, ""), cursor(1, 2, 1_200, "mailer-0")],
        has_more_cursors: false,
    };
    let told = GroupInfo::from_wire(Some(wire.clone())).expect("known");
    assert_eq!((told.name.as_str(), told.etag.as_str()), ("mailer", "3"));
    assert_eq!((told.mode, told.start), (GroupMode::Members(AssignmentRule::CoPartitioned), Position::Last(10)));
    assert_eq!((told.session, told.drain), (Duration::from_secs(15), Duration::from_millis(1_500)));
    assert_eq!((told.below_head, told.paused.as_deref()), (BelowHead::Earliest, Some("gateway down")));
    assert_eq!(told.members[0].assignments[0].assignment_epoch, 4);
    assert!(told.members[0].connected);
    let holders: Vec<_> = told.cursors.iter().map(|cursor| cursor.holder.as_deref()).collect();
    assert_eq!(holders, [None, Some("mailer-0")]);
    assert_eq!((told.lag_records(), told.lag_ms()), (7, 1_200));

    let running = GroupInfo::from_wire(Some(v1::Group { paused: false, ..wire.clone() })).expect("known");
    assert_eq!(running.paused, None, "a reason from before says nothing");
    for broken in [None, Some(v1::Group { config: None, ..wire })] {
        assert_eq!(GroupInfo::from_wire(broken).expect_err("not whole").kind(), ErrorKind::Protocol);
    }
}

#[test]
fn a_start_of_another_group_is_none_that_a_group_can_have() {
    for position in
        [Position::Earliest, Position::Latest, Position::Offset(7), Position::AppendTime(-1), Position::Last(3)]
    {
        assert_eq!(Position::from_wire(Some(position.into_wire())).expect("known"), position);
    }
    let group = v1::StartPosition { at: Some(At::Group("other".into())) };
    for unknown in [None, Some(v1::StartPosition::default()), Some(group)] {
        assert_eq!(Position::from_wire(unknown).expect_err("none").kind(), ErrorKind::Protocol);
    }
}

#[test]
fn an_update_changes_only_what_it_names() {
    let nothing = GroupUpdate::new().into_wire("mailer");
    assert_eq!(nothing, v1::UpdateGroupRequest { name: "mailer".into(), ..v1::UpdateGroupRequest::default() });
    let update = GroupUpdate::new().etag("3").below_head(BelowHead::Fail).add_topic("payments").add_topic("returns");
    let wire = update.into_wire("mailer");
    assert_eq!((wire.etag.as_str(), wire.below_head), ("3", Some(v1::BelowHead::Fail.into())));
    assert_eq!((wire.add_topics, wire.paused), (vec!["payments".to_owned(), "returns".to_owned()], None));
}

#[test]
fn an_append_with_a_cursor_commit_says_once_that_it_relies_on_it() {
    let commit = CursorCommit::new("mailer", "orders", 3, 42).expected_offset(17).metadata("half");
    let held = CursorCommit::new("billing", "orders", 3, 42).assignment_epoch(5);
    let append = Append::new()
        .records_to("mails", 0, [Record::new("sent")])
        .commit_cursor(commit)
        .commit_cursor(held)
        .expect_assignment("mailer", "orders", 2, 4);
    let request = append.request;
    assert_eq!(request.needs, ["append.commits"]);
    assert_eq!((request.commits[0].expected_offset, request.commits[0].assignment_epoch), (Some(17), None));
    assert_eq!((request.commits[1].expected_offset, request.commits[1].assignment_epoch), (None, Some(5)));
    assert_eq!((request.commits[0].next_offset, &request.commits[0].metadata[..]), (42, &b"half"[..]));
    let expected =
        v1::HeldAssignment { group: "mailer".into(), topic: "orders".into(), partition: 2, assignment_epoch: 4 };
    assert_eq!(request.checks, [v1::Check { kind: Some(v1::check::Kind::Assignment(expected)) }]);
}

#[test]
fn an_explanation_leaves_out_what_it_is_not_about() {
    let finding = |topic: &str, partition| v1::Finding {
        reason: "PAUSED".into(),
        topic: topic.into(),
        partition,
        text: "it is".into(),
        next_step: String::new(),
    };
    let told = GroupExplanation::from_wire(v1::ExplainGroupResponse {
        summary: "it stands".into(),
        findings: vec![finding("", None), finding("orders", Some(0))],
    });
    assert_eq!((told.summary.as_str(), &told.findings[0].topic), ("it stands", &None));
    assert_eq!((told.findings[1].topic.as_deref(), told.findings[1].partition), (Some("orders"), Some(0)));
}
