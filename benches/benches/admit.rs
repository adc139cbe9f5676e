//! Admission: a batch of 1 KiB records that is believed in nothing: CRC, decoding, every record, both counts.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tillroll_benches::payload;
use tillroll_engine::{codec::Codec, record::RecordLimits};

fn admit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("admit");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let limits = RecordLimits::default();
    for (codec_name, codec) in [("none", Codec::None), ("lz4", Codec::Lz4), ("zstd", Codec::Zstd)] {
        for (size, records) in [("1record", 1), ("1000records", 1_000)] {
            let batch = payload::orders(0, records, codec);
            group.throughput(Throughput::Bytes(batch.decoded_bytes.into()));
            group.bench_function(BenchmarkId::new(codec_name, size), |bencher| {
                bencher.iter(|| black_box(&batch).clone().check(&limits).expect("a good batch"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, admit);
criterion_main!(benches);
