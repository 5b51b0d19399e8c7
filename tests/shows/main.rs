//! The promise: whatever a cell ends in shows itself, as HTML that is well formed and escaped, and
//! as text that says something.

mod html;

use std::collections::BTreeSet;
use std::fmt::Debug;

use tokenized_sae::Share;
use tokenized_sae::activations::{ActivationStore, Batch, Dtype, HarvestConfig, Source};
use tokenized_sae::corpus::{Corpus, Documents, Encoder};
use tokenized_sae::display::{self, Column, Figure, Row, Shown, Table};
use tokenized_sae::error::Error;
use tokenized_sae::eval::{self, Evaluations, Measure};
use tokenized_sae::experiments::compare::{Comparison, Report};
use tokenized_sae::experiments::controls::{Control, Controls};
use tokenized_sae::experiments::paper;
use tokenized_sae::experiments::recipe::{Harvested, RunRecipe, SaeRecipe};
use tokenized_sae::experiments::sweep::{Arm, FailedRun, Setting, Sweep, SweepResults};
use tokenized_sae::forecast::Forecast;
use tokenized_sae::hub::{Hub, Repo, Snapshot};
use tokenized_sae::latents::absorption::{AbsorptionConfig, absorption_with};
use tokenized_sae::latents::features::{FeatureDashboard, FeaturesConfig};
use tokenized_sae::latents::probe::{ProbeConfig, Task, probe};
use tokenized_sae::latents::tokenness::{
    NgramR2s, TokenTest, TokennessConfig, Weighting, ngram_r2_of_all, token_or_context,
};
use tokenized_sae::model::tokens::Tokens;
use tokenized_sae::model::{HookPoint, Model, Site};
use tokenized_sae::plot::{self, Axis, Mark, Options, Sample, Series};
use tokenized_sae::sae::{Architecture, AuxK, Lookup, Ngrams, Origin, RowNorm, Sae, SaeConfig};
use tokenized_sae::train::Device;
use tokenized_sae::train::{TrainConfig, Trainer, speedup};

use html::malformed;

/// A name that a person may give to a run, a folder or a file, and that must not become markup.
const EVIL: &str = "<script>alert('&')</script>";

/// What was checked, by the name of its type.
#[derive(Default)]
struct Checked(BTreeSet<&'static str>);

impl Checked {
    fn check<T: display::Show + Debug + ?Sized>(&mut self, value: &T) -> Shown {
        let name = std::any::type_name::<T>();
        let shown = value.shown();
        assert_eq!(malformed(&shown.html), None, "{name}: {}", shown.html);
        assert!(
            !shown.html.trim().is_empty() && !shown.text.trim().is_empty(),
            "{name}: {shown:?}"
        );
        assert!(!shown.html.contains("<script"), "{name}: {}", shown.html);
        // Colours that are not see-through are illegible on a light page or on a dark one.
        for wrong in [":black", ":white;", "color:#", "background:#"] {
            assert!(!shown.html.contains(wrong), "{name}: {wrong}");
        }
        // The text is for people: neither markup nor the dump of a struct.
        assert!(!shown.text.contains("</") || shown.text.contains(EVIL), "{name}: {}", shown.text);
        assert!(!shown.text.contains(" { "), "{name}: {}", shown.text);
        assert!(!format!("{value:?}").is_empty());
        self.0.insert(name.rsplit("::").next().unwrap_or(name).split('<').next().unwrap_or(name));
        shown
    }
}

/// Checks the value, and that it has the method by which a notebook finds it: no trait that gives
/// one is in scope here.
macro_rules! check {
    ($checked:ident, $($value:expr),+ $(,)?) => {$({
        let value = &$value;
        value.evcxr_display();
        $checked.check(value);
    })+};
}

struct Made {
    model: Model,
    corpus: Corpus,
    acts: ActivationStore,
    hook: HookPoint,
    dir: tempfile::TempDir,
}

fn made() -> Made {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::load("tiny-gpt2").unwrap();
    let hook = HookPoint::resid_pre(2);
    let mut corpus =
        Corpus::new(model.sample(32, 32, 1).unwrap(), model.sample(4, 32, 2).unwrap()).unwrap();
    corpus.source = EVIL.to_owned();
    let acts = ActivationStore::harvest(
        &model,
        &[hook],
        &corpus.train,
        dir.path().join("acts"),
        HarvestConfig::default(),
    )
    .unwrap();
    Made { model, corpus, acts, hook, dir }
}

fn tables_and_words(checked: &mut Checked) {
    let table = Table::new(EVIL, &[Column::text(EVIL).defined(EVIL), Column::text("share")]);
    let table = table
        .with(Row::new(EVIL).defined(EVIL).bar(0.4))
        .with(Row::new("over").bar(7.0))
        .with(Row::new("none").bar(f64::NAN));
    check!(checked, table);
    assert!(
        table.text().contains("████░░░░░░ 40.0 %") && table.html().contains("width:40.0%"),
        "{}",
        table.text()
    );
    check!(checked, Shown { html: "<p>a</p>".into(), text: "a".into() });
    for site in Site::ALL {
        check!(checked, HookPoint { layer: 1, site });
    }
    check!(checked, Dtype::F16, Dtype::F32, Dtype::Int8);
    check!(checked, Device::Auto, Device::Cpu, Device::Cuda(1));
    check!(checked, TrainConfig::default(), HarvestConfig::default());
    check!(checked, Share::new(2, 8).unwrap());
    let hub = Hub {
        cache: Some(EVIL.into()),
        endpoint: EVIL.into(),
        token: Some(EVIL.into()),
        token_from: EVIL.into(),
        offline: false,
        ..Hub::from_env()
    };
    let repo = Repo::model("gpt2@x").unwrap().at(EVIL);
    let snapshot = Snapshot {
        repo: repo.clone(),
        commit: EVIL.into(),
        folder: EVIL.into(),
        files: vec![EVIL.into()],
    };
    check!(
        checked,
        Hub { cache: None, token: None, offline: true, ..hub.clone() },
        hub,
        repo,
        snapshot
    );
    let error = Error::UnknownModel { name: EVIL.into(), why: "it is nowhere".into() };
    check!(checked, error);
    assert!(checked.check(&error).text.starts_with("no model \""), "not a dump of fields");
}

fn figures(checked: &mut Checked) {
    let series = Series::new(EVIL, vec![(0.0, 1.0), (1.0, 0.5)]);
    let sample = Sample::new(EVIL, (0..50).map(f64::from).collect());
    let axis = Axis { label: EVIL.into(), range: Some((0.0, 1.0)), ..Axis::default() };
    let options = Options {
        x: axis.clone(),
        marks: vec![Mark::Level { y: 1.0, label: EVIL.into() }],
        ..Options::default()
    };
    let figure: Figure =
        plot::curves(EVIL, EVIL, EVIL, std::slice::from_ref(&series), &options).unwrap();
    check!(checked, figure, plot::histogram(EVIL, EVIL, EVIL, &[sample], 0, &options).unwrap());
    let bars = [Sample::new(EVIL, vec![1.0, f64::NAN])];
    let names = [EVIL.to_owned(), EVIL.to_owned()];
    check!(checked, plot::bars(EVIL, EVIL, EVIL, &names, &bars, &Options::default()).unwrap());
}

fn models(checked: &mut Checked, it: &Made) {
    let ids = it.model.encode("<script>alert(1)</script>\nOnce  upon\ta time").unwrap();
    let tokens = Tokens::new(ids.clone(), ids.len()).unwrap();
    check!(checked, it.model, *it.model.config(), tokens, it.corpus.train, it.corpus, it.hook);
    let view = it.model.view(&tokens, 3);
    check!(checked, view, it.model.view(&it.corpus.train, 2), it.model.view(&it.corpus.train, 0));
    assert!(
        view.html.contains("&lt;") && view.html.contains(&format!("id {}", ids[0])),
        "{}",
        view.html
    );
    let prediction = it.model.predict(&ids, 5).unwrap();
    check!(checked, prediction, prediction.top[0]);
    let text = it.dir.path().join("a.txt");
    std::fs::write(&text, "Once upon a time. ".repeat(200)).unwrap();
    let found = Corpus::text_files(&it.model, &text.display().to_string()).unwrap().context(2);
    let streamed = found.clone().max_tokens(2).stream(0.0).unwrap();
    check!(checked, found, streamed, streamed.train, Documents::open(&text, "text").unwrap());
    let c = it.model.config();
    check!(
        checked,
        Encoder::of_tokenizer(
            EVIL,
            it.model.tokenizer().unwrap(),
            c.bos,
            c.eos,
            c.n_ctx,
            c.d_vocab
        )
        .unwrap()
    );
}

fn activations_and_codes(checked: &mut Checked, it: &Made) {
    let mut batch = Batch::default();
    check!(checked, batch, it.acts);
    let (hooks, config) = (it.acts.hooks(), HarvestConfig::default());
    let planned = it.dir.path().join("planned");
    check!(
        checked,
        ActivationStore::plan(&it.model, hooks, &it.corpus.train, planned, config).unwrap()
    );
    it.acts.gather(it.hook, &it.acts.shuffled(0, 0..64), &mut batch).unwrap();
    check!(checked, batch);
    let source = Source {
        name: EVIL.into(),
        revision: Some(EVIL.into()),
        fingerprint: EVIL.into(),
        processing: EVIL.into(),
        d_model: 1,
        d_vocab: 1,
        skip_first: 0,
    };
    check!(checked, source);
    let lookup = Lookup::unigram(&it.model, it.hook).unwrap();
    let config = SaeConfig { expansion: 2, k: 12, ..SaeConfig::for_model(&it.model) };
    let sae = Sae::new(config.clone().with_lookup(lookup.clone())).unwrap();
    check!(
        checked,
        lookup,
        lookup.clone().frozen(),
        config,
        sae.config,
        sae,
        Sae::new(config.clone()).unwrap()
    );
    assert_eq!(checked.check(&sae).html.matches("<img ").count(), 1);
    let codes = sae.encode(&batch.x).unwrap();
    check!(checked, codes, sae.encode(&[]).unwrap());

    for row_norm in [RowNorm::None, RowNorm::LayerNorm, RowNorm::ConstantNorm] {
        let origin = Origin {
            model: Some(EVIL.into()),
            revision: Some(EVIL.into()),
            processing: Some(EVIL.into()),
            ..Origin::default()
        };
        check!(checked, Sae { row_norm, origin, ..sae.clone() });
    }
    let grams = Ngrams::most_common(&it.corpus.train, it.model.config().d_vocab, 3, 5).unwrap();
    let by_grams = Lookup::ngrams(&it.model, it.hook, grams.clone()).unwrap();
    let sae_of_grams = Sae::new(config.clone().with_lookup(by_grams.clone())).unwrap();
    let mut preceding = sae_of_grams.clone();
    preceding.origin.hook = Some(it.hook);
    let by_latents = Lookup::preceding(&preceding).unwrap().subtracted();
    check!(checked, grams, by_grams, sae_of_grams, by_latents);
    for architecture in [
        Architecture::BatchTopK,
        Architecture::Relu { l1: 1.0 },
        Architecture::Gated { l1: 1.0 },
        Architecture::jump_relu(1.0),
    ] {
        let config = SaeConfig { expansion: 2, ..SaeConfig::for_model(&it.model) }
            .with_architecture(architecture);
        check!(checked, config, Sae::new(config.clone()).unwrap());
    }
    let config =
        SaeConfig { unit_norm: true, ..config.with_prefixes(&[3]).with_aux(AuxK::default()) };
    check!(checked, config);
}

fn trainings(checked: &mut Checked, it: &Made) {
    let config = TrainConfig {
        tokens: 4096,
        batch: 256,
        lr: 1e-3,
        evaluations: 3,
        held_out_tokens: 64,
        log_every: 2,
        ..Default::default()
    };
    let sae = SaeConfig { expansion: 2, k: 8, ..SaeConfig::for_model(&it.model) };
    let trainer = || {
        let tsae = sae.clone().with_lookup(Lookup::unigram(&it.model, it.hook).unwrap());
        let trainer = Trainer::new(&it.acts, it.hook, config.clone())
            .unwrap()
            .held_out(&it.model, &it.corpus.valid)
            .unwrap();
        trainer.add("SAE", sae.clone()).unwrap().add("TSAE", tsae).unwrap()
    };
    check!(checked, trainer(), Trainer::new(&it.acts, it.hook, config.clone()).unwrap());
    let training = trainer().fit_in_background(it.dir.path().join("a&b")).unwrap();
    check!(checked, training, training.status());
    let mut runs = training.join().unwrap();
    check!(checked, training, training.status());
    assert!(checked.check(&training).html.contains("<img "), "its curves");
    let speed = speedup(&runs).unwrap();
    let evaluations: Evaluations =
        tokenized_sae::train::evaluate(&it.model, it.hook, &runs, &it.corpus.valid).unwrap();
    let (sae, tsae) = (evaluations["SAE"].without_bos, evaluations["TSAE"].without_bos);
    runs.runs[0].name = EVIL.into();
    check!(checked, runs, runs.runs[0], runs.runs[1]);
    check!(checked, speed, evaluations, evaluations.rows[0], sae);
    let named = eval::Evaluation { name: EVIL.into(), ..evaluations.rows[0].clone() };
    check!(checked, named);
    let report = Report {
        sae,
        centred: sae,
        tsae,
        recommended: tsae,
        speedup: speed.clone(),
        recommended_speedup: speed.clone(),
        speedup_over_centred: speed,
        tokens: 4096,
        model: EVIL.into(),
        revision: Some(EVIL.into()),
        processing: EVIL.into(),
        hook: it.hook,
        lr: 1e-3,
        centred_lr: 1e-3,
        learning_rates: vec![(1e-3, 0.5, 0.4)],
        with_bos: [("SAE".to_owned(), sae), (EVIL.to_owned(), tsae)].into(),
    };
    check!(
        checked,
        report,
        report.table_with_bos(),
        Comparison { report: report.clone(), runs, evaluations }
    );
}

fn tokenness(checked: &mut Checked, it: &Made) {
    let sae = SaeConfig { expansion: 2, k: 8, ..SaeConfig::for_model(&it.model) };
    let tsae =
        Sae::new(sae.clone().with_lookup(Lookup::unigram(&it.model, it.hook).unwrap())).unwrap();
    let mut found = token_or_context(
        &it.model,
        it.hook,
        &[(EVIL, &Sae::new(sae).unwrap()), ("TSAE", &tsae)],
        &it.acts,
    )
    .unwrap();
    let latent = found["TSAE"].counted()[0].clone();
    check!(
        checked,
        found,
        found.saes[0],
        found["TSAE"],
        latent,
        latent.ngrams[0],
        latent.ngrams[1]
    );
    assert_eq!(checked.check(&found).html.matches("<img ").count(), 1);
    check!(checked, found.by_frequency(TokenTest::LikeOwnTable));
    check!(
        checked,
        found.table(Weighting::Firings),
        found["TSAE"].token_latents(3),
        found["TSAE"].context_latents(3)
    );
    found.saes[0].latents.clear();
    found.saes[1].latents.clear();
    check!(checked, found, found.saes[0]);
    TokenTest::ALL.iter().for_each(|test| check!(checked, *test));
    check!(
        checked,
        Weighting::Latents,
        Weighting::Firings,
        Weighting::Mass,
        Weighting::Matched,
        TokennessConfig::default()
    );
    let r2 = ngram_r2_of_all(&it.acts, 2).unwrap();
    check!(checked, r2, r2.hooks[0], NgramR2s { hooks: vec![] });
    assert_eq!(checked.check(&r2).html.matches("<img ").count(), 1);
    checked.check(
        &plot::token_latents_by_frequency(
            &token_or_context(&it.model, it.hook, &[("TSAE", &tsae)], &it.acts).unwrap(),
            TokenTest::Trivial,
        )
        .unwrap(),
    );
}

fn latents(checked: &mut Checked, it: &Made) {
    let lookup = Lookup::unigram(&it.model, it.hook).unwrap();
    let sae = Sae::new(
        SaeConfig { expansion: 2, k: 6, ..SaeConfig::for_model(&it.model) }.with_lookup(lookup),
    )
    .unwrap();
    let config = FeaturesConfig { top: 12, ..Default::default() };
    let dashboard = FeatureDashboard::with(&it.model, it.hook, &sae, &it.acts, config.clone())
        .unwrap()
        .named(EVIL);
    let [frequent, dead] =
        [1, sae.d_sae()].map(|n| *dashboard.features.most_frequent(n).last().unwrap());
    let view = dashboard.latent(frequent).unwrap();
    check!(
        checked,
        config,
        *dashboard.features,
        dashboard,
        view,
        dashboard.latent(dead).unwrap(),
        view.feature,
        view.directions
    );
    assert!(
        checked.check(&view).html.contains("title=\"activation ")
            && checked.check(&view).text.contains('«')
    );
    let effect = dashboard.steer(frequent, 4.0, "<script>alert(1)&\n a").unwrap();
    check!(checked, effect);
    check!(
        checked,
        dashboard.ablate(frequent, "Once upon").unwrap(),
        dashboard.steer_last(frequent, 4.0, "Once upon").unwrap()
    );
    check!(checked, dashboard.continuations(frequent, 4.0, "Once upon", 2, 4, 0).unwrap());
    let text = it.model.sample(128, 64, 5).unwrap();
    let probes = probe(&it.model, it.hook, &[(EVIL, &sae)], &text).unwrap();
    let config = AbsorptionConfig { min_f1: 0.0, ..Default::default() };
    let absorbed = absorption_with(&it.model, it.hook, &[(EVIL, &sae)], &text, &config).unwrap();
    check!(checked, ProbeConfig::default(), Task::InQuotes, probes, config, absorbed);
}

fn sweeps(checked: &mut Checked, it: &Made) {
    let train = TrainConfig {
        tokens: 1024,
        batch: 256,
        held_out_tokens: 64,
        evaluations: 2,
        ..Default::default()
    };
    let sae = SaeConfig { expansion: 2, k: 8, ..SaeConfig::for_model(&it.model) };
    let lookup =
        Arm::with_lookup("b", sae.clone(), Lookup::unigram)
            .vary("x", &[1.0, 2.0], |sae, _| Ok(sae));
    check!(checked, lookup, Arm::new(EVIL, sae.clone()));
    let controlled = sae.clone();
    let sweep = Sweep::new(&it.acts, train.clone()).unwrap();
    check!(checked, sweep);
    let sweep = sweep
        .held_out(&it.model, &it.corpus.valid)
        .arm("a", sae)
        .with_arm(lookup)
        .seeds(&[0, 1])
        .baseline("a");
    check!(checked, sweep);
    let mut results: SweepResults = sweep.run(it.dir.path().join("c&d")).unwrap();
    check!(checked, results, results.changes());
    let (acts, text) = (&it.acts, &it.corpus.valid);
    let controls = Controls::new(&it.model, acts, it.hook, controlled, train, text)
        .only(&[Control::TableAlone, Control::Centred]);
    check!(checked, controls, controls.run(it.dir.path().join("e&f")).unwrap().unwrap());
    assert!(checked.check(&results).html.contains("<img "), "its figure");
    let setting = Setting {
        arm: EVIL.into(),
        also: vec![("<b>".into(), 1.0)],
        ..results.runs[0].setting.clone()
    };
    results.failed.push(FailedRun { setting: setting.clone(), seed: 1, why: EVIL.into() });
    results.runs.iter_mut().for_each(|run| run.setting.arm = EVIL.into());
    check!(checked, results, results.changes());
    results.runs.clear();
    check!(checked, results);
    let spec = RunRecipe {
        text: Some(EVIL.into()),
        sae: vec![SaeRecipe::new(EVIL)],
        ..RunRecipe::new(EVIL)
    };
    check!(checked, spec, Harvested::open(it.acts.dir()).unwrap());
    check!(
        checked,
        Forecast { memory: 1 << 30, card: 1 << 31, disk: 1 << 20, seconds: 90.0 },
        Forecast::default()
    );
    check!(checked, paper::pareto(), paper::speedups());
    Measure::ALL.iter().for_each(|measure| drop(checked.check(measure)));
    Measure::Nmse.evcxr_display();
}

#[test]
fn whatever_a_cell_ends_in_shows_itself() {
    let mut checked = Checked::default();
    let it = made();
    tables_and_words(&mut checked);
    figures(&mut checked);
    models(&mut checked, &it);
    activations_and_codes(&mut checked, &it);
    trainings(&mut checked, &it);
    tokenness(&mut checked, &it);
    latents(&mut checked, &it);
    sweeps(&mut checked, &it);

    // Every type that a cell names by the prelude was among them. A progress is not a value to look
    // at: it shows itself as it goes.
    let source =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).unwrap();
    let prelude = source.split_once("pub mod prelude {").unwrap().1;
    let words = prelude
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.starts_with(char::is_uppercase));
    // Settings of a few words, which say all that they are as Rust writes them.
    let spelt = [
        "Architecture",
        "AuxK",
        "Compute",
        "Control",
        "Frozen",
        "Processing",
        "SaeFormat",
        "TableExport",
    ];
    let names: Vec<&str> = words
        .filter(|word| !["Everything", "Result", "Progress"].contains(word))
        .filter(|word| !spelt.contains(word))
        .collect();
    assert!(names.len() > 25, "{names:?}");
    let missing: Vec<&&str> = names.iter().filter(|name| !checked.0.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?} of {:?}", checked.0);
}
