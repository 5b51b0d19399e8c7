//! Processes that a launcher started together, and that cannot reach each other, do not all do the
//! same. `mpi.sh` has those that can.
#![cfg(not(feature = "mpi"))]

use super::*;

#[test]
fn several_processes_without_mpi_are_refused_and_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for [size_of, rank_of] in [
        ["PMI_SIZE", "PMI_RANK"],
        ["OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"],
        ["SLURM_STEP_NUM_TASKS", "SLURM_PROCID"],
    ] {
        let one_of = |size, rank, line: &str| run(dir, line, &[(size_of, size), (rank_of, rank)]);
        let train = "train nowhere.toml --out runs";
        let (status, told) = one_of("3", "0", train);
        assert_eq!(status, Some(2), "{told}");
        assert!(told.contains("3 processes") && told.contains("the feature \"mpi\""), "{told}");
        assert_eq!(one_of("3", "2", train), (Some(2), String::new()));
        let (status, told) = one_of("3", "0", "compare tiny-gpt2 --out runs");
        assert!(status == Some(2) && told.contains("is the work of one"), "{told}");
        assert!(!dir.join("runs").exists());
        // One process is one process, whoever started it; and other verbs' work is nobody else's.
        let (status, told) = one_of("1", "0", train);
        assert!(status == Some(1) && told.contains("is not there"), "{told}");
        let (status, told) = one_of("3", "2", "eval nowhere");
        assert!(status == Some(1) && told.contains("is not there"), "{told}");
    }
}
