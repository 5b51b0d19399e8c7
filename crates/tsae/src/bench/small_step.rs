// This very text is also a cell: see notebook.rs.

/// Tokens a second of a training step without a table, 256 → 4,096 latents, k 16, batches of 2,048:
/// the median of `steps`. They take about a second on two cores, so that the machine's noise
/// averages out.
pub fn small_step(steps: usize) -> tokenized_sae::Result<f64> {
    use std::time::Instant;

    use tokenized_sae::backend::{self, AdamState, Rates, Scratch};
    use tokenized_sae::sae::{Sae, SaeConfig};

    const D_MODEL: usize = 256;
    const BATCH: usize = 2048;
    let mut sae = Sae::new(SaeConfig { expansion: 16, k: 16, ..SaeConfig::new(D_MODEL, 1) })?;
    let (mut state, mut scratch) = (AdamState::new(&sae), Scratch::default());
    let rates =
        Rates { lr: 1e-4, bias_lr: 1e-4, lookup_lr: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let backend = backend::fastest();
    // Numerical Recipes' generator.
    let mut random = 0u32;
    let mut x = vec![0.0; BATCH * D_MODEL];
    let mut seconds = Vec::new();
    for step in 0..=steps {
        x.iter_mut().for_each(|x| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *x = random as f32 / u32::MAX as f32 - 0.5;
        });
        let start = Instant::now();
        let batch = backend.prepare(&x, &[0; BATCH], D_MODEL)?;
        backend.train_step(&mut sae, &mut state, &batch, &rates, &mut scratch)?;
        // The first step finds cold caches and memory that was never touched.
        if step > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(BATCH as f64 / seconds[seconds.len() / 2])
}
