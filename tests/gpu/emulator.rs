//! The emulator finds what it is there to find.

use std::path::PathBuf;

use tokenized_sae::backend::gpu::{Argument, Driver, Shape};

use crate::compile::kernels_in;
use crate::emulated::{Emulated, Emulator};

const SUM: &str = r#"
extern "C" __global__ void sum(const unsigned* x, unsigned* out) {
    __shared__ unsigned shared[128];
    shared[threadIdx.x] = x[blockIdx.x * 128 + threadIdx.x];
    __syncthreads();
    for (unsigned half = 64; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) out[blockIdx.x] = shared[0];
}
"#;

/// Runs a kernel of this name over three blocks with several orders of threads; what each gives, or
/// what the emulator said.
fn outcomes(source: &str) -> Option<Vec<Result<[u32; 3], String>>> {
    static NAMES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let name = format!("test{}", NAMES.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let emulator = Emulator::load(&name, &[(PathBuf::from("sum.cu"), source.to_owned())])?;
    let x: Vec<u32> = (0..384).collect();
    let outcome = |seed| {
        let mut out = [0u32; 3];
        let arguments =
            [Argument::Address(x.as_ptr() as u64), Argument::Address(out.as_mut_ptr() as u64)];
        let shape = Shape { grid: [3, 1], block: 128, shared: 0 };
        emulator.launch("sum", shape, &arguments, seed).map(|()| out)
    };
    Some((0..8).map(outcome).collect())
}

fn right() -> [u32; 3] {
    [0, 1, 2].map(|block| (block * 128..(block + 1) * 128).sum())
}

#[test]
fn a_kernel_without_a_fault_is_right_in_every_order() {
    let Some(outcomes) = outcomes(SUM) else { return };
    assert!(outcomes.iter().all(|outcome| *outcome == Ok(right())), "{outcomes:?}");
}

#[test]
fn a_missing_barrier_is_found() {
    for nth in 0..2 {
        let at = SUM.match_indices("__syncthreads();").nth(nth).unwrap().0;
        let without = format!("{}{}", &SUM[..at], &SUM[at + "__syncthreads();".len()..]);
        let Some(outcomes) = outcomes(&without) else { return };
        assert!(
            outcomes.iter().any(|outcome| *outcome != Ok(right())),
            "barrier {nth}: {outcomes:?}"
        );
    }
}

#[test]
fn a_barrier_that_some_threads_never_reach_is_reported() {
    let half = SUM.replacen("__syncthreads();", "if (threadIdx.x < 64) __syncthreads();", 1);
    let Some(outcomes) = outcomes(&half) else { return };
    assert!(
        outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|why| why.contains("barrier"))),
        "{outcomes:?}"
    );
}

#[test]
fn threads_of_a_warp_that_meet_at_different_places_are_reported() {
    let split = SUM.replacen(
        "__syncthreads();",
        "if (threadIdx.x % 2) __shfl_sync(~0u, 1u, 0);\n else __syncwarp();",
        1,
    );
    let Some(outcomes) = outcomes(&split) else { return };
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.as_ref().is_err_and(|why| why.contains("different operations"))),
        "{outcomes:?}"
    );
}

#[test]
#[should_panic(expected = "wrote beyond an array")]
fn a_write_beyond_an_array_is_found() {
    let Some(device) = Emulated::new(1) else {
        panic!("wrote beyond an array: not looked at, for there is no compiler")
    };
    let [x, sums, squares] = [64, 16, 16].map(|bytes| device.allocate(bytes).unwrap());
    device.zero(x, 64).unwrap();
    // 8 columns, of which there is only room for 4.
    let arguments = [
        Argument::Address(x),
        Argument::U32(2),
        Argument::U32(8),
        Argument::Address(sums),
        Argument::Address(squares),
    ];
    device
        .launch("column_sums", Shape { grid: [1, 1], block: 128, shared: 0 }, &arguments)
        .unwrap();
}

#[test]
fn the_names_of_kernels_are_found() {
    assert_eq!(kernels_in(SUM), ["sum"]);
    assert_eq!(
        kernels_in("extern \"C\" __global__ void __launch_bounds__(128)\nscan(int x) {}"),
        ["scan"]
    );
}
