use tillroll_engine::{
    group::{BelowHead, GroupConfig, Rule},
    id::{GroupId, Lsn, Offset, Partition, TopicId},
    journal::group_op::{GroupCreate, GroupOp, GroupSettings},
    request::Start,
};

use super::*;

const NOW_US: i64 = 1_000_000_000;

fn lane(partition: u32) -> Lane {
    Lane { topic: TopicId(1), partition: Partition(partition) }
}

/// A group with a partition that is read to its end, at 5, and a member that is away.
fn row() -> GroupRow {
    let config = GroupConfig {
        mode: Mode::Members,
        rule: Some(Rule::Spread),
        start: Start::Earliest,
        below_head: BelowHead::Fail,
        session_ms: 10_000,
        drain_ms: 30_000,
    };
    let (group, name) = (GroupId(1), "mailer".to_owned());
    let (topics, cursors) = (vec![(TopicId(1), "orders".into())], vec![(lane(0), Offset(5))]);
    let mut row = GroupRow::new(&GroupCreate { group, name, config, topics, cursors }, Lsn(1));
    let (member, instance, client) = ("a".to_owned(), "1".to_owned(), String::new());
    row.apply(&GroupOp::Member { group, member, instance, client }, Lsn(2), NOW_US - 60_000_000);
    let (holder, lost) = (Some("a".to_owned()), None);
    row.apply(&GroupOp::Assign { group, lane: lane(0), epoch: 1, holder, is_draining: false, lost }, Lsn(2), 0);
    row
}

/// The reasons that are found, and the summary.
fn check(row: &GroupRow, head: u64, end: u64, view: Option<&View>) -> (Vec<String>, String) {
    let extent = |_| Extent { head: Offset(head), end: Offset(end), ..Extent::default() };
    let view = |_: &str| view.cloned();
    let explained = explain(&Look { row, now_us: NOW_US, extent: &extent, view: &view, probe: &|_, _| None });
    assert!(explained.findings.iter().all(|finding| !finding.text.is_empty() && !finding.next_step.is_empty()));
    assert!(explained.findings.iter().all(can_be_copied), "{explained:?}");
    (explained.findings.into_iter().map(|finding| finding.reason).collect(), explained.summary)
}

/// A command that is advised has all that it takes.
fn can_be_copied(finding: &Finding) -> bool {
    let needed = |verb: &str| match verb {
        "set-cursor" => &["--topic orders ", "--partition 0 ", "--to "][..],
        "create" => &["--topic ", "--from earliest ", " --rule "],
        "delete" => &["--yes"],
        "resume" => &[],
        verb => panic!("there is no such command: {verb}"),
    };
    finding.next_step.split("tillroll group ").skip(1).all(|command| {
        let words: Vec<&str> = command.split_whitespace().collect();
        let is_about_group = words.get(1).is_some_and(|name| name.starts_with("mailer"));
        is_about_group && needed(words[0]).iter().all(|word| command.contains(word))
    })
}

fn damage() -> Stall {
    Stall { reason: "DATA_DAMAGED", text: "offsets 5 to 7 are damaged".to_owned(), goes_on: Some("7".to_owned()) }
}

/// A broker that was started again has no member that met the damage, and a group whose members gave up neither.
#[test]
fn damage_is_found_without_a_member_in_bounded_work() {
    let mut row = row();
    let create = GroupCreate {
        group: row.id,
        name: row.name.clone(),
        config: row.config.clone(),
        topics: row.topics.clone(),
        cursors: (0..100).map(|partition| (lane(partition), Offset(5))).collect(),
    };
    row = GroupRow::new(&create, Lsn(1));
    let extent = |_| Extent { head: Offset(0), end: Offset(9), ..Extent::default() };
    let looked = std::cell::Cell::new(0);
    let probe = |at: Lane, from: Offset| {
        looked.set(looked.get() + 1);
        assert_eq!(from, Offset(5));
        (at == lane(3)).then(damage)
    };
    let explained = explain(&Look { row: &row, now_us: NOW_US, extent: &extent, view: &|_| None, probe: &probe });
    let reasons: Vec<&str> = explained.findings.iter().map(|finding| finding.reason.as_str()).collect();
    assert_eq!(reasons, ["DATA_DAMAGED", "NO_MEMBERS"], "a member would stand still at it");
    let found = &explained.findings[0];
    assert_eq!((found.topic.as_str(), found.partition), ("orders", Some(3)));
    let text = "offsets 5 to 7 are damaged; for how long its records have been waiting is unknown";
    assert_eq!((found.text.as_str(), explained.summary), (text, format!("group mailer: orders/3: {text}")));
    let advice = "tillroll group set-cursor mailer --topic orders --partition 3 --to offset:7";
    assert!(found.next_step.ends_with(advice), "{}", found.next_step);
    assert_eq!(looked.get(), PROBES_MAX);
}

#[test]
fn a_group_that_reads_has_nothing_to_explain() {
    let (found, summary) = check(&row(), 0, 9, Some(&View::default()));
    assert_eq!((found.len(), summary.as_str()), (0, "group mailer is reading, with 1 partitions behind"));
}

#[test]
fn what_holds_all_of_it_up_is_said_first() {
    let mut row = row();
    let settings =
        GroupSettings { group: row.id, paused: Some("a sale".into()), below_head: BelowHead::Fail, topics: Vec::new() };
    assert_eq!(check(&row, 0, 5, None).0, ["SESSION_WAIT", "CAUGHT_UP"]);
    row.apply(&GroupOp::Change(settings), Lsn(2), 0);
    let (found, summary) = check(&row, 0, 9, Some(&View { has_no_credit: true, ..View::default() }));
    assert_eq!(found, ["PAUSED", "NO_CREDIT"]);
    assert_eq!(summary, "group mailer: it is paused: a sale");
    row.apply(&GroupOp::MemberGone { group: row.id, member: "a".into() }, Lsn(2), 0);
    assert_eq!(check(&row, 0, 9, None).0, ["PAUSED", "NO_MEMBERS"]);
}

#[test]
fn a_group_without_members_is_told_which_command_starts_one() {
    let mut row = row();
    row.apply(&GroupOp::MemberGone { group: row.id, member: "a".into() }, Lsn(2), 0);
    let extent = |_| Extent { end: Offset(9), ..Extent::default() };
    let next = |row: &GroupRow| {
        let explained = explain(&Look { row, now_us: NOW_US, extent: &extent, view: &|_| None, probe: &|_, _| None });
        explained.findings[0].next_step.clone()
    };
    let member = "start a member: tillroll consume orders --group mailer, or a program of your own";
    assert_eq!(next(&row), member);
    row.config.rule = Some(Rule::Single);
    assert_eq!(next(&row), "start its service; when it has none: tillroll consume orders --group mailer");
}

#[test]
fn a_group_whose_topic_is_gone_is_not_caught_up() {
    let mut row = row();
    row.cursors.clear();
    let (found, summary) = check(&row, 0, 0, Some(&View::default()));
    assert_eq!(found, ["TOPIC_DELETED"]);
    assert!(summary.starts_with("group mailer: the topic orders that it read is gone"), "{summary}");
    row.apply(&GroupOp::MemberGone { group: row.id, member: "a".into() }, Lsn(2), 0);
    assert_eq!(check(&row, 0, 0, None).0, ["TOPIC_DELETED"], "a member would get nothing");
}

/// What is advised is what commands can do: none adds a topic to a group, and deleting one forgets all its cursors.
#[test]
fn a_deleted_topic_is_told_with_commands_that_exist() {
    let mut row = row();
    row.topics.push((TopicId(2), "payments".into()));
    let explained = |row: &GroupRow| {
        let extent = |_| Extent { end: Offset(5), ..Extent::default() };
        explain(&Look { row, now_us: NOW_US, extent: &extent, view: &|_| None, probe: &|_, _| None }).findings
    };
    let findings = explained(&row);
    assert_eq!((findings[0].reason.as_str(), findings[0].topic.as_str()), ("TOPIC_DELETED", "payments"));
    let another = "tillroll group create mailer-payments --topic payments --from earliest --rule spread";
    assert!(findings[0].next_step.ends_with(another), "{}", findings[0].next_step);
    assert!(!findings[0].next_step.contains("delete"), "{}", findings[0].next_step);
    row.cursors.clear();
    row.config.rule = Some(Rule::Single);
    let again = "tillroll group delete mailer --yes && tillroll group create mailer --topic orders --topic payments \
                 --from earliest --rule single";
    for finding in explained(&row).iter().take(2) {
        assert!(finding.next_step.ends_with(again), "{}", finding.next_step);
        assert!(can_be_copied(finding), "{}", finding.next_step);
    }
}

#[test]
fn records_that_were_passed_over_are_counted_and_hold_nothing_up() {
    let (row, mut view) = (row(), View::default());
    view.passed_over.insert(lane(0), 12);
    let (found, summary) = check(&row, 0, 9, Some(&view));
    assert_eq!(found, ["PASSED_OVER"]);
    assert_eq!(summary, "group mailer is reading, with 1 partitions behind");
    let extent = |_| Extent { end: Offset(9), ..Extent::default() };
    let explained = explain(&Look {
        row: &row,
        now_us: NOW_US,
        extent: &extent,
        view: &|_| Some(view.clone()),
        probe: &|_, _| None,
    });
    let finding = &explained.findings[0];
    assert_eq!((finding.topic.as_str(), finding.partition), ("orders", Some(0)));
    assert!(finding.text.starts_with("12 records were gone before a got them"), "{}", finding.text);
}

#[test]
fn what_holds_a_partition_up_is_named() {
    let mut row = row();
    let view = |change: fn(&mut View)| {
        let mut view = View::default();
        change(&mut view);
        view
    };
    // That it is sent more meanwhile does not make it look busy.
    let working = view(|view| {
        let sent = view.sent.entry(lane(0)).or_default();
        sent.note(Offset(6), NOW_US - 60_000_000);
        sent.note(Offset(9), NOW_US - 1_000_000);
    });
    let (found, summary) = check(&row, 0, 9, Some(&working));
    assert_eq!(found, ["WORKING"]);
    assert_eq!(summary, "group mailer: orders/0: member a has 4 records from offset 5 on, for 60 s");
    let fresh = view(|view| view.sent.entry(lane(0)).or_default().note(Offset(9), NOW_US - 1_000_000));
    let (found, summary) = check(&row, 0, 9, Some(&fresh));
    assert_eq!((found.len(), summary.as_str()), (0, "group mailer is reading, with 1 partitions behind"));
    let damaged = view(|view| view.stalled = [(lane(0), damage())].into());
    assert_eq!(check(&row, 0, 9, Some(&damaged)).0, ["DATA_DAMAGED"]);
    let held_back = view(|view| view.held_back = [lane(0)].into());
    assert_eq!(check(&row, 0, 9, Some(&held_back)).0, ["HELD_BACK"]);
    assert_eq!(check(&row, 7, 9, Some(&View::default())).0, ["BELOW_HEAD"]);
    let (group, holder) = (row.id, Some("a".to_owned()));
    row.apply(&GroupOp::Assign { group, lane: lane(0), epoch: 1, holder, is_draining: true, lost: None }, Lsn(2), 0);
    assert_eq!(check(&row, 0, 9, Some(&View::default())).0, ["DRAINING"]);
}
