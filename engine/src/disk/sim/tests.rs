//! The simulated disk must be able to lose things, or every test on top of it proves nothing; and it must never lose
//! what it has promised, or they all raise false alarms. Both are shown here over many seeds, which the failures name.

use std::{collections::BTreeSet, sync::Arc};

use super::{Crash, Names, SimDisk};
use crate::disk::{Disk, DiskFile, Mode, open_cold, read_full_at, write_all_at};

mod calls;

const SEEDS: u64 = 200;

fn create(disk: &Arc<dyn Disk>, path: &str) -> Arc<dyn DiskFile> {
    disk.open(path, Mode::Create, false).unwrap()
}

/// A file whose content and name are durable.
fn durable(sim: &SimDisk, path: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let disk = sim.handle();
    let file = create(&disk, path);
    write_all_at(file.as_ref(), bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    file
}

fn content(file: &dyn DiskFile) -> Vec<u8> {
    let mut content = vec![0; file.bytes().unwrap() as usize];
    assert_eq!(read_full_at(file, &mut content, 0).unwrap(), content.len());
    content
}

/// Asserts that over all seeds the outcomes of `run` are exactly those expected.
fn check_outcomes<T: Ord + std::fmt::Debug>(expected: impl IntoIterator<Item = T>, run: impl Fn(SimDisk) -> T) {
    let seen: BTreeSet<T> = (0..SEEDS).map(|seed| run(SimDisk::new(seed))).collect();
    assert_eq!(seen, expected.into_iter().collect());
}

#[test]
fn synced_bytes_survive_every_power_cut() {
    for seed in 0..SEEDS {
        let sim = SimDisk::new(seed);
        durable(&sim, "a", &[7; 3_000]);
        sim.crash(Crash::Power);
        assert_eq!(sim.read_file("a"), vec![7; 3_000], "seed={seed}");
        assert_eq!(sim.read_durable("a"), Some(vec![7; 3_000]), "seed={seed}");
    }
}

#[test]
fn unsynced_sectors_are_kept_dropped_or_garbled_each_on_its_own() {
    let (mut kept, mut dropped, mut garbled, mut mixed) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let sim = SimDisk::new(seed);
        let file = durable(&sim, "a", &[1; 4_096]);
        file.write_at(&[2; 2_048], 1_024).unwrap();
        sim.crash(Crash::Power);
        let after = sim.read_file("a");
        assert!(after[..1_024].iter().chain(&after[3_072..]).all(|byte| *byte == 1), "seed={seed}");
        let sectors: Vec<_> = after[1_024..3_072].chunks(512).collect();
        let news = sectors.iter().filter(|sector| **sector == [2; 512]).count();
        let olds = sectors.iter().filter(|sector| **sector == [1; 512]).count();
        kept += usize::from(news == 4);
        dropped += usize::from(olds == 4);
        garbled += usize::from(news + olds < 4);
        mixed += usize::from(news > 0 && olds > 0);
    }
    assert!(kept.min(dropped).min(garbled).min(mixed) >= 5, "{kept} {dropped} {garbled} {mixed}");
}

#[test]
fn a_kill_keeps_what_was_written_as_little_durable_as_it_was() {
    check_outcomes([false, true], |sim| {
        let file = durable(&sim, "a", b"old");
        file.write_at(b"new", 0).unwrap();
        sim.crash(Crash::Kill);
        assert_eq!(sim.read_file("a"), b"new");
        assert_eq!(sim.read_durable("a").unwrap(), b"old");
        let seen = sim.handle().open("a", Mode::Read, false).unwrap();
        assert_eq!(content(seen.as_ref()), b"new");
        sim.crash(Crash::Power);
        sim.read_file("a") == b"new"
    });
}

#[test]
fn a_cold_open_after_a_kill_makes_what_it_shows_durable() {
    for seed in 0..SEEDS {
        let sim = SimDisk::new(seed);
        let file = durable(&sim, "a", b"old");
        file.write_at(b"new!", 0).unwrap();
        sim.crash(Crash::Kill);
        let cold = open_cold(sim.handle().as_ref(), "a", Mode::Read, false).unwrap();
        assert_eq!(content(cold.as_ref()), b"new!");
        sim.crash(Crash::Power);
        assert_eq!(sim.read_file("a"), b"new!", "seed={seed}");
    }
}

#[test]
fn an_unsynced_length_is_kept_or_dropped() {
    check_outcomes([0, 10, 4_000, 9_000], |sim| {
        let file = durable(&sim, "a", b"");
        file.write_at(&[1; 10], 0).unwrap();
        file.allocate(0, 4_000).unwrap();
        file.set_bytes(9_000).unwrap();
        sim.crash(Crash::Power);
        sim.read_file("a").len()
    });
}

#[test]
fn a_cut_comes_back_whole_or_not_at_all() {
    check_outcomes([100, 5_000], |sim| {
        let file = durable(&sim, "a", &[3; 5_000]);
        file.set_bytes(100).unwrap();
        sim.crash(Crash::Power);
        let after = sim.read_file("a");
        assert!(after.iter().all(|byte| *byte == 3), "what is not cut is whole");
        after.len()
    });
}

#[test]
fn a_file_that_was_cut_and_grew_again_has_zeros_there() {
    for seed in 0..SEEDS {
        let sim = SimDisk::new(seed);
        let file = durable(&sim, "a", &[3; 5_000]);
        file.set_bytes(100).unwrap();
        file.set_bytes(5_000).unwrap();
        assert!(content(file.as_ref())[100..].iter().all(|byte| *byte == 0));
        file.sync().unwrap();
        sim.crash(Crash::Power);
        let after = sim.read_file("a");
        assert!(after[..100].iter().all(|byte| *byte == 3) && after[100..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_rename_without_directory_sync_may_be_undone() {
    let files = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    check_outcomes([files(&["a"]), files(&["b"])], |sim| {
        durable(&sim, "a", b"x");
        sim.handle().rename("a", "b").unwrap();
        sim.crash(Crash::Power);
        sim.files()
    });
    check_outcomes([files(&["b"])], |sim| {
        durable(&sim, "a", b"x");
        sim.handle().rename("a", "b").unwrap();
        sim.handle().sync_dir("").unwrap();
        sim.crash(Crash::Power);
        sim.files()
    });
}

#[test]
fn a_synced_file_without_a_durable_name_may_be_gone() {
    check_outcomes([vec![], vec!["d/a".to_owned()]], |sim| {
        let disk = sim.handle();
        disk.create_dir("d").unwrap();
        create(&disk, "d/a").sync().unwrap();
        disk.sync_dir("d").unwrap();
        assert_eq!(sim.read_durable("d/a"), None, "the directory's own name is not durable");
        sim.crash(Crash::Power);
        sim.files()
    });
}

#[test]
fn ordered_names_survive_as_a_prefix_and_any_names_as_any_subset() {
    let run = |names: Names| {
        move |sim: SimDisk| {
            sim.set_names(Some(names));
            for name in ["a", "b", "c"] {
                create(&sim.handle(), name);
            }
            sim.crash(Crash::Power);
            sim.files().concat()
        }
    };
    check_outcomes(["", "a", "ab", "abc"].map(String::from), run(Names::Ordered));
    check_outcomes(["", "a", "b", "c", "ab", "ac", "bc", "abc"].map(String::from), run(Names::Any));
}

#[test]
fn a_file_never_gets_two_names() {
    for seed in 0..SEEDS {
        let sim = SimDisk::new(seed);
        durable(&sim, "a", b"x");
        let disk = sim.handle();
        for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "d")] {
            disk.rename(from, to).unwrap();
        }
        sim.crash(Crash::Power);
        assert_eq!(sim.files().len(), 1, "seed={seed}");
    }
}
