//! Calls that fail, calls that a crash strikes, calls on dead handles, and calls that no engine may make.

use std::{collections::BTreeSet, io};

use super::{SEEDS, check_outcomes, content, create, durable};
use crate::disk::{
    Advice, Mode,
    aligned::AlignedBuf,
    sim::{CallKind, Crash, Fault, SimDisk},
    write_all_at,
};

fn kind<T>(outcome: io::Result<T>) -> io::ErrorKind {
    outcome.err().expect("refused").kind()
}

#[test]
fn what_a_failed_sync_lost_no_later_sync_brings_back() {
    check_outcomes([(false, false), (true, false)], |sim| {
        let file = durable(&sim, "a", &[1; 512]);
        file.write_at(&[2; 512], 0).unwrap();
        sim.fail_at_kind(CallKind::Sync, 1, Fault::Error);
        assert!(file.sync().is_err());
        assert_eq!(sim.faults(), 1);
        let new_at_first = content(file.as_ref())[0] == 2;
        file.sync().expect("the page is clean: there is nothing to fail");
        let power = sim.snapshot();
        power.crash(Crash::Power);
        assert_eq!(power.read_file("a"), [1; 512]);
        file.advise(Advice::DontNeed).unwrap();
        let new_after_forgetting = content(file.as_ref())[0] == 2;
        file.write_at(&[3; 512], 0).unwrap();
        file.sync().unwrap();
        assert_eq!(sim.read_durable("a").unwrap(), [3; 512], "a new write is a new chance");
        (new_at_first, new_after_forgetting)
    });
}

#[test]
fn a_failed_write_leaves_each_sector_written_or_not() {
    check_outcomes([[1, 1], [1, 2], [2, 1], [2, 2]], |sim| {
        let file = durable(&sim, "a", &[1; 1_024]);
        sim.fail_at(1, Fault::Error);
        assert_eq!(file.write_at(&[2; 1_024], 0).unwrap_err().raw_os_error(), Some(5));
        let after = content(file.as_ref());
        [after[0], after[512]]
    });
}

#[test]
fn a_full_disk_refuses_new_blocks_and_nothing_else() {
    let sim = SimDisk::new(1);
    sim.set_capacity(3 * 4_096);
    let disk = sim.handle();
    let file = create(&disk, "a");
    file.allocate(0, 8_192).unwrap();
    assert_eq!((disk.space().unwrap().free, sim.allocated("a")), (4_096, 8_192));
    assert_eq!(kind(file.allocate(8_192, 8_192)), io::ErrorKind::StorageFull);
    assert_eq!(file.bytes().unwrap(), 8_192, "a refused allocation changes nothing");
    assert_eq!(file.write_at(&[5; 10_000], 4_096).unwrap(), 8_192, "a write goes as far as there is room");
    assert_eq!(kind(file.write_at(&[5], 12_288)), io::ErrorKind::StorageFull);
    assert_eq!(kind(disk.open("b", Mode::Create, false)), io::ErrorKind::StorageFull);
    assert_eq!(kind(disk.create_dir("d")), io::ErrorKind::StorageFull);
    assert_eq!(file.write_at(&[6; 12_288], 0).unwrap(), 12_288, "allocated blocks can always be written");
    file.sync().unwrap();
    disk.remove("a").unwrap();
    assert_eq!(disk.space().unwrap().free, 0, "an open file keeps its blocks");
    drop(file);
    assert_eq!(disk.space().unwrap().free, 3 * 4_096);
}

#[test]
fn planned_faults_strike_their_call_once() {
    let sim = SimDisk::new(2);
    let disk = sim.handle();
    sim.fail_at_kind(CallKind::Allocate, 1, Fault::NoSpace);
    sim.fail_at(4, Fault::Error);
    let file = create(&disk, "a");
    assert_eq!(kind(file.allocate(0, 10)), io::ErrorKind::StorageFull);
    assert_eq!(file.bytes().unwrap(), 0);
    file.allocate(0, 10).unwrap();
    disk.sync_dir("").expect_err("the fourth call");
    disk.sync_dir("").unwrap();
    assert_eq!((sim.faults(), sim.changes()), (2, 5));
}

#[test]
fn a_short_write_says_how_far_it_came() {
    for seed in 0..SEEDS {
        let sim = SimDisk::new(seed);
        let disk = sim.handle();
        sim.fail_at_kind(CallKind::Write, 1, Fault::ShortWrite);
        let file = create(&disk, "a");
        let count = file.write_at(&[1; 100], 0).unwrap();
        assert!((1..100).contains(&count), "seed={seed}");
        assert_eq!(content(file.as_ref()), vec![1; count], "seed={seed}");

        let direct = disk.open("d", Mode::Create, true).unwrap();
        let mut block = AlignedBuf::with_capacity(8_192);
        block.push(&[2; 8_192]);
        sim.fail_at_kind(CallKind::Write, 1, Fault::ShortWrite);
        let count = direct.write_at(block.as_slice(), 0).unwrap();
        assert!(count < 8_192 && count.is_multiple_of(512) && count > 0, "seed={seed} count={count}");
    }
}

#[test]
fn short_reads_are_finished_by_the_caller() {
    let sim = SimDisk::new(3);
    let file = durable(&sim, "a", &[8; 5_000]);
    sim.set_short_reads(2);
    let counts: BTreeSet<_> = (0..50).map(|_| file.read_at(&mut [0; 5_000], 0).unwrap()).collect();
    assert!(counts.len() > 10 && !counts.contains(&0));
    assert_eq!(content(file.as_ref()), vec![8; 5_000]);
}

/// A few calls of every kind; what an observer knows to be durable comes back.
fn workload(sim: &SimDisk) -> io::Result<()> {
    let disk = sim.handle();
    let _lock = disk.lock()?;
    disk.create_dir("d")?;
    disk.create_dir("e")?;
    let file = disk.open("d/a", Mode::Create, false)?;
    file.allocate(0, 8_192)?;
    write_all_at(file.as_ref(), &[1; 5_000], 0)?;
    file.sync()?;
    disk.sync_dir("d")?;
    disk.sync_dir("")?;
    write_all_at(file.as_ref(), &[2; 2_000], 5_000)?;
    file.set_bytes(6_000)?;
    disk.rename("d/a", "d/b")?;
    disk.open("d/c", Mode::Create, true)?;
    disk.remove("d/c")?;
    disk.remove_dir("e")?;
    disk.sync_dir("d")
}

#[test]
fn a_crash_can_be_put_at_every_call_and_names_it() {
    let full = SimDisk::new(0);
    workload(&full).unwrap();
    let calls = full.calls();
    assert_eq!(full.changes_by_kind().keys().copied().collect::<Vec<_>>(), CallKind::ALL);
    for crash in [Crash::Kill, Crash::Power] {
        for (place, call) in calls.iter().enumerate() {
            for seed in 0..20 {
                let sim = SimDisk::new(seed);
                sim.crash_at(place as u64 + 1, crash);
                let error = workload(&sim).unwrap_err();
                assert_eq!(error.to_string(), "the disk handle is dead");
                assert!(sim.is_dead());
                assert_eq!(sim.last_call().as_ref(), Some(call));
                if place >= 8 {
                    let names: Vec<_> = sim.files().into_iter().filter(|name| name != "d/c").collect();
                    assert!(names == ["d/a"] || names == ["d/b"], "seed={seed} call={call} names={names:?}");
                    assert_eq!(sim.read_file(&names[0])[..4_608], [1; 4_608], "seed={seed} call={call}");
                }
                sim.handle().lock().expect("the lock went with its process");
                // The next process dies as well, while it looks at what is there.
                sim.crash_at(1, Crash::Power);
                sim.handle().sync_dir("").unwrap_err();
                sim.crash(Crash::Power);
            }
        }
    }
}

#[test]
fn a_call_that_a_crash_strikes_has_happened_or_not() {
    check_outcomes([false, true], |sim| {
        durable(&sim, "a", b"x");
        sim.crash_at(1, Crash::Kill);
        sim.handle().rename("a", "b").unwrap_err();
        sim.files() == ["b"]
    });
    check_outcomes([0, 1, 2], |sim| {
        let file = durable(&sim, "a", b"");
        sim.crash_at(1, Crash::Kill);
        file.write_at(b"xy", 0).unwrap_err();
        sim.read_file("a").len()
    });
    check_outcomes([false, true], |sim| {
        let file = durable(&sim, "a", b"old");
        file.write_at(b"new", 0).unwrap();
        sim.crash_at(1, Crash::Kill);
        file.sync().unwrap_err();
        sim.read_durable("a").unwrap() == b"new"
    });
}

#[test]
fn dead_handles_do_nothing() {
    let sim = SimDisk::new(4);
    let file = durable(&sim, "a", b"x");
    let disk = sim.handle();
    let lock = disk.lock().unwrap();
    sim.crash(Crash::Kill);
    let next = sim.handle();
    let next_lock = next.lock().expect("the dead process holds no lock");
    let before = (sim.changes(), sim.trace_hash());
    for error in [
        disk.open("a", Mode::Read, false).err(),
        disk.open("b", Mode::Create, false).err(),
        disk.list("").err(),
        disk.create_dir("d").err(),
        disk.rename("a", "b").err(),
        disk.remove("a").err(),
        disk.remove_dir("d").err(),
        disk.sync_dir("").err(),
        disk.lock().err(),
        disk.space().err(),
        file.read_at(&mut [0], 0).err(),
        file.write_at(b"y", 0).err(),
        file.sync().err(),
        file.allocate(0, 1).err(),
        file.set_bytes(0).err(),
        file.bytes().err(),
        file.advise(Advice::DontNeed).err(),
    ] {
        assert_eq!(error.expect("dead").to_string(), "the disk handle is dead");
    }
    drop((file, disk, lock));
    assert_eq!(before, (sim.changes(), sim.trace_hash()));
    assert_eq!(kind(next.lock()), io::ErrorKind::WouldBlock, "a dead lock's drop releases nothing");
    drop(next_lock);
    next.lock().unwrap();
    assert_eq!(sim.read_file("a"), b"x");
}

#[test]
fn the_same_seed_gives_the_same_trace_and_the_same_ruins() {
    let run = |seed| {
        let sim = SimDisk::new(seed);
        sim.crash_at(11, Crash::Power);
        workload(&sim).unwrap_err();
        let ruins: Vec<_> = sim.files().iter().map(|path| sim.read_file(path)).collect();
        (sim.trace_hash(), ruins)
    };
    for seed in 0..SEEDS {
        assert_eq!(run(seed), run(seed), "seed={seed}");
    }
    let different: BTreeSet<_> = (0..SEEDS).map(|seed| run(seed).1).collect();
    assert!(different.len() > 10, "{}", different.len());
    let [one, other] = ["one", "other"].map(|path| {
        let sim = SimDisk::new(0);
        create(&sim.handle(), path);
        sim.trace_hash()
    });
    assert_ne!(one, other, "another path is another trace");
}

#[test]
fn a_snapshot_is_another_disk() {
    let sim = SimDisk::new(5);
    let file = durable(&sim, "a", &[1; 9_000]);
    file.write_at(&[2; 100], 0).unwrap();
    let copy = sim.snapshot();
    assert_eq!((copy.changes(), copy.is_dead()), (0, false));
    sim.crash(Crash::Power);
    copy.flip("a", 50, 1);
    assert_eq!(copy.read_file("a")[50], 3);
    assert_eq!(copy.read_durable("a").unwrap()[50], 0);
    let firsts: BTreeSet<_> = (0..SEEDS)
        .map(|seed| {
            let copy = copy.snapshot();
            copy.reseed(seed);
            copy.crash(Crash::Power);
            copy.read_file("a")[0]
        })
        .collect();
    assert!(firsts.contains(&1) && firsts.contains(&2));
}

#[test]
fn files_can_be_put_and_taken_behind_everyones_back() {
    let sim = SimDisk::new(6);
    sim.write_file("x/y/z", b"abc");
    sim.crash(Crash::Power);
    assert_eq!(sim.files(), ["x/y/z"]);
    assert_eq!(sim.handle().list("x").unwrap()[0].name, "y");
    sim.flip("x/y/z", 1, 0xff);
    assert_eq!(sim.read_durable("x/y/z").unwrap(), [b'a', b'b' ^ 0xff, b'c']);
    sim.write_file("x/y/z", b"new");
    sim.remove_file("x/y/z");
    sim.crash(Crash::Power);
    assert_eq!(sim.files(), Vec::<String>::new());
}

#[test]
fn names_are_refused_as_a_file_system_refuses_them() {
    let sim = SimDisk::new(7);
    let disk = sim.handle();
    durable(&sim, "a", b"");
    disk.create_dir("d").unwrap();
    disk.create_dir("d").unwrap();
    create(&disk, "d/x");
    assert_eq!(kind(disk.open("a", Mode::Create, false)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.open("b", Mode::Write, false)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.open("d", Mode::Read, false)), io::ErrorKind::IsADirectory);
    assert_eq!(kind(disk.open("../a", Mode::Read, false)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(disk.create_dir("a")), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.create_dir("e/f")), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.rename("a", "d/a")), io::ErrorKind::InvalidInput);
    assert_eq!(kind(disk.rename("b", "c")), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.remove_dir("d")), io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(disk.list("e")), io::ErrorKind::NotFound);
    let read_only = disk.open("a", Mode::Read, false).unwrap();
    assert_eq!(kind(read_only.write_at(b"x", 0)), io::ErrorKind::PermissionDenied);
    assert!(disk.real_path("a").is_none());
}

#[test]
#[should_panic(expected = "a direct write is not aligned")]
fn an_odd_direct_write_panics() {
    let sim = SimDisk::new(8);
    let file = sim.handle().open("a", Mode::Create, true).unwrap();
    drop(file.write_at(&[0; 512], 0));
}

#[test]
#[should_panic(expected = "written through it")]
fn a_write_through_the_cache_after_one_past_it_panics() {
    let sim = SimDisk::new(9);
    let direct = sim.handle().open("a", Mode::Create, true).unwrap();
    let mut block = AlignedBuf::with_capacity(4_096);
    block.grow_zeroed(4_096);
    direct.write_at(block.as_slice(), 0).unwrap();
    drop(sim.handle().open("a", Mode::Write, false).unwrap().write_at(&[0; 4_096], 0));
}

#[test]
#[should_panic(expected = "a sealed range is changed")]
fn a_write_into_a_sealed_range_panics() {
    let sim = SimDisk::new(10);
    let file = durable(&sim, "a", &[0; 100]);
    sim.seal_range("a", 10..20);
    file.write_at(&[1; 10], 0).unwrap();
    file.write_at(&[1; 10], 20).unwrap();
    drop(file.write_at(&[1; 2], 9));
}
