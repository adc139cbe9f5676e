//! Benchmarks. The criterion benches of the rooms stand in `benches/`, programs that compare whole roads in `src/bin/`.

#![forbid(unsafe_code)]
