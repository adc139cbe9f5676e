//! Plants a bug for the tests of the tests: `TILLROLL_PLANTED_BUG=name` compiles this crate with `--cfg bug="name"`.
//! Only together with the feature `sim`, so that no broker can be built with one.

fn main() {
    println!("cargo::rerun-if-env-changed=TILLROLL_PLANTED_BUG");
    println!("cargo::rustc-check-cfg=cfg(bug, values(any()))");
    if let Ok(bug) = std::env::var("TILLROLL_PLANTED_BUG")
        && !bug.is_empty()
    {
        assert!(std::env::var_os("CARGO_FEATURE_SIM").is_some(), "a planted bug is for simulations only");
        println!("cargo::warning=compiled with the planted bug {bug}");
        println!("cargo::rustc-cfg=bug=\"{bug}\"");
    }
}
