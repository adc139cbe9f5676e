//! Random changes of every kind of file of a data directory: the log is opened and read, and may refuse or name damage,
//! but neither panic nor go on for ever. Tables get right checksums again one time in two, so that what is behind them
//! is reached too; then what is read cannot be held against what was appended, and in all other cases it is.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use tillroll_engine::{
    disk::sim::{Crash, SimDisk},
    id::{Lane, Offset, Partition},
};
use tillroll_tests::{
    dice::Dice,
    ledger::Outcome,
    world::{Workload, World, settings},
};

use crate::Inputs;

/// Directories that inputs begin with.
const DIRECTORIES: u64 = 6;

fn directory(seed: u64) -> (SimDisk, Workload) {
    let disk = SimDisk::new(seed);
    let mut workload = Workload::new(seed);
    let mut world = World::open(&disk, settings(), seed).expect("it opens");
    workload.prepare(&mut world).expect("it is prepared");
    workload.run(&mut world, 200).expect("nothing is wrong");
    workload.ledger.crash();
    disk.crash(Crash::Kill);
    (disk, workload)
}

fn below(dice: &mut Dice, bound: usize) -> usize {
    usize::try_from(dice.below(bound as u64)).expect("small")
}

/// Changes some places of a file.
fn change(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..dice.between(1, 3) {
        if bytes.is_empty() {
            return;
        }
        // Files are mostly room; what is interesting stands near the beginning of a block.
        let block = below(dice, bytes.len().div_ceil(4_096)) * 4_096;
        let (near, most) = ([16, 200, 4_096][below(dice, 3)], [1, 8, 64, 5_000][below(dice, 4)]);
        let at = (block + below(dice, near)).min(bytes.len() - 1);
        let end = (at + 1 + below(dice, most)).min(bytes.len());
        match dice.below(5) {
            0 => bytes[at..end].fill(0),
            1 => bytes[at..end].fill(0xff),
            2 => bytes[at..end].iter_mut().for_each(|byte| *byte = dice.below(256) as u8),
            3 => {
                let from = below(dice, bytes.len() - (end - at) + 1);
                bytes.copy_within(from..from + (end - at), at);
            }
            _ => bytes.truncate(at),
        }
    }
}

/// Gives tables the checksums of what they hold: see `docs/format.md`.
fn with_checksums(bytes: &mut [u8]) {
    const HEADER: usize = 128;
    if bytes.len() < HEADER {
        return;
    }
    let length = u64::from_le_bytes(bytes[24..32].try_into().expect("eight bytes"));
    let end = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(HEADER).min(bytes.len());
    rows_with_checksums(&mut bytes[HEADER..end]);
    let body = crc32fast::hash(&bytes[HEADER..end]);
    bytes[12..16].copy_from_slice(&body.to_le_bytes());
    bytes[8..12].fill(0);
    let header = crc32fast::hash(&bytes[..HEADER]);
    bytes[8..12].copy_from_slice(&header.to_le_bytes());
}

/// Gives rows the checksums of what they hold, as far as their lengths lead from one to the next.
fn rows_with_checksums(mut rows: &mut [u8]) {
    const HEADER: usize = 12;
    while let Some((header, rest)) = rows.split_first_chunk_mut::<HEADER>() {
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let Some((row, behind)) = rest.split_at_mut_checked(length as usize) else { return };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header[..1]);
        hasher.update(row);
        header[8..12].copy_from_slice(&hasher.finalize().to_le_bytes());
        rows = behind;
    }
}

/// Reads everything that is there; none of it may be another record than was appended, where that can be told.
fn read(world: &World, workload: &Workload, is_forged: bool) {
    for (topic, partitions) in workload.ledger.topics.values() {
        for partition in (0..*partitions).map(Partition) {
            let lane = Lane { topic: *topic, partition };
            let mut next = Offset(0);
            for _ in 0..10_000 {
                let Ok(answer) = world.engine.read(lane, next, 64 << 10) else { break };
                let Some(last) = answer.chunks.last() else { break };
                assert!(last.end > next, "{lane}: a read that does not go on");
                if !is_forged {
                    answer.chunks.iter().for_each(|chunk| check(workload, lane, chunk));
                }
                next = last.end;
            }
        }
    }
}

fn check(workload: &Workload, lane: Lane, chunk: &tillroll_engine::request::Chunk) {
    let plain = chunk.batch.decode().expect("it was checked when it was read");
    let records = tillroll_engine::record::RecordSet::new(&plain);
    for (offset, record) in (chunk.base.0..).zip(records.iter()) {
        let value = record.expect("whole").1.value.to_vec();
        for entry in &workload.ledger.entries {
            let Outcome::Acked(appended) = &entry.outcome else { continue };
            for (part, batch) in entry.parts.iter().zip(&appended.batches).filter(|(_, batch)| batch.lane == lane) {
                let place = usize::try_from(offset.wrapping_sub(batch.base.0)).unwrap_or(usize::MAX);
                if let Some(expected) = part.values.get(place) {
                    assert_eq!(*expected, value, "{lane} at {offset}: another record");
                }
            }
        }
    }
}

/// Changes one file of a directory as the seed says and opens it: whether it opened.
fn works(directories: &[(SimDisk, Workload)], seed: u64) -> bool {
    let mut dice = Dice::new(seed);
    let (base, workload) = &directories[below(&mut dice, directories.len())];
    let disk = base.snapshot();
    let files = disk.files();
    let path = &files[below(&mut dice, files.len())];
    let mut bytes = disk.read_file(path);
    change(&mut dice, &mut bytes);
    let is_forged = path.starts_with("tables-") && dice.one_in(2);
    if is_forged {
        with_checksums(&mut bytes);
    }
    disk.write_file(path, &bytes);
    let worked = catch_unwind(AssertUnwindSafe(|| {
        let Ok(mut world) = World::open(&disk, settings(), seed) else { return false };
        read(&world, workload, is_forged);
        world.driver.settle(100_000);
        true
    }));
    worked.unwrap_or_else(|_| panic!("{path} seed={seed}"))
}

/// The seeds of the corpus, by name.
fn corpus() -> Vec<(String, u64)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/files");
    let entries = std::fs::read_dir(folder).expect("the corpus is there");
    let seed = |path: &Path| std::fs::read_to_string(path).expect("a file").trim().parse().expect("a seed");
    let named = |path: &Path| (path.file_name().expect("a name").to_string_lossy().into_owned(), seed(path));
    entries.map(|entry| named(&entry.expect("it can be listed").path())).collect()
}

#[test]
fn whatever_a_file_holds_a_start_refuses_it_or_works() {
    crate::keep_panics();
    let directories: Vec<(SimDisk, Workload)> = (1..=DIRECTORIES).map(directory).collect();
    let (mut refused, mut opened) = (0_u64, 0_u64);
    for (name, seed) in corpus() {
        println!("corpus {name} seed={seed}");
        works(&directories, seed);
    }
    for seed in Inputs::of_environment() {
        let is_open = works(&directories, seed);
        opened += u64::from(is_open);
        refused += u64::from(!is_open);
    }
    println!("{opened} directories opened, {refused} were refused");
    assert!(opened > 0 && refused > 0);
}
