use super::super::config::{Correlation, Firing, SyntheticConfig, Trees};
use super::*;

fn model(trees: Option<Trees>, n_features: usize) -> SyntheticModel {
    let config = SyntheticConfig {
        n_features,
        d_model: 16,
        firing: Firing { exponent: 0.5, max: 0.3, min: 0.002 },
        trees,
        // Stronger than the benchmark's, so that it shows.
        correlation: Some(Correlation { rank: 3, scale: 0.4 }),
        orthogonalize: None,
        ..SyntheticConfig::synth_sae_bench_16k()
    };
    SyntheticModel::new(config).unwrap()
}

/// A row by the definition, feature by feature: `[n_features]`.
fn naive(model: &SyntheticModel, draws: &mut Draws) -> Vec<f32> {
    let it = &*model.inner;
    let (n, rank) = (model.n_features(), it.factors.len() / model.n_features());
    let causes: Vec<f64> = (0..rank).map(|_| draws.normal()).collect();
    let mut values: Vec<f32> = (0..n)
        .map(|j| {
            let lean: f64 =
                (0..rank).map(|r| causes[r] * f64::from(it.factors[j * rank + r])).sum();
            let fires = lean + f64::from(it.own[j]) * draws.normal() > f64::from(it.thresholds[j]);
            let strength = it.mean_magnitudes[j] + it.std_magnitudes[j] * draws.normal() as f32;
            if fires { strength.max(0.0) } else { 0.0 }
        })
        .collect();
    for parent in 0..n {
        let children = it.forest.children(parent);
        let active: Vec<usize> = children.clone().filter(|&child| values[child] > 0.0).collect();
        let winner = (!active.is_empty()).then(|| active[draws.below(active.len())]);
        for child in children {
            values[child] *= match winner == Some(child) {
                true => values[parent] / it.mean_magnitudes[parent],
                false => 0.0,
            };
        }
    }
    values
}

/// Sums of firings, of pairs, of magnitudes and their squares.
struct Seen {
    n: f64,
    fired: Vec<f64>,
    pairs: Vec<f64>,
    sizes: Vec<[f64; 2]>,
}

impl Seen {
    fn new(n: usize) -> Seen {
        Seen { n: 0.0, fired: vec![0.0; n], pairs: vec![0.0; n * n], sizes: vec![[0.0; 2]; n] }
    }

    fn see(&mut self, fired: impl Iterator<Item = (usize, f32)>) {
        let (all, fired): (usize, Vec<(usize, f32)>) = (self.fired.len(), fired.collect());
        self.n += 1.0;
        for &(j, value) in &fired {
            self.fired[j] += 1.0;
            self.sizes[j][0] += f64::from(value);
            self.sizes[j][1] += f64::from(value).powi(2);
            fired.iter().for_each(|&(k, _)| self.pairs[j * all + k] += 1.0);
        }
    }
}

/// Whether two counts of `n` each are within `z` standard deviations of each other.
fn agree(a: f64, b: f64, z: f64) -> bool {
    (a - b).abs() <= z * (a + b + 1.0).sqrt()
}

#[test]
fn rows_are_distributed_as_the_definition_says() {
    const ROWS: u64 = 120_000;
    for model in [model(Some(Trees { roots: 3, branching: 3, depth: 2 }), 60), model(None, 50)] {
        let n = model.n_features();
        let (mut ours, mut theirs, mut batch) = (Seen::new(n), Seen::new(n), Default::default());
        model.fill(4, 0..ROWS, &mut batch);
        let key = Key::new(Purpose::Rows, [77, 0]);
        for row in 0..ROWS {
            let (ids, values) = batch.features.row(row as usize);
            ours.see(ids.iter().map(|&id| id as usize).zip(values.iter().copied()));
            let values = naive(&model, &mut key.stream(row));
            theirs.see(values.into_iter().enumerate().filter(|(_, value)| *value > 0.0));
        }
        // 60 + 1,800 comparisons: some lie 4 standard deviations apart by chance.
        for j in 0..n {
            assert!(agree(ours.fired[j], theirs.fired[j], 4.5), "{j}");
            let size = |it: &Seen, i: usize| it.sizes[j][i] / it.fired[j];
            let spread = (size(&theirs, 1) - size(&theirs, 0).powi(2)).max(0.0).sqrt();
            let error = 5.0 * spread * (2.0 / theirs.fired[j]).sqrt() + 1e-3;
            assert!((size(&ours, 0) - size(&theirs, 0)).abs() < error, "{j}");
            for k in 0..j {
                let at = j * n + k;
                assert!(agree(ours.pairs[at], theirs.pairs[at], 5.0), "{j} {k}");
            }
        }
        let l0 = |it: &Seen| it.fired.iter().sum::<f64>() / it.n;
        assert!((l0(&ours) - l0(&theirs)).abs() < 0.03, "{} {}", l0(&ours), l0(&theirs));
    }
}

#[test]
fn children_fire_with_their_parents_and_alone_among_siblings() {
    let model = model(Some(Trees { roots: 3, branching: 3, depth: 2 }), 60);
    let mut batch = SyntheticBatch::default();
    model.fill(0, 0..20_000, &mut batch);
    let mut children = 0;
    for row in 0..20_000 {
        let ids: Vec<usize> = batch.features.row(row).0.iter().map(|&id| id as usize).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        for &id in &ids {
            if let Some(parent) = model.inner.forest.parent(id) {
                children += 1;
                assert!(ids.contains(&parent));
                let siblings = model.inner.forest.children(parent);
                assert_eq!(siblings.filter(|sibling| ids.contains(sibling)).count(), 1);
            }
        }
    }
    assert!(children > 10_000, "{children}");
}

#[test]
fn a_row_is_the_sum_of_its_features() {
    let model = model(None, 40);
    let (d, mut batch) = (model.d_model(), SyntheticBatch::default());
    model.fill(1, 5..105, &mut batch);
    for row in 0..100 {
        let mut want: Vec<f64> = model.bias().iter().map(|b| f64::from(*b)).collect();
        let (ids, values) = batch.features.row(row);
        for (&id, &value) in ids.iter().zip(values) {
            let direction = &model.directions()[id as usize * d..][..d];
            want.iter_mut().zip(direction).for_each(|(x, e)| *x += f64::from(value * e));
        }
        let got = &batch.x[row * d..][..d];
        assert!(want.iter().zip(got).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-4));
    }
}

#[test]
fn any_row_is_made_anew_with_the_same_bits_on_any_number_of_threads() {
    let model =
        SyntheticModel::new(SyntheticConfig { orthogonalize: None, ..SyntheticConfig::tokens() })
            .unwrap();
    let make = |seed, rows: Range<u64>| {
        let mut batch = SyntheticBatch::default();
        model.fill(seed, rows, &mut batch);
        batch
    };
    let (all, d) = (make(3, 0..500), model.d_model());
    let some = make(3, 217..300);
    assert_eq!(some.x, all.x[217 * d..300 * d]);
    assert_eq!(some.tokens, all.tokens[217..300]);
    assert_eq!(some.features.row(82), all.features.row(299));
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| make(3, 0..500)), all);
    }
    assert_ne!(make(4, 0..500).x, all.x);
    let pairs: Vec<[u32; 2]> =
        all.before.iter().zip(&all.tokens).map(|(&before, &token)| [before, token]).collect();
    assert_eq!(model.tokens_of(3, 0..500), pairs);
}

#[test]
fn features_of_tokens_fire_on_them_and_shared_ones_elsewhere_too() {
    let config = SyntheticConfig { orthogonalize: None, ..SyntheticConfig::tokens() };
    let model = SyntheticModel::new(config).unwrap();
    let mut batch = SyntheticBatch::default();
    const ROWS: u64 = 40_000;
    model.fill(0, 0..ROWS, &mut batch);
    let (mut seen, mut elsewhere, mut on, mut rows_on) = (0, 0, 0, 0);
    for row in 0..ROWS as usize {
        let token = batch.tokens[row];
        let ids = batch.features.row(row).0;
        assert!(ids.is_sorted_by(|a, b| a < b), "none fires twice");
        let kind = |id: &&u32| model.kind(**id as usize);
        for id in ids.iter().filter(|id| kind(id) == super::super::Kind::Token) {
            assert_eq!(model.token_of(*id as usize), Some(token));
            seen += 1;
        }
        let shared = ids.iter().filter(|id| kind(id) == super::super::Kind::Shared);
        let (own, other): (Vec<u32>, Vec<u32>) =
            shared.partition(|id| model.token_of(**id as usize) == Some(token));
        on += own.len();
        elsewhere += other.len();
        rows_on += usize::from(token % 4 == 0);
    }
    let strength = seen as f64 / (2.0 * ROWS as f64);
    assert!((strength - 0.9).abs() < 0.01, "{strength}");
    assert!(elsewhere > 5_000, "{elsewhere}");
    // The most frequent one fires there by the context too.
    assert!((on as f64 / rows_on as f64 - 0.91).abs() < 0.02, "{on} of {rows_on}");
}
