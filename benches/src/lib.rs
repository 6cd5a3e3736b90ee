//! Benchmarks of larder
