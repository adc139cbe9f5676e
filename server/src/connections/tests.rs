use super::*;

#[test]
fn windows_shrink_as_connections_become_many_and_their_sum_is_bounded() {
    let all = Connections::new(2_048);
    let open: Vec<_> = (0..200).map(|_| all.open().expect("there is room")).collect();
    let sum: u64 = open.iter().map(|one| u64::from(one.windows().0)).sum();
    assert_eq!(sum, window_bytes(200));
    assert_eq!((open[0].windows(), open[199].windows()), ((16 << 20, 1 << 20), (256 << 10, 64 << 10)));
    open[0].close();
    assert_eq!(all.open().expect("there is room").windows().0, 16 << 20, "the large window is free again");
}

#[test]
fn a_new_connection_takes_the_place_of_the_oldest_that_says_nothing() {
    let all = Connections::new(2);
    let (first, second) = (all.open().expect("room"), all.open().expect("room"));
    first.greet();
    let third = all.open().expect("the silent one makes room");
    assert!(second.cut().is_cancelled() && !first.cut().is_cancelled());
    third.greet();
    assert!(all.open().is_none(), "both are at work");
    first.close();
    assert!(all.open().is_some());
}

#[test]
fn a_small_request_passes_when_large_ones_have_taken_all_room() {
    let all = Connections::new(8);
    let (hostile, good) = (all.open().expect("room"), all.open().expect("room"));
    let mut large = hostile.undecoded();
    while large.take(64 << 10) {}
    assert_eq!(all.used().undecoded_bytes, UNDECODED_BYTES_MAX + UNDECODED_BYTES_OWN);
    let mut small = good.undecoded();
    assert!(small.take(60 << 10) && !small.take(60 << 10));
    drop((large, small));
    assert_eq!(all.used().undecoded_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_loses_its_room_to_those_who_wait() {
    let all = Connections::new(8);
    tokio::spawn(all.clone().watch());
    let hostile: Vec<_> = (0..4).map(|_| all.open().expect("room")).collect();
    let mut held = Vec::new();
    for one in &hostile {
        held.extend((0..16).map(|_| one.unread(1 << 20)));
    }
    let good = all.open().expect("room");
    let waiting = tokio::spawn(async move { good.room(1 << 20).await });
    hostile[0].cut().cancelled().await;
    assert!(!waiting.is_finished());
    held.clear();
    waiting.await.expect("there is room");
}

/// A member of a group asks again and again instead of waiting in place.
#[tokio::test(start_paused = true)]
async fn who_asks_again_for_room_counts_as_one_who_waits() {
    let all = Connections::new(8);
    tokio::spawn(all.clone().watch());
    let (hostile, good) = (all.open().expect("room"), all.open().expect("room"));
    let _held: Vec<_> = (0..64).map(|_| hostile.unread(1 << 20)).collect();
    assert_eq!(good.try_room(1 << 20).err(), Some(NoRoom::All));
    let cut = hostile.cut().cancelled();
    assert!(tokio::time::timeout(STALLED * 4, cut).await.is_err(), "nobody waits");
    let _waits = good.waits();
    hostile.cut().cancelled().await;
}

/// A stream that is read hides none that is not, and a trickle is no progress.
#[tokio::test(start_paused = true)]
async fn who_reads_one_stream_and_leaves_others_unread_loses_its_room_to_those_who_wait() {
    for (step, within) in [(1, STALLED * 2), (PROGRESS_BYTES as usize, OVERDUE * 2)] {
        let all = Connections::new(8);
        let watch = tokio::spawn(all.clone().watch());
        let (hostile, good) = (all.open().expect("room"), all.open().expect("room"));
        let _held: Vec<_> = (0..64).map(|_| hostile.unread(1 << 20)).collect();
        let _waits = good.waits();
        let reading = tokio::spawn({
            let hostile = hostile.clone();
            async move {
                let mut ticks = tokio::time::interval(Duration::from_secs(1));
                loop {
                    ticks.tick().await;
                    let piece = hostile.unread(step);
                    hostile.wrote(step);
                    drop(piece);
                }
            }
        });
        let cut = tokio::time::timeout(within, hostile.cut().cancelled()).await;
        assert!(cut.is_ok(), "{step} bytes a second");
        reading.abort();
        watch.abort();
    }
}

/// A stream of appends whose outcomes are not read is not polled: nobody but the watch sees that half a request of it
/// gets no further.
#[tokio::test(start_paused = true)]
async fn what_is_never_whole_makes_room_when_half_of_it_is_taken() {
    let all = Connections::new(8);
    tokio::spawn(all.clone().watch());
    let hostile = all.open().expect("room");
    let mut held = hostile.undecoded();
    assert!(held.take((UNDECODED_BYTES_MAX / 2 + UNDECODED_BYTES_OWN) as usize));
    let cut = tokio::time::timeout(OVERDUE * 4, hostile.cut().cancelled()).await;
    assert!(cut.is_err(), "nobody needs it");
    assert!(held.take(1));
    hostile.cut().cancelled().await;
}

#[test]
fn no_call_begins_whose_answer_has_no_room_unless_the_connection_has_little() {
    let all = Connections::new(8);
    let (hostile, good) = (all.open().expect("room"), all.open().expect("room"));
    let _held: Vec<_> = (0..33).map(|_| hostile.unread(1 << 20)).collect();
    assert_eq!(hostile.check_call(), Err(Full::OwnResponses), "more than one connection may have");
    let other = all.open().expect("room");
    let others: Vec<_> = (0..32).map(|_| other.unread(1 << 20)).collect();
    let small = good.unread(UNREAD_BYTES_SMALL as usize);
    assert_eq!(good.check_call(), Ok(()));
    drop(small);
    let large = good.unread(UNREAD_BYTES_SMALL as usize + 1);
    assert_eq!(good.check_call(), Err(Full::Responses), "more than all may have");
    drop((others, large));
}

#[test]
fn when_all_calls_are_taken_each_connection_still_has_some() {
    let all = Connections::new(8);
    let (hostile, good) = (all.open().expect("room"), all.open().expect("room"));
    let _taken: Vec<_> = (0..STREAMS_MAX).map(|_| hostile.stream()).collect();
    assert_eq!(hostile.check_call(), Ok(()));
    let _one_more = hostile.stream();
    assert_eq!(hostile.check_call(), Err(Full::Calls));
    let _own: Vec<_> = (0..STREAMS_OWN).map(|_| good.stream()).collect();
    assert_eq!(good.check_call(), Ok(()));
    let _more = good.stream();
    assert_eq!(good.check_call(), Err(Full::Calls));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_call_makes_room_for_a_new_one() {
    let all = Connections::new(2);
    let (used, unused) = (all.open().expect("room"), all.open().expect("room"));
    used.greet();
    unused.greet();
    let _call = used.stream();
    assert!(all.open().is_none(), "both have just come");
    tokio::time::advance(UNUSED).await;
    assert!(all.open().is_some());
    assert!(unused.cut().is_cancelled() && !used.cut().is_cancelled());
    assert!(all.open().is_some(), "the new one has not said a word");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_it_holds_itself_costs_nobody_a_connection() {
    let all = Connections::new(8);
    tokio::spawn(all.clone().watch());
    let (full, paused) = (all.open().expect("room"), all.open().expect("room"));
    let _kept = paused.unread(1 << 20);
    let mut held: Vec<_> = (0..16).map(|_| full.unread(1 << 20)).collect();
    let waits = tokio::spawn(async move { full.room(1 << 20).await });
    assert!(tokio::time::timeout(OVERDUE * 4, paused.cut().cancelled()).await.is_err());
    assert!(!waits.is_finished());
    held.pop();
    waits.await.expect("there is room");
}

/// What each may hold whatever the others do takes no room of theirs, however many there are.
#[test]
fn many_that_hold_little_leave_all_room_to_the_others() {
    let all = Connections::new(2_048);
    let open: Vec<_> = (0..2_000).map(|_| all.open().expect("room")).collect();
    let _unread: Vec<_> = open.iter().map(|one| one.unread(60 << 10)).collect();
    let _halves: Vec<_> = open
        .iter()
        .map(|one| {
            let mut half = one.undecoded();
            assert!(half.take(60 << 10));
            half
        })
        .collect();
    let good = all.open().expect("room");
    assert!(good.try_room(1 << 20).is_ok());
    assert!(good.undecoded().take(8 << 20));
    assert_eq!(all.used().unread_bytes, 2_000 * (60 << 10));
}

/// The one who follows the end has a small response while others hold everything, also when it had to wait for itself.
#[tokio::test(start_paused = true)]
async fn a_small_response_waits_for_its_own_connection_alone() {
    let all = Connections::new(8);
    let (hostile, good) = (all.open().expect("room"), all.open().expect("room"));
    let _held: Vec<_> = (0..65).map(|_| hostile.unread(1 << 20)).collect();
    let before = good.unread(60 << 10);
    let waits = tokio::spawn({
        let good = good.clone();
        async move { good.room(10 << 10).await }
    });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    drop(before);
    tokio::time::timeout(STALLED, waits).await.expect("it is small").expect("there is room");
}

/// Whoever has many calls waits with a few of them: the calls of others come between.
#[tokio::test]
async fn a_connection_waits_with_a_few_of_its_calls_for_all_turns() {
    let all = Connections::new(8);
    let (hostile, good) = (all.open().expect("room"), all.open().expect("room"));
    let mut held = Vec::new();
    for _ in 0..TURNS_OWN {
        held.push(hostile.turn().await);
    }
    let waits = tokio::spawn({
        let hostile = hostile.clone();
        async move { hostile.turn().await }
    });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    let turn = good.turn().await;
    assert_eq!(all.used().turns, TURNS_OWN + 1);
    held.clear();
    let last = waits.await.expect("it has its turn");
    drop((turn, last));
    assert_eq!(all.used().turns, 0);
}

#[test]
fn an_answer_without_room_is_refused_unless_it_is_small() {
    let all = Connections::new(8);
    let (hostile, good) = (all.open().expect("room"), all.open().expect("room"));
    let held: Vec<_> = (0..32).map(|_| hostile.answer(1 << 20).expect("there is room")).collect();
    assert_eq!(hostile.answer(1 << 20).err(), Some(Full::OwnResponses));
    assert!(hostile.answer(ANSWER_BYTES_SMALL).is_ok());
    let others = good.unread(33 << 20);
    let third = all.open().expect("room");
    assert_eq!(third.check_page(), Ok(()));
    assert_eq!(third.answer(100 << 10).err(), Some(Full::Responses));
    assert_eq!(third.check_page(), Err(Full::Responses), "the next one would have no room either");
    assert!(third.answer(60 << 10).is_ok(), "each may hold little");
    assert_eq!(third.check_page(), Ok(()));
    drop((held, others));
    assert_eq!(all.used().unread_bytes, 0);
}

/// Outcomes lie where they are until a client takes them, however many partitions an append went to.
#[tokio::test(start_paused = true)]
async fn outcomes_that_nobody_takes_have_a_budget_and_cost_the_connection_when_others_need_it() {
    let all = Connections::new(8);
    tokio::spawn(all.clone().watch());
    let (hostile, slow, good) = (all.open().expect("room"), all.open().expect("room"), all.open().expect("room"));
    let (mut stuck, mut taken) = (hostile.outcomes(), slow.outcomes());
    assert!(taken.take(1 << 20));
    while stuck.take(1 << 10) {}
    assert!(all.used().outcome_bytes <= OUTCOME_BYTES_MAX + 2 * OUTCOME_BYTES_OWN);
    let mut small = good.outcomes();
    assert!(small.take(60 << 10) && !small.take(60 << 10), "each has its share");
    let reading = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(OVERDUE / 3);
        loop {
            ticks.tick().await;
            taken.give_back(1);
        }
    });
    hostile.cut().cancelled().await;
    assert!(!slow.cut().is_cancelled() && !good.cut().is_cancelled());
    reading.abort();
    let _ended = reading.await;
    drop((stuck, small));
    assert_eq!(all.used().outcome_bytes, 0);
}

/// Names of a thousand groups are much to wait with.
#[test]
fn only_so_many_large_requests_wait_and_one_of_each_connection_always_may() {
    let all = Connections::new(64);
    let many: Vec<_> = (0..17).map(|_| all.open().expect("room")).collect();
    let mut waits = Vec::new();
    for connection in &many {
        let own: Vec<_> = (0..).map_while(|_| connection.large_waits().ok()).collect();
        assert!(own.len() == LARGE_WAITS_OWN || waits.len() >= LARGE_WAITS_MAX, "{}", own.len());
        waits.extend(own);
    }
    assert_eq!(waits.len(), LARGE_WAITS_MAX + 1, "one of the last connection");
    assert_eq!(many[16].large_waits().err(), Some(Full::LargeWaits));
    drop(waits);
    assert_eq!(all.used().large_waits, 0);
}
