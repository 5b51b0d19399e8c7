//! The PTX that is committed is that of the kernels, and rounds as the CPU does. That it is what
//! the compiler makes of them is for `scripts/ptx.sh --check`, which .ci/run calls.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::compile::{files_in, kernels_in, sources};

#[test]
fn the_ptx_is_that_of_the_kernels() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/device/kernels");
    let headers: Vec<u8> =
        files_in(&dir, "cuh").iter().flat_map(|header| fs::read(header).unwrap()).collect();
    for (path, source) in sources() {
        let ptx = dir.join("ptx").join(path.with_extension("ptx").file_name().unwrap());
        let ptx = fs::read_to_string(ptx).unwrap();
        let sum = Sha256::new().chain_update(&headers).chain_update(&source).finalize();
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(
            ptx.lines().next().unwrap().ends_with(&sum),
            "{} has changed since its PTX was made: run scripts/ptx.sh",
            path.display()
        );
        for kernel in kernels_in(&source) {
            assert!(ptx.contains(&format!(".visible .entry {kernel}(")), "{kernel}");
        }
        // Fused where the source says so, as the CPU fuses the products of a model.
        let ptx = if source.contains("fmaf(") { ptx.replace("fma.rn.f32", "") } else { ptx };
        for inexact in ["fma.", ".approx", ".ftz"] {
            assert!(!ptx.contains(inexact), "{} has {inexact}", path.display());
        }
        assert!(ptx.contains(".target sm_80"));
    }
}
