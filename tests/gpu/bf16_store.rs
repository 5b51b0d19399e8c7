//! Harvests and tables in bf16 on a card, by the driver: a card's or a processor's, and never both.
#![cfg(all(feature = "cuda", target_os = "linux"))]

use std::fs;
use std::path::{Path, PathBuf};

use tokenized_sae::activations::Batch;
use tokenized_sae::prelude::*;
use tokenized_sae::{Share, eval};

use crate::compile::has_the_order;
use crate::driver::{files, harvest, in_bf16, kernels_launched, on, place, under_the_driver};

/// Says what comes of going on with a harvest in bf16.
fn goes_on(place: &Path, name: &str, device: Device) {
    let said = harvest(place, name, in_bf16(device)).map(|_| "done".to_owned());
    println!("{name} on {device}: {}", said.unwrap_or_else(|error| error.to_string()));
}

/// The model and hooks of a harvest that many share, and its folder.
fn shared(place: &Path) -> (Model, [HookPoint; 1], PathBuf) {
    (Model::load("tiny-pythia").unwrap(), [HookPoint::resid_pre(1)], place.join("shared"))
}

#[test]
fn case_bf16_on_a_card() {
    let Some(place) = place() else { return };
    harvest(&place, "card", in_bf16(Device::Cuda(0))).unwrap();
    goes_on(&place, "cpu-begun", Device::Cuda(0));
    goes_on(&place, "cpu-begun", Device::Auto);
    let (model, hooks, dir) = shared(&place);
    let text = model.sample(3, 20, 0).unwrap();
    ActivationStore::plan(&model, &hooks, &text, dir, in_bf16(Device::Cuda(0))).unwrap();
    let model = model.computing(Compute::Bf16);
    Lookup::unigram_in(&model, hooks[0], place.join("tables")).unwrap();
    let config = SaeConfig { k: 4, expansion: 2, ..SaeConfig::for_model(&model) };
    let sae = Sae::new(config).unwrap();
    let found = eval::evaluate(&model, hooks[0], &[("SAE", &sae)], &text).unwrap();
    println!("evaluated: {:?}", found.rows);
}

#[test]
fn case_bf16_without_a_card() {
    let Some(place) = place() else { return };
    for device in [Device::Auto, Device::Cpu] {
        goes_on(&place, "card-begun", device);
    }
    let (model, _, dir) = shared(&place);
    let told = ActivationStore::harvest_share(&model, dir, Share::new(1, 1).unwrap()).unwrap_err();
    println!("shared: {told}");
}

#[test]
fn case_bf16_on_a_card_again() {
    let Some(place) = place() else { return };
    goes_on(&place, "card-begun", Device::Auto);
    let (model, _, dir) = shared(&place);
    ActivationStore::harvest_share(&model, &dir, Share::new(1, 1).unwrap()).unwrap();
    ActivationStore::collect(dir).unwrap();
}

/// What a store holds of its hooks.
fn rows(store: &ActivationStore) -> Vec<f32> {
    let mut batch = Batch::default();
    let all: Vec<u64> = (0..store.n_rows() as u64).collect();
    let of = |&hook: &HookPoint| {
        store.gather(hook, &all, &mut batch).unwrap();
        batch.x.clone()
    };
    store.hooks().iter().flat_map(of).collect()
}

/// Begins anew with a harvest's files but for the last shard.
fn begin(place: &Path, from: &str, to: &str) {
    fs::create_dir(place.join(to)).unwrap();
    for (name, bytes) in files(&place.join(from)) {
        if !name.ends_with("shard-00002.safetensors") {
            fs::write(place.join(to).join(name), bytes).unwrap();
        }
    }
}

#[test]
fn a_harvest_in_bf16_is_a_cards_or_a_processors_from_end_to_end() {
    if !has_the_order() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    let cpu = harvest(place, "cpu", in_bf16(Device::Cpu)).unwrap();
    let single = harvest(place, "f32", on(Device::Cpu)).unwrap();
    begin(place, "cpu", "cpu-begun");
    let case = |name: &str, settings: &[_]| under_the_driver(name, place, settings);
    let Some(said) = case("bf16_store::case_bf16_on_a_card", &[]) else { return };
    assert!(kernels_launched(&said).0 > 50, "{said}");
    assert!(said.contains("evaluated: [") && !said.contains("on the CPU"), "{said}");
    let tables = files(&place.join("tables"));
    let names: Vec<_> = tables.iter().map(|(name, _)| name.to_string_lossy()).collect();
    assert!(names.iter().any(|name| name.ends_with("-bf16-card.safetensors")), "{names:?}");
    assert!(!names.iter().any(|name| name.ends_with("-bf16.safetensors")), "{names:?}");
    for words in [
        "cpu-begun on cuda:0: ",
        "rounding of sums in bf16 was a processor's, and is now a card's: go on as it was begun (device = cpu), or harvest into another folder",
        "cpu-begun on auto: done",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(files(&place.join("cpu-begun")) == files(&place.join("cpu")));

    let card = ActivationStore::open(place.join("card")).unwrap();
    let [card_rows, cpu_rows, exact] = [&card, &cpu, &single].map(rows);
    let off = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let (distance, rounding) = (off(&card_rows, &cpu_rows), off(&cpu_rows, &exact));
    assert!(distance > 0.0 && distance < rounding / 4.0, "{distance} {rounding}");
    let marks = |name: &str| {
        let manifest = fs::read_to_string(place.join(name).join("manifest.json")).unwrap();
        manifest.matches("\"bits\": \"card\"").count()
    };
    assert_eq!([marks("card"), marks("cpu"), marks("f32")], [3, 0, 0]);

    begin(place, "card", "card-begun");
    let case = |name: &str, settings: &[_]| under_the_driver(name, place, settings).unwrap();
    let said = case("bf16_store::case_bf16_without_a_card", &[("FAKE_CARDS", "0")]);
    let told = "rounding of sums in bf16 was a card's, and is now a processor's: go on as it was begun (device = cuda, on a machine with a card)";
    assert_eq!(said.matches(told).count(), 3, "{said}");
    assert!(said.contains("plan.json"), "{said}");
    let said = case("bf16_store::case_bf16_on_a_card_again", &[]);
    assert!(said.contains("card-begun on auto: done"), "{said}");
    assert!(files(&place.join("card-begun")) == files(&place.join("card")));
    assert_eq!(marks("shared"), 1);
}
