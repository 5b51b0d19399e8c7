use super::super::config::{Firing, SyntheticConfig};
use super::*;
use crate::sae::{Architecture, Lookup, SaeConfig};

/// As many dimensions as features, so that an SAE can be perfect.
fn orthogonal() -> SyntheticModel {
    let config = SyntheticConfig {
        n_features: 24,
        d_model: 24,
        firing: Firing { exponent: 0.5, max: 0.4, min: 0.1 },
        trees: None,
        orthogonalize: Some(super::super::Orthogonalize { steps: 2_000, lr: 1e-2 }),
        ..SyntheticConfig::synth_sae_bench_16k()
    };
    SyntheticModel::new(config).unwrap()
}

/// The SAE whose latents are these features.
fn sae_of(model: &SyntheticModel, features: &[usize]) -> Sae {
    let d = model.d_model();
    let config = SaeConfig::new(d, model.d_vocab())
        .with_latents(features.len())
        .with_architecture(Architecture::jump_relu(1.0));
    let mut sae = Sae::new(SaeConfig { k: 1, ..config }).unwrap();
    for (latent, &feature) in features.iter().enumerate() {
        let direction = &model.directions()[feature * d..][..d];
        sae.w_enc[latent * d..][..d].copy_from_slice(direction);
        sae.w_dec[latent * d..][..d].copy_from_slice(direction);
    }
    sae.b_dec.copy_from_slice(model.bias());
    sae.threshold.fill(0.5);
    sae
}

#[test]
fn an_sae_of_the_features_themselves_is_perfect() {
    let model = orthogonal();
    let found = model.score(&sae_of(&model, &(0..24).collect::<Vec<_>>()), 3_000).unwrap();
    assert_eq!((found.rows, found.dead, found.uniqueness), (3_000, 0, 1.0));
    assert!(found.mcc > 0.9999 && found.explained_variance > 0.995, "{found:?}");
    // A feature may fire more weakly than the threshold.
    assert!(found.f1 > 0.995 && found.accuracy > 0.995 && found.precision > 0.995, "{found:?}");
    assert!((found.l0 - found.true_l0).abs() < 0.05 && (found.shrinkage - 1.0).abs() < 0.01);
}

#[test]
fn doubled_dead_and_missing_latents_are_told() {
    let model = orthogonal();
    let mut sae = sae_of(&model, &[0, 0, 3, 5]);
    sae.threshold[3] = 1e6;
    let found = model.score(&sae, 2_000).unwrap();
    assert_eq!((found.dead, found.uniqueness), (1, 0.75));
    // Each latent is held to the nearest feature, doubled or not; the dead one has an F1 of 0.
    assert!((found.f1 - 0.75).abs() < 0.01, "{found:?}");
    // One of the two is paired with some other feature, which is at a right angle.
    assert!((found.mcc - 0.75).abs() < 0.02, "{found:?}");
    assert!(found.explained_variance < 0.5);
}

#[test]
fn a_latent_that_always_fires_is_as_precise_as_its_feature_is_frequent() {
    let model = orthogonal();
    let mut sae = sae_of(&model, &[7]);
    (sae.b_enc[0], sae.threshold[0]) = (1e3, 0.0);
    let found = model.score(&sae, 4_000).unwrap();
    assert_eq!((found.recall, found.l0), (1.0, 1.0));
    assert_eq!(found.precision, found.accuracy);
    let f1 = 2.0 * found.precision / (1.0 + found.precision);
    assert!((found.f1 - f1).abs() < 1e-12);
    assert!(found.shrinkage > 10.0 && found.explained_variance < -10.0);
}

#[test]
fn kinds_are_scored_apart_and_a_table_can_take_a_feature_from_its_latent() {
    let tokens = super::super::Tokens {
        d_vocab: 12,
        exponent: 1.0,
        per_token: 1,
        shared: 6,
        pairs: 4,
        strength: 0.9,
    };
    let config =
        SyntheticConfig { d_model: 64, tokens: Some(tokens), ..orthogonal().config().clone() };
    let model = SyntheticModel::new(config).unwrap();
    let all: Vec<usize> = (0..model.n_features()).collect();
    let plain = sae_of(&model, &all);
    let found = model.score(&plain, 4_000).unwrap();
    assert_eq!(found.kinds.iter().map(|it| it.features).collect::<Vec<_>>(), [18, 6, 12, 4]);
    for kind in &found.kinds {
        assert!(kind.f1 > 0.97 && kind.recovered == kind.features, "{kind:?}");
        assert_eq!(kind.recall_on_token.is_nan(), matches!(kind.kind, "context" | "pair"));
    }
    // A table with each token's own and shared directions at full strength, subtracted: latents of
    // token features fall silent, shared ones do so on their words alone.
    let d = model.d_model();
    let mut table = vec![0.0; 12 * d];
    for feature in 0..model.n_features() {
        if let Some(token) = model.token_of(feature) {
            let direction = &model.directions()[feature * d..][..d];
            let row = &mut table[token as usize * d..][..d];
            row.iter_mut().zip(direction).for_each(|(row, x)| *row += 4.5 * x);
        }
    }
    let mut sae = plain.clone();
    let lookup = Lookup::from_table(table.clone(), d).unwrap().subtracted();
    sae.config = sae.config.clone().with_lookup(lookup);
    (sae.lookup, sae.subtract) = (Some(table), true);
    sae.threshold.fill(3.0);
    let found = model.score(&sae, 4_000).unwrap();
    let kind = |name| found.kinds.iter().find(|it| it.kind == name).unwrap().clone();
    assert!(kind("context").recall > 0.9 && kind("token").recall < 0.1, "{found:?}");
    let shared = kind("shared");
    assert!(shared.recall_on_token < 0.3 && shared.recall_elsewhere > 0.85, "{shared:?}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = orthogonal();
    assert!(model.score(&sae_of(&model, &[0]), 0).unwrap_err().to_string().starts_with("rows"));
    let narrow = Sae::new(SaeConfig { k: 1, ..SaeConfig::new(8, 1) }).unwrap();
    assert!(matches!(model.score(&narrow, 10), Err(Error::Shape { .. })));
}
