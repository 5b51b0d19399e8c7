//! Whole runs on a card, by the driver: NVIDIA's library is one that the tests compile, and its card
//! the emulator.
//!
//! The library is looked for when a process starts, so each case runs in a process of its own: this
//! very program, told to run one test, with the library on its path.
#![cfg(all(feature = "cuda", target_os = "linux"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tokenized_sae::eval;
use tokenized_sae::prelude::*;

use crate::compile::{self, has_the_order};

/// Says, to the process of a case, where it may write.
const PLACE: &str = "TSAE_TEST_PLACE";

/// What lets a case train on the card, which it names, and run models on the processor.
const MODELS_ON_CPU: [(&str, &str); 1] = [("TSAE_DEVICE", "cpu")];

/// The folder of the driver's library.
fn driver() -> Option<&'static Path> {
    static DRIVER: OnceLock<Option<PathBuf>> = OnceLock::new();
    DRIVER.get_or_init(compile::driver).as_deref()
}

/// Runs a case in a process that finds the driver, with these settings; what it printed.
pub fn under_the_driver(case: &str, place: &Path, settings: &[(&str, &str)]) -> Option<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", case, "--nocapture"]).env(PLACE, place);
    command.env("LD_LIBRARY_PATH", driver()?).envs(settings.iter().copied());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    Some(said.into_owned())
}

/// How many kernels a case has launched, how many arrays it has left, and how often it has waited for
/// kernels.
pub fn counted(said: &str) -> [usize; 3] {
    // The library is opened and closed once to see whether it is there.
    let line = said.lines().rfind(|line| line.contains(" kernels launched, ")).unwrap();
    let mut numbers = line.split(' ').filter_map(|word| word.parse().ok());
    [(); 3].map(|()| numbers.next().unwrap())
}

/// How many kernels a case has launched, and how many arrays it has left on the card and pinned.
pub fn kernels_launched(said: &str) -> (usize, usize) {
    let [kernels, arrays_left, _] = counted(said);
    (kernels, arrays_left)
}

/// Trains an SAE and a TSAE on a device; they stand in a folder of `place`.
fn train(place: &Path, name: &str, device: Device, sae: SaeConfig, tokens: u64) -> Result<Runs> {
    let model = Model::load("tiny-gpt2")?;
    let hook = HookPoint::resid_pre(1);
    let text = model.sample(12, 32, 0)?;
    let acts = ActivationStore::harvest(
        &model,
        &[hook],
        &text,
        place.join(format!("acts-{name}")),
        HarvestConfig::default(),
    )?;
    let config = TrainConfig {
        tokens,
        batch: 64,
        lr: 3e-3,
        log_every: 3,
        evaluations: 2,
        held_out_tokens: 64,
        device,
        ..Default::default()
    };
    Trainer::new(&acts, hook, config)?
        .held_out(&model, &text)?
        .add("SAE", sae.clone())?
        .add("TSAE", sae.with_lookup(Lookup::unigram(&model, hook)?))?
        .fit(place.join(name))
}

fn small() -> SaeConfig {
    let model = Model::load("tiny-gpt2").unwrap();
    SaeConfig { k: 4, expansion: 3, ..SaeConfig::for_model(&model) }
}

/// All files below a folder, by name, with their bytes.
pub fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.push((path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

/// The case of a test, where this process is that case's.
pub fn place() -> Option<PathBuf> {
    std::env::var_os(PLACE).map(PathBuf::from)
}

#[test]
fn case_training() {
    let Some(place) = place() else { return };
    train(&place, "card", Device::Cuda(0), small(), 640).unwrap();
    println!("{}", Device::found());
}

#[test]
fn a_run_on_a_card_leaves_the_files_of_one_on_the_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let Some(said) = under_the_driver("driver::case_training", dir.path(), &MODELS_ON_CPU) else {
        return;
    };
    assert!(said.contains("cuda:0 (an emulated card)"), "{said}");
    let (kernels, arrays_left) = kernels_launched(&said);
    assert!(kernels > 20 * 2 * 10 && arrays_left == 0, "{said}");
    train(dir.path(), "cpu", Device::Cpu, small(), 640).unwrap();
    let (card, cpu) = (files(&dir.path().join("card")), files(&dir.path().join("cpu")));
    assert!(cpu.len() > 4 && card.len() == cpu.len());
    for ((a, on_card), (b, on_cpu)) in card.iter().zip(&cpu) {
        assert!(a == b && on_card == on_cpu, "{} differs", a.display());
    }
}

#[test]
fn case_fallback() {
    let Some(place) = place() else { return };
    let aux = small().with_aux(AuxK::default());
    train(&place, "aux", Device::Cuda(0), aux, 128).unwrap();
}

#[test]
fn what_a_card_cannot_do_is_done_on_the_cpu_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let Some(said) = under_the_driver("driver::case_fallback", dir.path(), &MODELS_ON_CPU) else {
        return;
    };
    assert!(said.contains("the step on cuda:0 has no AuxK: trained on the CPU"), "{said}");
    assert_eq!(kernels_launched(&said), (0, 0), "{said}");
}

#[test]
fn case_refusals() {
    let Some(place) = place() else { return };
    match train(&place, "refused", Device::Cuda(0), small(), 128) {
        Ok(_) => println!("trained"),
        Err(error) => println!("refused: {error}"),
    }
    match train(&place, "auto", Device::Auto, small(), 128) {
        Ok(_) => println!("auto trained"),
        Err(error) => println!("auto refused: {error}"),
    }
}

#[test]
fn a_card_that_cannot_be_used_is_refused_with_what_to_do() {
    for (setting, value, why) in [
        (
            "FAKE_VERSION",
            "11080",
            "the NVIDIA driver is too old: it knows CUDA 11.8, and 12.2 is needed: install driver 535 or later",
        ),
        ("FAKE_CARDS", "0", "the NVIDIA driver finds no card in this machine"),
        (
            "FAKE_CAPABILITY",
            "75",
            "has compute capability 7.5, and 8.0 (Ampere) is needed: take another card, or train on the CPU",
        ),
        ("FAKE_FREE", "1000000", "training on cuda:0 needs"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some(said) = under_the_driver("driver::case_refusals", dir.path(), &[(setting, value)])
        else {
            return;
        };
        assert!(said.contains("refused: ") && said.contains(why), "{setting}: {said}");
        assert!(said.contains("auto trained"), "{setting}: {said}");
    }
}

#[test]
fn without_a_driver_a_card_is_refused_and_auto_is_the_cpu() {
    if !Device::found().contains("no NVIDIA driver") {
        return; // this machine has one
    }
    let dir = tempfile::tempdir().unwrap();
    let told = train(dir.path(), "card", Device::Cuda(0), small(), 128).unwrap_err().to_string();
    assert!(
        told.starts_with("device: there is no NVIDIA driver")
            && told.contains("or train on the CPU"),
        "{told}"
    );
    train(dir.path(), "auto", Device::Auto, small(), 128).unwrap();
}

/// Harvests two hooks of a model in passes of a few sequences, and not all at once.
pub fn harvest(place: &Path, name: &str, config: HarvestConfig) -> Result<ActivationStore> {
    let model = Model::load("tiny-pythia")?;
    let hooks = [HookPoint::resid_pre(1), "blocks.1.hook_mlp_out".parse()?];
    let text = model.sample(7, 20, 0)?;
    let config = HarvestConfig { shard_tokens: 60, batch: 2, ..config };
    ActivationStore::harvest(&model, &hooks, &text, place.join(name), config)
}

pub fn on(device: Device) -> HarvestConfig {
    HarvestConfig { device, ..Default::default() }
}

#[test]
fn case_harvest() {
    let Some(place) = place() else { return };
    harvest(&place, "card", on(Device::Cuda(0))).unwrap();
    // One that was begun on the processor goes on here: its last shard is missing.
    harvest(&place, "both", on(Device::Auto)).unwrap();
}

#[test]
fn a_harvest_on_a_card_leaves_the_files_of_one_on_the_cpu() {
    if !has_the_order() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    harvest(dir.path(), "cpu", on(Device::Cpu)).unwrap();
    harvest(dir.path(), "both", on(Device::Cpu)).unwrap();
    fs::remove_file(dir.path().join("both/shard-00002.safetensors")).unwrap();
    let Some(said) = under_the_driver("driver::case_harvest", dir.path(), &[]) else { return };
    let (kernels, arrays_left) = kernels_launched(&said);
    let cpu = files(&dir.path().join("cpu"));
    assert!(cpu.len() > 3);
    for made in ["card", "both"] {
        let made = files(&dir.path().join(made));
        assert!(made.len() == cpu.len());
        for ((a, on_card), (b, on_cpu)) in made.iter().zip(&cpu) {
            assert!(a == b && on_card == on_cpu, "{} differs", a.display());
        }
    }
    assert!(kernels > 50 && arrays_left == 0, "{said}");
}

#[test]
fn case_harvest_elsewhere() {
    let Some(place) = place() else { return };
    harvest(&place, "auto", on(Device::Auto)).unwrap();
    for (name, config) in [("card", on(Device::Cuda(0))), ("bf16", in_bf16(Device::Cuda(0)))] {
        if let Err(error) = harvest(&place, name, config) {
            println!("refused: {error}");
        }
    }
    // What is whole needs no card.
    harvest(&place, "auto", on(Device::Cuda(0))).unwrap();
}

#[test]
fn what_a_card_cannot_harvest_the_cpu_does_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("FAKE_FREE", "1000000")];
    let case = "driver::case_harvest_elsewhere";
    let Some(said) = under_the_driver(case, dir.path(), &settings) else { return };
    assert_eq!(said.matches("HarvestConfig { batch: ").count(), 0, "{said}");
    for why in ["harvesting on cuda:0 needs ", "are free: harvest on the CPU (device = cpu)"] {
        assert_eq!(said.matches(why).count(), 3, "{why}: {said}");
    }
    assert_eq!(said.matches("refused: ").count(), 2, "{said}");
    assert_eq!(said.matches("(device = cpu); harvested on the CPU").count(), 1, "{said}");
    assert_eq!(kernels_launched(&said), (0, 0), "{said}");
}

/// Has a model write a corpus, and says what a harvest of some of it will take.
fn written(place: &Path, device: Device) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mistral");
    let model = Model::load(folder.to_str().unwrap()).unwrap();
    let text = Corpus::sampled_in(&model, 70, 3, place).unwrap().train;
    let forecast =
        ActivationStore::forecast(&model, &[HookPoint::resid_pre(1)], &text, &on(device)).unwrap();
    assert!(forecast.seconds > 0.0);
    println!("{forecast}");
}

#[test]
fn case_text() {
    let Some(place) = place() else { return };
    written(&place, Device::Auto);
    // So few tokens the processor unembeds in an order that a card has not.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2");
    let tied = Model::load_with(folder.to_str().unwrap(), Processing::Raw).unwrap();
    tied.sample(1, 2, 0).unwrap();
}

#[test]
fn a_text_on_a_card_is_that_of_the_cpu_and_a_forecast_knows_the_card() {
    let [card, cpu] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let settings = [("TSAE_DEVICE", "cuda:0")];
    let Some(said) = under_the_driver("driver::case_text", card.path(), &settings) else { return };
    let (kernels, arrays_left) = kernels_launched(&said);
    assert!(arrays_left == 0 && (kernels > 300 || !has_the_order()), "{said}");
    assert!(said.contains("kB on the card, and ") || !has_the_order(), "{said}");
    let lacks =
        "have no unembedding of this shape that is the embedding itself: sampled on the CPU";
    assert!(said.contains(lacks) || !has_the_order(), "{said}");
    written(cpu.path(), Device::Cpu);
    assert!(files(card.path()) == files(cpu.path()), "{said}");
    // Where there is no room, the CPU writes it.
    let small = tempfile::tempdir().unwrap();
    let settings = [settings[0], ("FAKE_FREE", "1000")];
    let Some(said) = under_the_driver("driver::case_text", small.path(), &settings) else { return };
    assert!(said.contains("(device = cpu); sampled on the CPU") || !has_the_order(), "{said}");
    assert!(files(small.path()) == files(cpu.path()), "{said}");
    assert_eq!(kernels_launched(&said), (0, 0), "{said}");
}

pub fn in_bf16(device: Device) -> HarvestConfig {
    HarvestConfig { compute: Compute::Bf16, ..on(device) }
}

/// Makes a token table, and evaluates an SAE with it; puts both down.
fn evaluated(place: &Path) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama");
    let model = Model::load(folder.to_str().unwrap()).unwrap();
    let text = Tokens::new((0..9 * 12).map(|i| i * 7 % 61).collect(), 12).unwrap();
    let hook: HookPoint = "blocks.1.hook_attn_out".parse().unwrap();
    let table = Lookup::unigram(&model, hook).unwrap();
    let config = SaeConfig { k: 4, expansion: 2, ..SaeConfig::for_model(&model) };
    let sae = Sae::new(config.with_lookup(table)).unwrap();
    let found = eval::evaluate(&model, hook, &[("TSAE", &sae)], &text).unwrap();
    let table = sae.lookup.unwrap();
    fs::write(place.join("table"), bytemuck::cast_slice::<f32, u8>(&table)).unwrap();
    fs::write(place.join("figures"), format!("{:?}", found.rows)).unwrap();
}

#[test]
fn case_evaluation() {
    let Some(place) = place() else { return };
    evaluated(&place);
}

#[test]
fn a_table_and_an_evaluation_on_a_card_are_those_of_the_cpu() {
    let [card, cpu] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let Some(said) = under_the_driver("driver::case_evaluation", card.path(), &[]) else { return };
    let (kernels, arrays_left) = kernels_launched(&said);
    assert!(arrays_left == 0 && (kernels > 50 || !has_the_order()), "{said}");
    evaluated(cpu.path());
    assert!(files(card.path()) == files(cpu.path()), "{said}");
}
