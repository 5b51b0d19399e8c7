//! What a card has to show before it trains: that it gives the processor's bits.
//!
//! A driver may translate the kernels wrongly, memory may be damaged, and a card may be of a kind
//! that nobody has tried. All of it shows in a few steps of a small SAE, which take milliseconds.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::{Driver, Gpu};
use crate::backend::adam::Rates;
use crate::backend::cpu::screen::Exactness;
use crate::backend::cpu::step::Scratch;
use crate::backend::state::AdamState;
use crate::backend::{Backend, fastest};
use crate::base::error::{Error, Result};
use crate::sae::{Lookup, Sae, SaeConfig};

/// Steps of which both take the same.
const STEPS: u64 = 4;

const D_VOCAB: usize = 64;
const D_MODEL: usize = 100;
const D_SAE: usize = 640;
const ROWS: usize = 300;

/// Trains a small SAE with a table on the device and on the processor.
///
/// # Errors
/// [`Error::Config`] if anything that comes out differs by a bit; what the device says.
pub fn prove(device: &Arc<dyn Driver>) -> Result<()> {
    let gpu = Gpu::new(device.clone(), Exactness::default());
    for subtracted in [false, true] {
        compare(device, trained(&gpu, subtracted)?, trained(fastest().as_ref(), subtracted)?)?;
    }
    Ok(())
}

/// What there is after training, by name.
type Arrays = Vec<(&'static str, Vec<f32>)>;

fn compare(device: &Arc<dyn Driver>, there: Arrays, here: Arrays) -> Result<()> {
    for ((what, there), (_, here)) in there.iter().zip(&here) {
        let differ = there.iter().zip(here).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        if differ > 0 {
            let why = format!(
                "{} does not give the processor's bits: after {STEPS} steps of a small SAE {what} differs in {differ} of {} places. Train on the CPU (device = cpu), and please report it with the card and its driver",
                device.name(),
                here.len()
            );
            return Err(Error::config("device", why));
        }
    }
    Ok(())
}

/// What some steps leave of the parameters and of what the optimiser remembers, by name.
fn trained(backend: &dyn Backend, subtracted: bool) -> Result<Arrays> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut normal = |n: usize| (0..n).map(|_| rng.sample(StandardNormal)).collect::<Vec<f32>>();
    let config = SaeConfig { k: 8, ..SaeConfig::new(D_MODEL, D_VOCAB) }.with_latents(D_SAE);
    let lookup = Lookup::from_table(normal(D_VOCAB * D_MODEL), D_MODEL)?;
    let lookup = if subtracted { lookup.subtracted() } else { lookup };
    let mut sae = Sae::new(config.with_lookup(lookup))?;
    let mut state = AdamState::new(&sae).lazy();
    let mut scratch = Scratch::default();
    let rates =
        Rates { lr: 1e-3, bias_lr: 1e-3, lookup_lr: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    for step in 0..STEPS as usize {
        let x = normal(ROWS * D_MODEL);
        // Tokens that occur in some steps only, and some that never do.
        let tokens: Vec<u32> = (0..ROWS).map(|i| ((i * 7 + step * 11) % 50) as u32).collect();
        let batch = backend.prepare(&x, &tokens, D_MODEL)?;
        backend.train_step(&mut sae, &mut state, &batch, &rates, &mut scratch)?;
    }
    backend.settle(&mut sae, &mut state, &mut scratch)?;
    let of_table = state.lookup.unwrap_or_default();
    Ok(vec![
        ("W_enc", sae.w_enc),
        ("b_enc", sae.b_enc),
        ("W_dec", sae.w_dec),
        ("b_dec", sae.b_dec),
        ("W_lookup", sae.lookup.unwrap_or_default()),
        ("Adam's v of W_enc", state.w_enc.v),
        ("Adam's v of W_dec", state.w_dec.v),
        ("Adam's v of W_lookup", of_table.v),
    ])
}
