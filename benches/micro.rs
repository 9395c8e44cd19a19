//! The inner loops: hashing, compressing, parsing. Run with `cargo bench`.
//!
//! What users wait for is measured by `benches/compare`; these say where the time goes.

use std::hint::black_box;
use std::io;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gondola::layer::{self, Encoding, Entry, Tree, WriteOptions};
use gondola::oci::{Digest, ImageConfig, Reference, canonical_json};

/// The size of the file in a benched layer.
const FILE_BYTES: usize = 8 << 20;

/// A tree with one file that compresses about as well as machine code does.
fn tree() -> Tree {
    // This program is machine code, as often as needed.
    let program = std::env::current_exe().expect("a running program has a path");
    let code = fs_err::read(program).expect("a running program can be read");
    let bytes: Vec<u8> = code.into_iter().cycle().take(FILE_BYTES).collect();
    let mut tree = Tree::new();
    let path = "usr/local/bin/app".parse().expect("a valid path");
    let entry = Entry::file(bytes::Bytes::from(bytes), 0o755);
    tree.insert(path, entry).expect("an empty tree takes any entry");
    tree
}

fn layers(criterion: &mut Criterion) {
    let tree = tree();
    let mut group = criterion.benchmark_group("layer");
    group.throughput(Throughput::Bytes(FILE_BYTES as u64)).sample_size(20);
    for text in ["none", "gzip:1", "gzip:6", "zstd:3"] {
        let encoding: Encoding = text.parse().expect("a known encoding");
        for threads in [1, 2] {
            let options = WriteOptions { encoding, threads };
            group.bench_function(BenchmarkId::new(text, threads), |bencher| {
                bencher
                    .iter(|| layer::write(&tree, &options, &|_| {}, io::sink()).expect("written"));
            });
        }
    }
    group.bench_function("content_key", |bencher| {
        bencher.iter_batched_ref(
            || tree.clone(),
            |tree| layer::content_key(black_box(tree), &Encoding::default()).expect("a key"),
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn documents(criterion: &mut Criterion) {
    let bytes = vec![7; 1 << 20];
    let mut group = criterion.benchmark_group("oci");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("digest", |bencher| bencher.iter(|| Digest::of(black_box(&bytes))));
    group.finish();

    let config = ImageConfig::empty("linux/amd64".parse().expect("a platform"));
    criterion.bench_function("canonical config", |bencher| {
        bencher.iter(|| canonical_json(black_box(&config)));
    });
    criterion.bench_function("reference", |bencher| {
        let name = "registry.example.com:5000/team/project/app:v1.2.3";
        bencher.iter(|| black_box(name).parse::<Reference>().expect("a name"));
    });
}

criterion_group!(benches, layers, documents);
criterion_main!(benches);
