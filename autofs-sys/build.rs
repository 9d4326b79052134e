//! With the feature `buildtime_bindgen`, generates the bindings of all three ABIs into `OUT_DIR`. Without it, does nothing.
//!
//! The kernel headers are those of the system (`AUTOFS_SYS_HEADERS`, default `/usr/include`). Headers of the C library and
//! of the architecture are replaced by stubs in `include/`, so the result does not depend on the host or its cross
//! compilers.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "buildtime_bindgen")]
    generate::all();
}

#[cfg(feature = "buildtime_bindgen")]
mod generate {
    use std::env;
    use std::path::Path;

    use bindgen::callbacks::{ItemInfo, ParseCallbacks};
    use bindgen::{Builder, Formatter, RustEdition, RustTarget};

    /// The file name in `OUT_DIR` and `src/bindings`, and a target with this ABI.
    const ABIS: [(&str, &str); 3] = [
        ("lp64.rs", "x86_64-unknown-linux-gnu"),
        ("ilp32.rs", "armv7-unknown-linux-gnueabihf"),
        ("ilp32_x86.rs", "i686-unknown-linux-gnu"),
    ];

    pub(super) fn all() {
        println!("cargo:rerun-if-changed=wrapper.h");
        println!("cargo:rerun-if-changed=include");
        println!("cargo:rerun-if-env-changed=AUTOFS_SYS_HEADERS");
        let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
        let headers = env::var("AUTOFS_SYS_HEADERS").unwrap_or_else(|_| "/usr/include".to_owned());
        for (file, target) in ABIS {
            let bindings = builder(target, &headers).generate().expect("the kernel's autofs headers can be read");
            bindings.write_to_file(Path::new(&out).join(file)).expect("OUT_DIR can be written");
        }
    }

    fn builder(target: &str, headers: &str) -> Builder {
        bindgen::builder()
            .header("wrapper.h")
            .clang_args(["-nostdinc", "-Iinclude", &format!("-I{headers}"), &format!("--target={target}")])
            .allowlist_file(".*/linux/auto_(fs|dev-ioctl)\\.h")
            .allowlist_var("BG_.*")
            // It differs between kernels; the running kernel is asked (AUTOFS_DEV_IOCTL_PROTOSUBVER).
            .blocklist_var("AUTOFS_PROTO_SUBVERSION")
            .parse_callbacks(Box::new(Names))
            .use_core()
            .rust_edition(RustEdition::Edition2024)
            .rust_target(RustTarget::stable(85, 0).expect("bindgen knows Rust 1.85"))
            .formatter(Formatter::Prettyplease)
            .generate_comments(false)
            .prepend_enum_name(false)
            .derive_default(true)
            .disable_header_comment()
            .raw_line("// Made by bindgen: see build.rs.")
    }

    #[derive(Debug)]
    struct Names;

    impl ParseCallbacks for Names {
        fn item_name(&self, item: ItemInfo<'_>) -> Option<String> {
            item.name.strip_prefix("BG_").map(str::to_owned)
        }
    }
}
