//! Compares the committed bindings with those that bindgen generates from the headers of this system.
//! `AUTOFS_SYS_BLESS=1` replaces the committed ones: `AUTOFS_SYS_BLESS=1 cargo test -p autofs-sys --features buildtime_bindgen`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

#[cfg(feature = "buildtime_bindgen")]
#[test]
fn committed_bindings_are_what_bindgen_gives() {
    let bless = std::env::var_os("AUTOFS_SYS_BLESS").is_some();
    for abi in ["lp64.rs", "ilp32.rs", "ilp32_x86.rs"] {
        let fresh = std::fs::read_to_string(format!("{}/{abi}", env!("OUT_DIR"))).unwrap();
        let path = format!("{}/src/bindings/{abi}", env!("CARGO_MANIFEST_DIR"));
        if bless {
            std::fs::write(&path, &fresh).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        for (number, (a, b)) in committed.lines().zip(fresh.lines()).enumerate() {
            assert_eq!(a, b, "{abi}:{}: committed (left) and made now (right)", number + 1);
        }
        assert_eq!(committed.len(), fresh.len(), "{abi}: one has more lines than the other");
    }
}

#[cfg(not(feature = "buildtime_bindgen"))]
#[test]
#[ignore = "needs libclang: cargo test -p autofs-sys --features buildtime_bindgen"]
fn committed_bindings_are_what_bindgen_gives() {}
