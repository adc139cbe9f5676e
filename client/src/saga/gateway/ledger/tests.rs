use std::fs;

use tempfile::TempDir;

use super::{
    super::charge::{Operation, Verdict},
    *,
};

fn entry(number: u64) -> Entry {
    Entry {
        number,
        key: (!number.is_multiple_of(3)).then(|| format!("authorize:{number}")),
        operation: Operation::Authorize,
        order: number.to_string(),
        amount: number * 100,
        outcome: Verdict::Accepted,
        time_us: 1,
    }
}

/// A ledger of so many entries that was closed in order.
fn written(entries: u64) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let (ledger, before, opened) = Ledger::open(&path).unwrap();
    assert_eq!((before, opened), (Vec::new(), Opened::default()));
    for number in 1..=entries {
        ledger.append(&entry(number)).unwrap();
    }
    ledger.close();
    (directory, path)
}

#[tokio::test]
async fn what_was_told_is_there_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let mut told = 0;
    for round in 1..=5 {
        let (ledger, entries, opened) = Ledger::open(&path).unwrap();
        assert!(entries.len() as u64 >= told, "{} of {told}", entries.len());
        assert_eq!(entries, (1..=opened.entries).map(entry).collect::<Vec<_>>());
        told = opened.entries + round * 10;
        for number in opened.entries + 1..=told {
            ledger.append(&entry(number)).unwrap();
        }
        ledger.synced(told).await.unwrap();
        assert!(ledger.syncs() >= 1);
        assert_eq!(ledger.extent().1, fs::metadata(&path).unwrap().len());
        // Never synced, so it may be there or not.
        ledger.append(&entry(told + 1)).unwrap();
        drop(ledger);
    }
}

#[tokio::test]
async fn whoever_waits_for_a_sync_that_never_comes_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (ledger, ..) = Ledger::open(&directory.path().join("ledger")).unwrap();
    let (told, ()) = tokio::join!(ledger.synced(1), async { ledger.close() });
    assert!(matches!(told, Err(LedgerError::Closed { .. })), "{told:?}");
    assert!(matches!(ledger.append(&entry(1)), Err(LedgerError::Closed { .. })));
}

#[tokio::test]
async fn a_write_that_fails_ends_all_charging() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    fs::write(&path, HEADING).unwrap();
    // A file that can be read alone stands for a disk that takes nothing.
    let ledger = Ledger::start(&path, File::open(&path).unwrap(), 0, HEADING.len() as u64).unwrap();
    ledger.append(&entry(1)).unwrap();
    let error = ledger.synced(1).await.unwrap_err();
    assert!(matches!(error, LedgerError::Poisoned { .. }), "{error}");
    assert!(matches!(ledger.append(&entry(2)), Err(LedgerError::Poisoned { .. })));
    assert_eq!(read(&path).unwrap().entries, []);
}

#[tokio::test]
async fn a_torn_last_line_is_dropped_and_said() {
    let (_directory, path) = written(3);
    let whole = fs::read(&path).unwrap();
    let starts: Vec<usize> =
        whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let kept = starts.iter().filter(|start| **start <= end).count();
        let torn = end - starts[..kept].last().copied().unwrap_or(0);
        let entries = kept.saturating_sub(1) as u64;
        let found = read(&path).unwrap();
        assert_eq!((found.entries.len() as u64, found.torn_bytes), (entries, torn as u64), "cut at {end}");
        let (ledger, before, opened) = Ledger::open(&path).unwrap();
        assert_eq!(before, found.entries);
        assert_eq!(opened, Opened { entries, torn_bytes: torn as u64 });
        ledger.append(&entry(entries + 1)).unwrap();
        ledger.close();
        assert_eq!(read(&path).unwrap().entries, (1..=entries + 1).map(entry).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_file_with_any_byte_changed_is_refused_or_loses_its_last_line() {
    let (_directory, path) = written(3);
    let whole = fs::read(&path).unwrap();
    let expected: Vec<Entry> = (1..=3).map(entry).collect();
    for place in 0..whole.len() {
        for mask in [0x01, 0x20, 0x80, 0xFF] {
            let mut changed = whole.clone();
            changed[place] ^= mask;
            fs::write(&path, &changed).unwrap();
            match read(&path) {
                Err(LedgerError::Foreign { .. }) => assert!(place < HEADING.len(), "place={place}"),
                Err(LedgerError::Damaged { position, line, .. }) => {
                    assert!(position as usize <= place, "place={place} position={position}");
                    assert_eq!(line as usize, whole[..position as usize].split(|byte| *byte == b'\n').count());
                }
                Ok(found) => {
                    // The newline alone: the last line cannot be told from a torn one.
                    assert_eq!(place, whole.len() - 1);
                    assert_eq!(found.entries, expected[..2]);
                    assert!(found.torn_bytes > 0);
                }
                Err(error) => panic!("{error}"),
            }
            let opened = Ledger::open(&path);
            if place < whole.len() - 1 {
                assert!(opened.is_err());
                assert_eq!(fs::read(&path).unwrap(), changed, "a damaged file is left alone");
            }
        }
    }
}

#[tokio::test]
async fn a_missing_or_doubled_line_is_damage() {
    let (_directory, path) = written(4);
    let whole = fs::read(&path).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let check = |order: &[usize], expected, found| {
        fs::write(&path, order.iter().flat_map(|line| lines[*line]).copied().collect::<Vec<u8>>()).unwrap();
        match read(&path) {
            Err(LedgerError::Damaged { fault, .. }) => assert_eq!(fault, LineFault::Number { expected, found }),
            other => panic!("{other:?}"),
        }
    };
    check(&[0, 1, 3, 4], 2, 3);
    check(&[0, 1, 2, 2, 3], 3, 2);
    check(&[0, 2], 1, 2);
}

#[tokio::test]
async fn a_file_that_is_no_ledger_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.csv");
    for text in ["InvoiceNo,StockCode", "tillroll gateway ledger 2\n", "\n"] {
        fs::write(&path, text).unwrap();
        let error = Ledger::open(&path).unwrap_err();
        assert!(matches!(error, LedgerError::Foreign { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, [HEADING, &[b'a'; 5_000]].concat()).unwrap();
    let error = Ledger::open(&path).unwrap_err();
    assert!(matches!(error, LedgerError::Damaged { fault: LineFault::Endless, position: 26, line: 2, .. }), "{error}");
}

#[tokio::test]
async fn a_ledger_has_one_writer() {
    let (_directory, path) = written(1);
    let (ledger, ..) = Ledger::open(&path).unwrap();
    assert!(matches!(Ledger::open(&path), Err(LedgerError::Locked { .. })));
    assert_eq!(read(&path).unwrap().entries.len(), 1, "but anybody may read");
    drop(ledger);
    Ledger::open(&path).unwrap();
}
