//! Journal append and sync on a real directory, below the build's: a file system that a broker could stand on, and not
//! one of memory.
//!
//! `stages` is the engine's writer and sync over recycled files: a group, the zeros behind it, one sync, the watermark.
//! `raw` is the same bytes written past the page cache into a pre-zeroed file, and one sync: what the disk takes.

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tillroll_benches::{
    payload,
    road::{Road, batch_of_group, fill},
};
use tillroll_engine::disk::{Disk, aligned::AlignedBuf, real::RealDisk, write_all_at};

/// Bytes of the file that `raw` goes round in.
const RAW_FILE_BYTES: u64 = 64 << 20;

fn append_and_sync(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build's directory is ours");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).expect("the directory was just made"));
    let mut road = Road::new(&disk).expect("there is room for a journal");
    let raw = fill(&*disk, "raw", RAW_FILE_BYTES).expect("there is room for a file");
    eprintln!("past the page cache: {}", raw.is_direct());

    let mut group = criterion.benchmark_group("journal_append_sync");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    for (name, bytes) in [("4KiB", 4 << 10), ("64KiB", 64 << 10), ("1MiB", 1 << 20)] {
        group.throughput(Throughput::Bytes(bytes as u64));
        let batch = batch_of_group(bytes);
        group.bench_function(BenchmarkId::new("stages", name), |bencher| {
            bencher.iter(|| black_box(road.append(black_box(&batch))));
        });
        let mut buffer = AlignedBuf::with_capacity(bytes);
        buffer.push(&payload::filler(0, bytes));
        let mut at = 0;
        group.bench_function(BenchmarkId::new("raw", name), |bencher| {
            bencher.iter(|| {
                write_all_at(&*raw, buffer.as_slice(), at).expect("the disk takes it");
                raw.sync().expect("the disk takes it");
                at = (at + bytes as u64) % RAW_FILE_BYTES;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append_and_sync);
criterion_main!(benches);
