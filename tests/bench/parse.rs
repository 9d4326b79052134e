//! Parsing of map files, master maps, entries, packets and the mount table.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use autofs::map::{Expanded, master, sun};
use autofs::source::{Index, Mode};
use autofs::sys::{mountinfo, packet};
use autofs::text::{Position, lines};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

fn file() -> Arc<Path> {
    Path::new("/etc/auto.home").into()
}

/// A map of home directories.
fn map(entries: usize) -> Vec<u8> {
    let mut text = String::new();
    for n in 0..entries {
        let _ = writeln!(text, "user{n:07}\t-rw,soft,intr\tfiler{}.example.com:/export/home/&", n % 40);
    }
    text.into_bytes()
}

#[divan::bench(args = [1_000, 100_000])]
fn map_lines(bencher: Bencher<'_, '_>, entries: usize) {
    let (text, file) = (map(entries), file());
    bencher
        .counter(BytesCount::of_slice(&text))
        .counter(ItemsCount::new(entries))
        .bench(|| lines::lines(black_box(&text), &file).filter(Result::is_ok).count());
}

#[divan::bench(args = [1_000, 100_000])]
fn map_index(bencher: Bencher<'_, '_>, entries: usize) {
    let (text, file) = (map(entries), file());
    bencher
        .counter(BytesCount::of_slice(&text))
        .counter(ItemsCount::new(entries))
        .with_inputs(|| text.clone())
        .bench_values(|text| Index::build(&file, text, Mode::Indirect));
}

#[divan::bench]
fn master_map(bencher: Bencher<'_, '_>) {
    const LINES: usize = 200;
    let mut text = String::from("# the site's mount points\n+dir:/etc/auto.master.d\n");
    for n in 0..LINES {
        let _ = writeln!(text, "/site/vol{n:03}\tauto.vol{n:03}\t--timeout=600 --ghost -rw,soft,nosuid");
    }
    let file = file();
    bencher.counter(ItemsCount::new(LINES)).bench(|| master::read(black_box(text.as_bytes()), &file));
}

/// From simple to not so simple.
const ENTRIES: &[(&str, &str)] = &[
    ("one location", "-fstype=nfs4,rw,soft filer.example.com:/export/home/anna"),
    ("replicas", "-ro,soft alpha(2),beta(1),gamma:/export/tools delta:/export/tools"),
    ("multi-mount", "-rw,soft / srv1:/root /src srv2:/export/src /src/old -ro srv3:/old /bin srv4:/export/bin"),
];

#[divan::bench(args = ENTRIES.iter().map(|(name, _)| name))]
fn entry(bencher: Bencher<'_, '_>, name: &str) {
    let text = ENTRIES.iter().find(|(other, _)| *other == name).map(|(_, text)| text.as_bytes());
    let (text, place) = (text.unwrap_or_default(), Position::whole(&file()));
    bencher.bench(|| sun::parse(&Expanded::from(black_box(text)), &place, &mut Vec::new()));
}

#[divan::bench]
fn kernel_packet(bencher: Bencher<'_, '_>) {
    let mut bytes = [0; packet::SIZE];
    let name = b"anna.example";
    // Version, type (missing, indirect), token, device, inode in two words, uid, gid, pid, tgid, length of the name.
    for (word, value) in [5, 3, 77, 56, 1, 0, 1000, 100, 4242, 4241, name.len() as u32].into_iter().enumerate() {
        bytes[word * 4..][..4].copy_from_slice(&u32::to_ne_bytes(value));
    }
    bytes[44..][..name.len()].copy_from_slice(name);
    assert!(packet::Packet::decode(&bytes).is_ok());
    bencher.bench(|| packet::Packet::decode(black_box(&bytes)).is_ok());
}

#[divan::bench(args = [100, 10_000])]
fn mount_table(bencher: Bencher<'_, '_>, mounts: usize) {
    let mut text = String::new();
    for n in 0..mounts {
        let _ = writeln!(
            text,
            "{} 29 0:{n} / /data/vol{n:05} rw,relatime shared:{n} - autofs auto.direct \
             rw,fd=7,pgrp=4711,timeout=600,minproto=5,maxproto=5,direct,pipe_ino=123456",
            n + 100
        );
    }
    bencher
        .counter(BytesCount::of_str(&text))
        .counter(ItemsCount::new(mounts))
        .bench(|| mountinfo::parse(black_box(text.as_bytes())).filter(|mount| mount.autofs().is_some()).count());
}
