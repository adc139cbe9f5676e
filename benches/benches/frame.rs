//! Frame encode: one batch put into a group by the journal's writer, in front of a disk that keeps nothing. So it is
//! the one copy on the write road, the header, and the CRC that is combined from the batch's.

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tillroll_benches::{
    nowhere::Nowhere,
    road::{Road, batch_of_group},
};
use tillroll_engine::disk::Disk;

fn frame_encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame_encode");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let nowhere: Arc<dyn Disk> = Arc::new(Nowhere);
    for (name, bytes) in [("4KiB", 4 << 10), ("64KiB", 64 << 10), ("1MiB", 1 << 20)] {
        let batch = batch_of_group(bytes);
        let mut road = Road::new(&nowhere).expect("a disk that keeps nothing refuses nothing");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| black_box(road.write(black_box(&batch))));
        });
    }
    group.finish();
}

criterion_group!(benches, frame_encode);
criterion_main!(benches);
