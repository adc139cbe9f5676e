//! What the engine relies on, asked of the machine it runs on.

use super::*;
use crate::disk::{read_full_at, write_all_at};

fn disk() -> (tempfile::TempDir, RealDisk) {
    let dir = tempfile::tempdir().expect("the machine has a temporary directory");
    let disk = RealDisk::open(&dir.path().join("a/b")).expect("a new directory opens");
    (dir, disk)
}

fn kind<T>(outcome: io::Result<T>) -> io::ErrorKind {
    outcome.err().expect("refused").kind()
}

#[test]
fn what_is_written_is_read_back() {
    let (_dir, disk) = disk();
    let file = disk.open("x", Mode::Create, false).unwrap();
    write_all_at(file.as_ref(), b"hello", 3).unwrap();
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(file.bytes().unwrap(), 8);
    assert_eq!(kind(disk.open("x", Mode::Create, false)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.open("y", Mode::Write, false)), io::ErrorKind::NotFound);
    let mut buffer = [9; 16];
    let again = disk.open("x", Mode::Read, false).unwrap();
    assert_eq!(read_full_at(again.as_ref(), &mut buffer, 0).unwrap(), 8);
    assert_eq!(&buffer[..8], b"\0\0\0hello");
    again.advise(Advice::Random).unwrap();
    file.set_bytes(2).unwrap();
    assert_eq!(again.bytes().unwrap(), 2);
    assert!(disk.real_path("x").unwrap().exists());
}

#[test]
fn direct_writes_are_seen_by_aligned_and_by_odd_reads() {
    let (_dir, disk) = disk();
    let file = disk.open("j", Mode::Create, true).unwrap();
    println!("direct: {}", file.is_direct());
    file.allocate(0, 16_384).unwrap();
    let mut block = AlignedBuf::with_capacity(8_192);
    for round in 1..4_u8 {
        block.clear();
        block.push(&[round; 8_192]);
        write_all_at(file.as_ref(), block.as_slice(), 4_096).unwrap();
        file.sync().unwrap();
        let mut odd = [0; 100];
        assert_eq!(file.read_at(&mut odd, 4_090).unwrap(), 100);
        assert_eq!((odd[5], odd[6], odd[99]), (0, round, round));
        let mut whole = AlignedBuf::with_capacity(4_096);
        whole.fill_to(4_096);
        assert_eq!(read_full_at(file.as_ref(), whole.as_mut_slice(), 8_192).unwrap(), 4_096);
        assert!(whole.as_slice().iter().all(|byte| *byte == round));
    }
    assert_eq!(file.bytes().unwrap(), 16_384);
}

#[test]
fn allocated_bytes_read_as_zero() {
    let (_dir, disk) = disk();
    let file = disk.open("x", Mode::Create, false).unwrap();
    write_all_at(file.as_ref(), b"abc", 0).unwrap();
    file.allocate(0, 10_000).unwrap();
    file.allocate(0, 0).unwrap();
    let mut buffer = vec![7; 10_000];
    assert_eq!(read_full_at(file.as_ref(), &mut buffer, 0).unwrap(), 10_000);
    assert_eq!(&buffer[..4], b"abc\0");
    assert!(buffer[3..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_refused_allocation_leaves_the_length() {
    let (_dir, disk) = disk();
    let file = disk.open("x", Mode::Create, false).unwrap();
    // Larger than any file may be, not than the disk: asking for the disk would starve everyone else on it.
    file.allocate(0, 1 << 62).expect_err("no file is that long");
    assert_eq!(file.bytes().unwrap(), 0);
}

#[test]
fn a_second_lock_is_refused_until_the_first_goes() {
    let (_dir, disk) = disk();
    let first = disk.lock().unwrap();
    let other = RealDisk::open(&disk.root).unwrap();
    assert_eq!(kind(other.lock()), io::ErrorKind::WouldBlock);
    assert_eq!(disk.list("").unwrap(), vec![], "locking leaves nothing behind that could be removed");
    drop(first);
    other.lock().unwrap();
}

#[test]
fn listings_are_sorted() {
    let (_dir, disk) = disk();
    disk.create_dir("m").unwrap();
    disk.create_dir("m").unwrap();
    for name in ["z", "a", "m/q", "k"] {
        disk.open(name, Mode::Create, false).unwrap();
    }
    let names: Vec<_> = disk.list("").unwrap().into_iter().map(|entry| (entry.name, entry.is_dir)).collect();
    let expected = [("a", false), ("k", false), ("m", true), ("z", false)];
    assert_eq!(names, expected.map(|(name, is_dir)| (name.to_owned(), is_dir)));
    assert_eq!(kind(disk.list("none")), io::ErrorKind::NotFound);
}

#[test]
fn names_move_and_go() {
    let (_dir, disk) = disk();
    disk.create_dir("d").unwrap();
    disk.open("d/a", Mode::Create, false).unwrap();
    disk.rename("d/a", "d/b").unwrap();
    assert_eq!(kind(disk.rename("d/b", "b")), io::ErrorKind::InvalidInput);
    assert_eq!(kind(disk.remove_dir("d")), io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(disk.create_dir("d/b")), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.open("d", Mode::Read, false)), io::ErrorKind::IsADirectory);
    disk.remove("d/b").unwrap();
    disk.sync_dir("d").unwrap();
    disk.remove_dir("d").unwrap();
    assert_eq!(kind(disk.sync_dir("d")), io::ErrorKind::NotFound);
}

#[test]
fn no_path_leaves_the_directory() {
    let (_dir, disk) = disk();
    for path in ["/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", "../b/x"] {
        assert_eq!(kind(disk.open(path, Mode::Read, false)), io::ErrorKind::InvalidInput, "path={path}");
        assert_eq!(kind(disk.list(path)), io::ErrorKind::InvalidInput, "path={path}");
        assert!(disk.real_path(path).is_none(), "path={path}");
    }
    assert_eq!(kind(disk.remove("")), io::ErrorKind::InvalidInput);
}

#[test]
fn space_is_counted_in_bytes() {
    let (_dir, disk) = disk();
    let space = disk.space().unwrap();
    assert!(space.total > 1 << 20 && space.free <= space.total, "space={space:?}");
}
