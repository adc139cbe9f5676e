//! Bad calls about consumer groups and their cursors: one row per way to be wrong.

use tillroll_proto::v1::{self, start_position::At};
use tonic::Status;

use tillroll_tests::road::{Expected, Road, TOPIC, expected, plain, record};

/// A manual group, which every test has; it reads [`TOPIC`], and its cursors are at 0 and 1.
const GROUP: &str = "mailer";

/// A bad call.
enum Call {
    Create(v1::CreateGroupRequest),
    Update(v1::UpdateGroupRequest),
    Get(v1::GetGroupRequest),
    Delete(v1::DeleteGroupRequest),
    Set(v1::SetCursorsRequest),
    Commit(v1::CommitCursorsRequest),
    Explain(v1::ExplainGroupRequest),
    Append(v1::AppendRequest),
}

impl Call {
    /// How it was refused.
    async fn make(self, road: &mut Road, name: &str) -> Status {
        let groups = &mut road.groups;
        let refused = match self {
            Self::Create(request) => groups.create_group(request).await.map(|_| ()),
            Self::Update(request) => groups.update_group(request).await.map(|_| ()),
            Self::Get(request) => groups.get_group(request).await.map(|_| ()),
            Self::Delete(request) => groups.delete_group(request).await.map(|_| ()),
            Self::Set(request) => groups.set_cursors(request).await.map(|_| ()),
            Self::Commit(request) => groups.commit_cursors(request).await.map(|_| ()),
            Self::Explain(request) => groups.explain_group(request).await.map(|_| ()),
            Self::Append(request) => road.log.append(request).await.map(|_| ()),
        };
        refused.expect_err(name)
    }
}

type Row = (&'static str, Call, Expected);

/// The reasons that have a row.
pub(crate) fn reasons() -> impl Iterator<Item = &'static str> {
    rows().into_iter().map(|(_, _, expected)| expected.reason)
}

fn rows() -> Vec<Row> {
    [creations(), changes(), cursors(), sets_and_appends()].into_iter().flatten().collect()
}

fn config(change: impl FnOnce(&mut v1::GroupConfig)) -> v1::GroupConfig {
    let mut config = v1::GroupConfig {
        topics: vec![TOPIC.into()],
        mode: v1::GroupMode::Manual.into(),
        start: Some(v1::StartPosition { at: Some(At::Earliest(true)) }),
        ..v1::GroupConfig::default()
    };
    change(&mut config);
    config
}

fn create(name: &str, config: v1::GroupConfig) -> Call {
    Call::Create(v1::CreateGroupRequest { name: name.into(), config: Some(config) })
}

fn invalid(field: &str) -> Expected {
    expected("FIELD_INVALID", &[("field", &field)])
}

fn required(field: &str) -> Expected {
    expected("FIELD_REQUIRED", &[("field", &field)])
}

fn no_group(name: &'static str) -> Expected {
    expected("GROUP_NOT_FOUND", &[("group", &name)])
}

fn creations() -> Vec<Row> {
    let members = |config: &mut v1::GroupConfig| config.mode = v1::GroupMode::Members.into();
    let named = |name: &str| expected("NAME_INVALID", &[("field", &"name"), ("name", &name)]);
    let session = |actual: u32, limit: u32| {
        expected("FIELD_INVALID", &[("field", &"config.session_ms"), ("limit", &limit), ("actual", &actual)])
    };
    let beyond = expected("FIELD_INVALID", &[("field", &"start"), ("limit", &1), ("actual", &9)]);
    let differs = "mode is manual, asked members; rule is none, asked spread";
    vec![
        ("a group in capitals", create("Mailer", config(|_| {})), named("Mailer")),
        (
            "a group without settings",
            Call::Create(v1::CreateGroupRequest { name: "new".into(), config: None }),
            required("config"),
        ),
        ("no mode", create("new", config(|config| config.mode = 0)), required("config.mode")),
        ("an unknown mode", create("new", config(|config| config.mode = 9)), invalid("config.mode")),
        ("no start", create("new", config(|config| config.start = None)), required("config.start")),
        (
            "a start beyond the end",
            create("new", config(|config| config.start = Some(v1::StartPosition { at: Some(At::Offset(9)) }))),
            beyond,
        ),
        ("members and no rule", create("new", config(members)), required("config.rule")),
        ("a rule and no members", create("new", config(|config| config.rule = 1)), invalid("config.rule")),
        ("an unknown rule", create("new", config(|config| config.rule = 9)), invalid("config.rule")),
        ("an unknown policy", create("new", config(|config| config.below_head = 9)), invalid("config.below_head")),
        ("no topic", create("new", config(|config| config.topics.clear())), invalid("config.topics")),
        ("a topic twice", create("new", config(|config| config.topics.push(TOPIC.into()))), invalid("config.topics")),
        (
            "a topic that is not there",
            create("new", config(|config| config.topics.push("payments".into()))),
            expected("TOPIC_NOT_FOUND", &[("topic", &"payments")]),
        ),
        ("a short session", create("new", config(|config| config.session_ms = 1)), session(1, 1_000)),
        (
            "a group that is another",
            create(
                GROUP,
                config(|config| {
                    config.mode = v1::GroupMode::Members.into();
                    config.rule = v1::AssignmentRule::Spread.into();
                }),
            ),
            expected("GROUP_EXISTS", &[("group", &GROUP), ("differences", &differs)]),
        ),
    ]
}

fn changes() -> Vec<Row> {
    let update = |change: fn(&mut v1::UpdateGroupRequest)| {
        let mut request = v1::UpdateGroupRequest { name: GROUP.into(), ..v1::UpdateGroupRequest::default() };
        change(&mut request);
        Call::Update(request)
    };
    vec![
        (
            "a look at something like it",
            Call::Get(v1::GetGroupRequest { name: "mailers".into() }),
            expected("GROUP_NOT_FOUND", &[("group", &"mailers"), ("similar", &GROUP)]),
        ),
        ("a look at nothing", Call::Get(v1::GetGroupRequest { name: "nobody".into() }), no_group("nobody")),
        (
            "a delete of nothing",
            Call::Delete(v1::DeleteGroupRequest { name: "nobody".into(), with_members: false }),
            no_group("nobody"),
        ),
        (
            "a group as it was",
            update(|update| update.etag = "77".into()),
            expected("GROUP_CHANGED", &[("group", &GROUP), ("expected", &77), ("actual", &4)]),
        ),
        ("no etag", update(|update| update.etag = "x".into()), invalid("etag")),
        ("no policy", update(|update| update.below_head = Some(9)), invalid("below_head")),
        (
            "a topic more that is not there",
            update(|update| update.add_topics.push("payments".into())),
            expected("TOPIC_NOT_FOUND", &[("topic", &"payments")]),
        ),
        (
            "an explanation",
            Call::Explain(v1::ExplainGroupRequest { group: "nobody".into() }),
            expected("GROUP_NOT_FOUND", &[("group", &"nobody")]),
        ),
    ]
}

/// A good commit for partition 1, changed.
fn commit(change: impl FnOnce(&mut v1::CursorCommit)) -> v1::CursorCommit {
    let mut commit = v1::CursorCommit {
        group: GROUP.into(),
        topic: TOPIC.into(),
        partition: 1,
        next_offset: 1,
        expected_offset: Some(1),
        ..v1::CursorCommit::default()
    };
    change(&mut commit);
    commit
}

/// The facts about one cursor.
fn place(reason: &'static str, partition: u32, facts: &[(&str, u64)]) -> Expected {
    let mut all: Vec<(&str, &dyn std::fmt::Display)> =
        vec![("group", &GROUP), ("topic", &TOPIC), ("field", &"commits[0]"), ("count", &1), ("partition", &partition)];
    all.extend(facts.iter().map(|(key, value)| (*key, value as &dyn std::fmt::Display)));
    expected(reason, &all)
}

fn cursors() -> Vec<Row> {
    let alone =
        |change: fn(&mut v1::CursorCommit)| Call::Commit(v1::CommitCursorsRequest { commits: vec![commit(change)] });
    vec![
        ("no commits", Call::Commit(v1::CommitCursorsRequest::default()), required("commits")),
        ("a commit of nobody", alone(|commit| commit.group = "nobody".into()), no_group("nobody")),
        (
            "a commit elsewhere",
            alone(|commit| commit.expected_offset = Some(0)),
            place("EXPECTED_OFFSET_MISMATCH", 1, &[("expected", 0), ("actual", 1)]),
        ),
        ("a blind commit", alone(|commit| commit.expected_offset = None), required("commits[0]")),
        (
            "a commit backwards",
            alone(|commit| commit.next_offset = 0),
            place("CURSOR_BACKWARDS", 1, &[("actual", 0), ("current", 1)]),
        ),
        (
            "a commit beyond the end",
            alone(|commit| {
                (commit.partition, commit.next_offset, commit.expected_offset) = (0, 9, Some(0));
            }),
            place("CURSOR_BEYOND_END", 0, &[("actual", 9), ("end", 1)]),
        ),
        (
            "a commit nowhere",
            alone(|commit| commit.partition = 2),
            expected("PARTITION_NOT_FOUND", &[("topic", &TOPIC), ("partition", &2), ("count", &2)]),
        ),
        (
            "a commit for a topic of others",
            alone(|commit| commit.topic = "other".into()),
            expected("START_REQUIRED", &[("group", &GROUP), ("topic", &"other")]),
        ),
        (
            "long metadata",
            alone(|commit| commit.metadata = vec![0; 1_025].into()),
            expected("APPEND_TOO_LARGE", &[("field", &"commits[0].metadata"), ("limit", &1_024), ("actual", &1_025)]),
        ),
    ]
}

fn too_large(field: &str, limit: u64) -> Expected {
    expected("REQUEST_TOO_LARGE", &[("field", &field), ("limit", &limit), ("actual", &(limit + 1))])
}

fn sets_and_appends() -> Vec<Row> {
    let set = |change: fn(&mut v1::SetCursorsRequest)| {
        let mut request = v1::SetCursorsRequest {
            group: GROUP.into(),
            topic: TOPIC.into(),
            to: Some(v1::StartPosition { at: Some(At::Earliest(true)) }),
            ..v1::SetCursorsRequest::default()
        };
        change(&mut request);
        Call::Set(request)
    };
    let fenced = v1::HeldAssignment { group: GROUP.into(), topic: TOPIC.into(), partition: 1, assignment_epoch: 3 };
    let fenced = v1::Check { kind: Some(v1::check::Kind::Assignment(fenced)) };
    vec![
        (
            "an append with a commit backwards",
            Call::Append(v1::AppendRequest {
                commits: vec![commit(|commit| commit.next_offset = 0)],
                ..plain(TOPIC, 1, vec![record(b"not to be")])
            }),
            place("CURSOR_BACKWARDS", 1, &[("actual", 0), ("current", 1)]),
        ),
        (
            "an append under an assignment that is none",
            Call::Append(v1::AppendRequest { checks: vec![fenced], ..plain(TOPIC, 1, vec![record(b"not to be")]) }),
            expected(
                "ASSIGNMENT_FENCED",
                &[
                    ("group", &GROUP),
                    ("topic", &TOPIC),
                    ("partition", &1),
                    ("field", &"checks[0]"),
                    ("count", &1),
                    ("epoch", &3),
                    ("current", &4),
                ],
            ),
        ),
        ("a set with a reason too long", set(|set| set.reason = "x".repeat(1_025)), too_large("reason", 1_024)),
        ("a set of too many partitions", set(|set| set.partitions = vec![0; 1_025]), too_large("partitions", 1_024)),
        (
            "a set of one partition twice",
            set(|set| set.partitions = vec![1, 1]),
            expected("FIELD_INVALID", &[("field", &"partitions")]),
        ),
        ("a set to nowhere", set(|set| set.to = None), required("to")),
        ("a set of nobody", set(|set| set.group = "nobody".into()), no_group("nobody")),
    ]
}

async fn group_of(road: &mut Road) -> v1::Group {
    let group = road.groups.get_group(v1::GetGroupRequest { name: GROUP.into() }).await.expect("it is there");
    group.into_inner().group.expect("it says which")
}

/// The group's cursors, as (partition, next offset).
async fn stands(road: &mut Road) -> Vec<(u32, u64)> {
    group_of(road).await.cursors.iter().map(|cursor| (cursor.partition, cursor.next_offset)).collect()
}

#[tokio::test]
async fn a_bad_call_about_a_group_is_told_why_and_moves_nothing() {
    let mut road = Road::new().await;
    let other = v1::CreateTopicRequest { name: "other".into(), ..v1::CreateTopicRequest::default() };
    road.topics.create_topic(other).await.expect("created");
    road.log.append(plain(TOPIC, 0, vec![record(b"first")])).await.expect("appended");
    let start = Some(v1::StartPosition { at: Some(At::Earliest(true)) });
    let good = v1::CreateGroupRequest { name: GROUP.into(), config: Some(config(|config| config.start = start)) };
    let created = road.groups.create_group(good.clone()).await.expect("created").into_inner();
    assert!(created.created);
    let again = road.groups.create_group(good).await.expect("it stands").into_inner();
    assert!(!again.created, "repeating it is fine");
    // An append that moves a cursor in the same frame.
    let with_cursor = v1::AppendRequest {
        commits: vec![commit(|commit| (commit.partition, commit.expected_offset) = (1, Some(0)))],
        ..plain(TOPIC, 1, vec![record(b"second")])
    };
    let early = road.log.append(with_cursor.clone()).await.expect_err("nothing is published there yet");
    assert!(early.message().contains("ends at 0"), "{early}");
    road.log.append(plain(TOPIC, 1, vec![record(b"zeroth")])).await.expect("appended");
    road.log.append(with_cursor).await.expect("appended and moved");
    assert_eq!(stands(&mut road).await, [(0, 0), (1, 1)]);
    for (name, call, expected) in rows() {
        let before = (road.ends().await, stands(&mut road).await);
        let status = call.make(&mut road, name).await;
        expected.check(name, &status);
        assert_eq!((road.ends().await, stands(&mut road).await), before, "{name}");
        road.append_good(name).await;
    }
    road.end().await;
}

#[tokio::test]
async fn cursors_go_back_only_when_they_are_set() {
    let mut road = Road::new().await;
    for _ in 0..3 {
        road.log.append(plain(TOPIC, 1, vec![record(b"one")])).await.expect("appended");
    }
    let good = v1::CreateGroupRequest { name: GROUP.into(), config: Some(config(|_| {})) };
    road.groups.create_group(good).await.expect("created");
    let forward = commit(|commit| (commit.next_offset, commit.expected_offset) = (3, Some(0)));
    let moved = road.groups.commit_cursors(v1::CommitCursorsRequest { commits: vec![forward] }).await;
    let moved = moved.expect("moved").into_inner().cursors;
    assert_eq!((moved[0].next_offset, moved[0].lag_records, moved[0].lag_ms), (3, 0, 0));
    let mut set = v1::SetCursorsRequest {
        group: GROUP.into(),
        topic: TOPIC.into(),
        partitions: vec![1],
        to: Some(v1::StartPosition { at: Some(At::Offset(1)) }),
        dry_run: true,
        ..v1::SetCursorsRequest::default()
    };
    // A manual group reads from where its cursors are.
    let request = v1::ReadRequest {
        topic: TOPIC.into(),
        start: Some(v1::StartPosition { at: Some(At::Group(GROUP.into())) }),
        stop: v1::ReadStop::AtEnd.into(),
        ..v1::ReadRequest::default()
    };
    road.log.append(plain(TOPIC, 1, vec![record(b"fourth")])).await.expect("appended");
    let mut responses = road.log.read(request).await.expect("it starts").into_inner();
    let mut offsets = Vec::new();
    while let Some(response) = responses.message().await.expect("it goes on") {
        if let Some(v1::read_response::Event::Batch(batch)) = response.event {
            offsets.push((batch.partition, batch.records.len(), batch.next_offset));
        }
    }
    assert_eq!(offsets, [(1, 1, 4)]);
    let step = v1::CursorMove { partition: 1, from_offset: 3, to_offset: 1, skipped_records: 0, repeated_records: 2 };
    let said = road.groups.set_cursors(set.clone()).await.expect("said").into_inner().moves;
    assert_eq!((said, stands(&mut road).await), (vec![step], vec![(0, 0), (1, 3)]));
    set.dry_run = false;
    let made = road.groups.set_cursors(set).await.expect("set").into_inner().moves;
    assert_eq!((made, stands(&mut road).await), (vec![step], vec![(0, 0), (1, 1)]));

    let paused = v1::UpdateGroupRequest {
        name: GROUP.into(),
        paused: Some(true),
        pause_reason: "stocktaking".into(),
        ..v1::UpdateGroupRequest::default()
    };
    let before = group_of(&mut road).await.etag;
    let group = road.groups.update_group(paused).await.expect("paused").into_inner().group.expect("it says which");
    assert_eq!((group.paused, group.pause_reason.as_str()), (true, "stocktaking"));
    assert_ne!(group.etag, before, "its settings are others");
    let listed = road.groups.list_groups(v1::ListGroupsRequest::default()).await.expect("listed").into_inner();
    assert_eq!(listed.groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), [GROUP]);
    assert_eq!(listed.groups[0].cursors[1].lag_records, 3);
    road.groups.delete_group(v1::DeleteGroupRequest { name: GROUP.into(), with_members: false }).await.expect("gone");
    let gone = road.groups.get_group(v1::GetGroupRequest { name: GROUP.into() }).await;
    no_group(GROUP).check("a group that was deleted", &gone.expect_err("it is gone"));
    road.end().await;
}
