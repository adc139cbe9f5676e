//! Consumer groups as whoever runs them sees them: made once, read and committed by compare and set through kills of
//! the broker, set back with a look before, paused, and deleted.

use tillroll_client::{
    Append, AssignmentRule, BelowHead, Client, CursorCommit, CursorInfo, ErrorKind, GroupMode, GroupOptions,
    GroupUpdate, Position, Record, SetCursors,
};
use tillroll_proto::reason;
use tokio::time::timeout;

use crate::broker::{Broker, End, PATIENCE, number, read_all, send_each};

/// Ten records in each of two partitions. Partition 1 has those from 10 on.
async fn filled() -> (Broker, Client) {
    let broker = Broker::start();
    let client = broker.topic("orders", 2).await;
    for partition in 0..2 {
        let producer = client.producer("orders").partition(partition).build().await.expect("it is there");
        let first = u64::from(partition) * 10;
        send_each(&producer, (first..first + 10).map(|number| Record::new(number.to_string()))).await;
        producer.close().await.expect("accepted");
    }
    (broker, client)
}

fn manual(start: Position) -> GroupOptions {
    GroupOptions::new(["orders"], GroupMode::Manual, start)
}

fn commit(partition: u32, from: u64, to: u64) -> CursorCommit {
    CursorCommit::new("mailer", "orders", partition, to).expected_offset(from)
}

async fn cursors(client: &Client) -> Vec<CursorInfo> {
    client.groups().get("mailer").await.expect("it is there").cursors
}

/// Where the group stands, partition by partition.
async fn places(client: &Client) -> Vec<u64> {
    cursors(client).await.iter().map(|cursor| cursor.next_offset).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_made_once_and_another_of_its_name_is_refused() {
    let (mut broker, client) = filled().await;
    let groups = client.groups();
    let mode = GroupMode::Members(AssignmentRule::Spread);
    let options = GroupOptions::new(["orders"], mode, Position::Last(3)).session(PATIENCE);
    let (first, created) = groups.create("billing", options.clone()).await.expect("a new group");
    assert!(created);
    assert_eq!((first.mode, first.start, first.below_head), (mode, Position::Last(3), BelowHead::Fail));
    assert_eq!(
        (first.session, first.drain.as_millis()),
        (PATIENCE, 30_000),
        "what is not said is the server's default"
    );
    assert_eq!((first.topics.as_slice(), first.paused.as_deref()), (&["orders".to_owned()][..], None));
    assert_eq!((first.lag_records(), first.cursors[0].next_offset), (6, 7), "the last three of each partition");

    broker.restart(End::Kill);
    let client = broker.client().await;
    let groups = client.groups();
    let (again, created) = groups.create("billing", options.clone()).await.expect("the same once more");
    assert_eq!((created, &again.etag, again.mode), (false, &first.etag, mode));
    let other = groups.create("billing", options.below_head(BelowHead::Earliest)).await.expect_err("it fails there");
    assert_eq!((other.kind(), other.reason()), (ErrorKind::Conflict, Some(reason::GROUP_EXISTS)));
    assert!(other.metadata()["differences"].contains("below_head"), "{other:?}");
    assert!(other.hint().is_some_and(|hint| hint.ends_with("tillroll group describe billing")), "{other}");

    groups.create("mailer", manual(Position::Earliest)).await.expect("a new group");
    let names = async |topic| {
        let listed = groups.list(topic).await.expect("listed");
        listed.into_iter().map(|group| group.name).collect::<Vec<_>>()
    };
    assert_eq!(names(None).await, ["billing", "mailer"]);
    assert_eq!(names(Some("orders")).await, ["billing", "mailer"]);
    assert_eq!(names(Some("visits")).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_group_cannot_be_is_refused_with_what_to_mend() {
    let (broker, client) = filled().await;
    broker.topic("narrow", 1).await;
    let groups = client.groups();
    let both = GroupMode::Members(AssignmentRule::CoPartitioned);
    for (options, kind, expected) in [
        (GroupOptions::new(["visits"], GroupMode::Manual, Position::Earliest), ErrorKind::NotFound, "TOPIC_NOT_FOUND"),
        (GroupOptions::new([""; 0], GroupMode::Manual, Position::Earliest), ErrorKind::InvalidInput, "FIELD_INVALID"),
        (GroupOptions::new(["orders", "narrow"], both, Position::Earliest), ErrorKind::InvalidInput, "FIELD_INVALID"),
        (manual(Position::Offset(11)), ErrorKind::InvalidInput, "FIELD_INVALID"),
    ] {
        let refused = groups.create("mailer", options).await.expect_err(expected);
        assert_eq!((refused.kind(), refused.reason()), (kind, Some(expected)), "{refused:?}");
    }
    let refused = groups.get("mailer").await.expect_err("none was made");
    assert_eq!((refused.kind(), refused.reason()), (ErrorKind::NotFound, Some(reason::GROUP_NOT_FOUND)));
    assert!(refused.hint().is_some_and(|hint| hint.contains("tillroll group create mailer")), "{refused}");
}

/// Reads what is left for the group, and commits behind every record; stops after so many.
async fn work(client: &Client, count: usize) -> Vec<u64> {
    let mut reader = client.reader("orders").from_group("mailer").open().await.expect("it can be read");
    let mut seen = Vec::new();
    while seen.len() < count {
        let Some(received) = reader.next().await else { break };
        let received = received.expect("whole");
        seen.push(number(&received));
        let done = commit(received.partition, received.offset, received.offset + 1).metadata(format!("{}", seen.len()));
        let moved = client.groups().commit_cursors([done]).await.expect("nobody else commits");
        assert_eq!((moved.len(), moved[0].next_offset), (1, received.offset + 1));
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manual_group_goes_on_behind_its_last_commit_after_a_kill() {
    let (mut broker, client) = filled().await;
    client.groups().create("mailer", manual(Position::Earliest)).await.expect("a new group");
    let mut seen = work(&client, 7).await;
    broker.restart(End::Kill);
    let client = broker.client().await;
    assert_eq!(cursors(&client).await.iter().map(|cursor| cursor.next_offset).sum::<u64>(), 7);
    seen.extend(work(&client, 6).await);
    broker.restart(End::Terminate);
    let client = broker.client().await;
    seen.extend(work(&client, 20).await);
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>(), "each is done once");
    for cursor in cursors(&client).await {
        assert_eq!((cursor.next_offset, cursor.lag_records, cursor.lag_ms), (10, 0, 0), "{cursor:?}");
        assert!(!cursor.metadata.is_empty() && cursor.committed_time_us > 0 && cursor.holder.is_none(), "{cursor:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_from_a_group_goes_on_through_a_kill_though_its_cursors_moved() {
    let (mut broker, client) = filled().await;
    client.groups().create("mailer", manual(Position::Offset(4))).await.expect("a new group");
    let reader = client.reader("orders").from_group("mailer").partitions([0]).follow(true).retry_for(PATIENCE);
    let mut reader = reader.open().await.expect("it follows");
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(number(&reader.next().await.expect("open").expect("whole")));
    }
    client.groups().commit_cursors([commit(0, 4, 9)]).await.expect("somebody was faster");
    broker.restart(End::Kill);
    let client = broker.client().await;
    client.groups().delete("mailer", false).await.expect("it has no members");
    let producer = client.producer("orders").partition(0).build().await.expect("it is there");
    send_each(&producer, [Record::new("10")]).await;
    while seen.len() < 7 {
        let next = timeout(PATIENCE, reader.next()).await.expect("in time");
        seen.push(number(&next.expect("open").expect("whole")));
    }
    assert_eq!(seen, (4..11).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_expects_another_place_moves_nothing_and_says_where_it_is() {
    let (_broker, client) = filled().await;
    let groups = client.groups();
    groups.create("mailer", manual(Position::Offset(2))).await.expect("a new group");
    groups.commit_cursors([commit(0, 2, 5)]).await.expect("it is there");

    let late = groups.commit_cursors([commit(1, 2, 3), commit(0, 2, 6)]).await.expect_err("partition 0 has moved");
    assert_eq!((late.kind(), late.reason()), (ErrorKind::Conflict, Some(reason::EXPECTED_OFFSET_MISMATCH)));
    assert_eq!((late.number("partition"), late.number("actual")), (Some(0), Some(5)), "{late:?}");
    assert!(late.hint().is_some_and(|hint| hint.starts_with("somebody else moved the cursor")), "{late}");
    for (commit, kind, expected) in [
        (commit(0, 5, 4), ErrorKind::Conflict, reason::CURSOR_BACKWARDS),
        (commit(0, 5, 11), ErrorKind::Conflict, reason::CURSOR_BEYOND_END),
        (commit(2, 0, 1), ErrorKind::NotFound, reason::PARTITION_NOT_FOUND),
        (CursorCommit::new("mailer", "orders", 0, 6), ErrorKind::InvalidInput, reason::FIELD_REQUIRED),
        (CursorCommit::new("nobody", "orders", 0, 6), ErrorKind::NotFound, reason::GROUP_NOT_FOUND),
    ] {
        let refused = groups.commit_cursors([commit]).await.expect_err(expected);
        assert_eq!((refused.kind(), refused.reason()), (kind, Some(expected)), "{refused:?}");
        assert!(refused.message().starts_with("commit cursors of group "), "{refused}");
    }
    assert_eq!(places(&client).await, [5, 2], "all or nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_moves_a_cursor_with_its_records_or_does_neither() {
    let (broker, client) = filled().await;
    broker.topic("mails", 1).await;
    client.groups().create("mailer", manual(Position::Earliest)).await.expect("a new group");
    let step = |from, to, mail: &'static str| {
        let append = Append::new().records_to("mails", 0, [Record::new(mail)]).commit_cursor(commit(0, from, to));
        client.append(append)
    };
    step(0, 3, "0").await.expect("the cursor is there");
    let refused = step(0, 4, "1").await.expect_err("it has moved");
    assert_eq!(refused.reason(), Some(reason::EXPECTED_OFFSET_MISMATCH));
    assert!(refused.has_no_side_effects());
    assert_eq!((read_all(&client, "mails").await.len(), places(&client).await), (1, vec![3, 0]));

    let alone = client.append(Append::new().commit_cursor(commit(0, 3, 5))).await.expect("nothing but a cursor");
    assert_eq!((alone.batches.len(), places(&client).await), (0, vec![5, 0]));
    let refused = client.append(Append::new().commit_cursor(commit(0, 3, 5))).await.expect_err("it has moved");
    assert!(refused.message().starts_with("commit cursors of group mailer: "), "{refused}");

    let held = Append::new().records_to("mails", 0, [Record::new("1")]).expect_assignment("mailer", "orders", 0, 4);
    let fenced = client.append(held).await.expect_err("nobody holds it");
    assert_eq!((fenced.kind(), fenced.reason()), (ErrorKind::Fenced, Some(reason::ASSIGNMENT_FENCED)));
    assert_eq!(read_all(&client, "mails").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_are_set_after_a_look_that_changes_nothing() {
    let (_broker, client) = filled().await;
    let groups = client.groups();
    groups.create("mailer", manual(Position::Offset(6))).await.expect("a new group");
    let told = async |set: SetCursors| {
        let moves = groups.set_cursors("mailer", set).await.expect("it can be set");
        let told = |made: tillroll_client::CursorMove| {
            (made.partition, made.from_offset, made.to_offset, made.skipped_records, made.repeated_records)
        };
        moves.into_iter().map(told).collect::<Vec<_>>()
    };
    let back = SetCursors::new("orders", Position::Earliest).partitions([1]).reason("a template was wrong");
    assert_eq!(told(back.clone().dry_run(true)).await, [(1, 6, 0, 0, 6)]);
    assert_eq!(places(&client).await, [6, 6]);
    assert_eq!(told(back).await, [(1, 6, 0, 0, 6)]);
    assert_eq!(places(&client).await, [6, 0]);
    let latest = SetCursors::new("orders", Position::Latest);
    assert_eq!(told(latest).await, [(0, 6, 10, 4, 0), (1, 0, 10, 10, 0)], "all partitions unless some are named");

    for (set, expected) in [
        (SetCursors::new("orders", Position::Offset(11)), reason::OFFSET_BEYOND_END),
        (SetCursors::new("visits", Position::Earliest), reason::TOPIC_NOT_FOUND),
        (SetCursors::new("orders", Position::Earliest).partitions([2]), reason::PARTITION_NOT_FOUND),
    ] {
        let refused = groups.set_cursors("mailer", set).await.expect_err(expected);
        assert_eq!(refused.reason(), Some(expected), "{refused:?}");
    }
    assert_eq!(places(&client).await, [10, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_paused_changed_and_deleted_by_whoever_looked_at_it_last() {
    let (mut broker, client) = filled().await;
    let groups = client.groups();
    let (made, _) = groups.create("mailer", manual(Position::Earliest)).await.expect("a new group");
    let paused = groups.pause("mailer", "gateway down").await.expect("it is there");
    assert_eq!(paused.paused.as_deref(), Some("gateway down"));
    broker.restart(End::Kill);
    let client = broker.client().await;
    let groups = client.groups();
    assert_eq!(groups.get("mailer").await.expect("it is there").paused.as_deref(), Some("gateway down"));
    assert_eq!(groups.resume("mailer").await.expect("it is there").paused, None);

    broker.topic("returns", 3).await;
    let late = groups.update("mailer", GroupUpdate::new().etag(&made.etag).add_topic("returns")).await;
    let late = late.expect_err("it was paused since");
    assert_eq!((late.kind(), late.reason()), (ErrorKind::Conflict, Some(reason::GROUP_CHANGED)));
    let etag = groups.get("mailer").await.expect("it is there").etag;
    let update = GroupUpdate::new().etag(etag).add_topic("returns").below_head(BelowHead::Earliest);
    let changed = groups.update("mailer", update).await.expect("nobody else changed it");
    assert_eq!((changed.topics.join(" "), changed.below_head), ("orders returns".to_owned(), BelowHead::Earliest));
    assert_eq!(changed.cursors.len(), 5);

    groups.delete("mailer", false).await.expect("it has no members");
    for gone in [groups.delete("mailer", true).await, groups.resume("mailer").await.map(drop)] {
        assert_eq!(gone.expect_err("it is gone").reason(), Some(reason::GROUP_NOT_FOUND));
    }
    let unread = client.reader("orders").from_group("mailer").open().await.expect_err("it is gone");
    assert_eq!(unread.kind(), ErrorKind::NotFound);
    groups.create("mailer", GroupOptions::new(["returns"], GroupMode::Manual, Position::Latest)).await.expect("anew");
    let unread = client.reader("orders").from_group("mailer").open().await.expect_err("it reads something else");
    assert_eq!((unread.kind(), unread.reason()), (ErrorKind::InvalidInput, Some(reason::START_REQUIRED)));
}

/// A generic client takes 4 MiB: what is larger comes in pages, and the SDK puts it together again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_many_partitions_come_in_answers_that_any_client_takes() {
    use tillroll_proto::v1::{self, group_service_client::GroupServiceClient};
    const GROUPS: usize = 4;
    const TOPICS: usize = 12;
    let broker = Broker::start();
    let client = broker.topic("orders", 1).await;
    let mut topics = Vec::new();
    for number in 0..TOPICS {
        let name = format!("{number:03}-{}", "long".repeat(31));
        let options = tillroll_client::TopicOptions::default().partitions(1_024);
        client.admin().create_topic(&name, options).await.expect("a topic");
        topics.push(name);
    }
    for number in 0..GROUPS {
        let options = GroupOptions::new(topics.clone(), GroupMode::Manual, Position::Earliest);
        let (made, _) = client.groups().create(format!("group-{number}"), options).await.expect("a group");
        assert_eq!(made.cursors.len(), TOPICS * 1_024);
    }
    let all = client.groups().list(None).await.expect("listed");
    assert_eq!(all.iter().map(|group| group.cursors.len()).collect::<Vec<_>>(), [TOPICS * 1_024; GROUPS]);

    let channel = tonic::transport::Channel::from_shared(format!("http://{}", broker.address())).expect("a URL");
    let mut generic = GroupServiceClient::new(channel.connect().await.expect("served"));
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = generic.list_groups(v1::ListGroupsRequest { page_token, ..v1::ListGroupsRequest::default() }).await;
        let page = page.expect("small enough").into_inner();
        assert!(page.groups.iter().all(|group| group.has_more_cursors && group.cursors.len() <= 256));
        names.extend(page.groups.into_iter().map(|group| group.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, (0..GROUPS).map(|number| format!("group-{number}")).collect::<Vec<_>>());
    let wrong = v1::ListCursorsRequest { group: "group-0".into(), page_token: "x".into(), page_size: 0 };
    let refused = generic.list_cursors(wrong).await.expect_err("not from an answer");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}
