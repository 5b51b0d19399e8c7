//! `scripts/gpu-check.sh`, all of its parts, on a card that is emulated.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

#[path = "../../../tests/gpu/compile.rs"]
mod compile;

#[test]
fn the_check_of_a_card_finds_the_processors_bits_on_an_emulated_one() {
    if !compile::has_the_order() {
        return;
    }
    let Some(driver) = compile::driver() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/gpu-check.sh");
    let run = |cards: &str| {
        let mut command = Command::new("bash");
        command.arg(&script).arg(env!("CARGO_BIN_EXE_tsae"));
        command.env("SMALL", "1").env("LD_LIBRARY_PATH", &driver).env("FAKE_CARDS", cards);
        command.output().unwrap()
    };
    let output = run("1");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["same_bits"], true, "{told}");
    assert_eq!(report["machine"]["cards"], "cuda:0 (an emulated card)");
    for part in ["small-none", "small-learned", "small-lazy", "harvest-smollm2", "sample-tiny-gpt2"]
    {
        assert_eq!(report[part]["sha256"], report[format!("{part}-cpu")]["sha256"], "{part}");
        assert!(report[part]["sha256"].as_str().is_some_and(|sum| sum.len() == 64), "{part}");
    }
    assert!(report["wide"]["sha256"].is_string());
    assert_eq!(report["close_in_bf16"], true, "{told}");
    let distance = report["harvest-smollm2-bf16"]["from_processor"].as_f64();
    assert!(distance.is_some_and(|distance| distance > 0.0 && distance < 0.01), "{distance:?}");
    // Without a card it says so, and nothing that looks like a result.
    let output = run("0");
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("finds no card"));
}
