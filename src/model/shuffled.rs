//! Controls: a model whose weights are in random order.
//!
//! Sparse autoencoders reconstruct a model that has learned nothing almost as well as one that has, and
//! several measures of how well latents can be interpreted hardly tell the two apart ([Heap et al.,
//! 2025](https://arxiv.org/abs/2501.17727)). What a score owes to the model's learning is what it loses
//! on such a control. Within a tensor the numbers change places, so that each keeps its distribution.

use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::base::error::Result;
use crate::model::weights::{BlockWeights, Embeddings, LayerNormWeights, Linear, ModelWeights};

/// Which weights of a model are in random order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// None.
    Trained,
    /// Those of all tensors.
    Shuffled,
    /// Those of the blocks: what is before and after them, embeddings among it, stays.
    BlocksShuffled,
}

impl Order {
    /// What a model's name begins with.
    const PREFIXES: [(&str, Order); 2] =
        [("shuffled:", Order::Shuffled), ("shuffled-blocks:", Order::BlocksShuffled)];

    /// The order that a name asks for, and the name of the model.
    pub(super) fn of(name: &str) -> (Order, &str) {
        Order::PREFIXES
            .into_iter()
            .find_map(|(prefix, order)| Some((order, name.strip_prefix(prefix)?)))
            .unwrap_or((Order::Trained, name))
    }

    /// The name of a model in this order.
    pub(super) fn named(self, model: String) -> String {
        let prefix = Order::PREFIXES.into_iter().find(|(_, order)| *order == self);
        prefix.map_or(String::new(), |(prefix, _)| prefix.to_owned()) + &model
    }
}

/// Weights in random order.
pub(super) struct Shuffled<'a> {
    pub weights: &'a dyn ModelWeights,
    pub order: Order,
    /// Whether the unembedding is the embedding.
    pub tied: bool,
}

impl ModelWeights for Shuffled<'_> {
    fn ends(&self) -> Result<Embeddings> {
        let ends = self.weights.ends()?;
        if self.order != Order::Shuffled {
            return Ok(ends);
        }
        let mut places = Places::new(0);
        let embed = places.tensor(&ends.embed)?;
        let unembed = match self.tied {
            true => Linear { weight: embed.t()?, ..ends.unembed },
            false => places.linear(&ends.unembed)?,
        };
        Ok(Embeddings {
            positions: ends.positions.as_ref().map(|x| places.tensor(x)).transpose()?,
            ln_final: places.norm(&ends.ln_final)?,
            embed,
            unembed,
        })
    }

    fn block(&self, layer: usize) -> Result<BlockWeights> {
        let block = self.weights.block(layer)?;
        if self.order == Order::Trained {
            return Ok(block);
        }
        let mut places = Places::new(layer as u64 + 1);
        Ok(BlockWeights {
            ln1: places.norm(&block.ln1)?,
            qkv: places.linear(&block.qkv)?,
            out: places.linear(&block.out)?,
            ln2: places.norm(&block.ln2)?,
            gate: block.gate.as_ref().map(|gate| places.linear(gate)).transpose()?,
            up: places.linear(&block.up)?,
            down: places.linear(&block.down)?,
        })
    }

    fn finish(&self) -> Result<()> {
        self.weights.finish()
    }
}

/// Where the numbers of one tensor after another go, by one stream of random numbers.
struct Places(ChaCha8Rng);

impl Places {
    fn new(seed: u64) -> Places {
        Places(ChaCha8Rng::seed_from_u64(seed))
    }

    /// By Fisher and Yates; the small bias of a remainder of 64 bits is none that could be seen.
    fn tensor(&mut self, x: &Tensor) -> Result<Tensor> {
        let mut numbers = x.flatten_all()?.to_vec1::<f32>()?;
        for i in (1..numbers.len()).rev() {
            numbers.swap(i, (self.0.random::<u64>() % (i as u64 + 1)) as usize);
        }
        Ok(Tensor::from_vec(numbers, x.shape(), x.device())?)
    }

    fn linear(&mut self, linear: &Linear) -> Result<Linear> {
        let weight = self.tensor(&linear.weight)?;
        let bias = linear.bias.as_ref().map(|bias| self.tensor(bias)).transpose()?;
        Ok(Linear { weight, bias, ..linear.clone() })
    }

    fn norm(&mut self, norm: &LayerNormWeights) -> Result<LayerNormWeights> {
        let weight = self.tensor(&norm.weight)?;
        let bias = norm.bias.as_ref().map(|bias| self.tensor(bias)).transpose()?;
        Ok(LayerNormWeights { weight, bias })
    }
}

#[cfg(test)]
mod tests {
    use crate::model::tokens::Tokens;
    use crate::model::{HookPoint, Model};

    #[test]
    fn a_shuffled_model_keeps_its_numbers_and_knows_nothing() {
        for name in ["tiny-gpt2", "tiny-pythia"] {
            let model = Model::load(name).unwrap();
            let [all, blocks] = ["shuffled", "shuffled-blocks"]
                .map(|prefix| Model::load(&format!("{prefix}:{name}")).unwrap());
            assert_eq!(all.name(), format!("shuffled:{name}"));
            let ids = model.encode("Once upon a time there was a little girl").unwrap();
            let tokens = Tokens::new(ids.clone(), ids.len()).unwrap();
            let [knows, nothing, little] =
                [&model, &all, &blocks].map(|model| model.loss(&tokens).unwrap());
            assert!(knows + 2.0 < little.min(nothing), "{name}: {knows} {little} {nothing}");
            assert_eq!(all.n_params(), model.n_params());
            // The same name is the same model, and each order is one of its own.
            let again = Model::load(all.name()).unwrap();
            assert_eq!(again.fingerprint(), all.fingerprint());
            assert!(all.fingerprint() != model.fingerprint());
            assert!(all.fingerprint() != blocks.fingerprint());
            // Before the first block, the second is the model itself.
            let start = HookPoint::resid_pre(0);
            let at = |model: &Model| {
                let x = model.run_to(&tokens, start).unwrap().flatten_all().unwrap();
                x.to_vec1::<f32>().unwrap()
            };
            assert_eq!(at(&blocks), at(&model));
            assert!(at(&all) != at(&model));
        }
    }

    #[test]
    fn numbers_change_places_within_their_tensor() {
        use candle_core::{Device, Tensor};
        let x = Tensor::arange(0f32, 600.0, &Device::Cpu).unwrap().reshape((20, 30)).unwrap();
        let shuffled = super::Places::new(3).tensor(&x.t().unwrap()).unwrap();
        assert_eq!(shuffled.dims(), [30, 20]);
        let mut numbers = shuffled.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let at_home = numbers.iter().enumerate().filter(|(i, x)| *i as f32 == **x).count();
        assert!(at_home < 10, "{at_home}");
        numbers.sort_by(f32::total_cmp);
        assert!(numbers.iter().enumerate().all(|(i, x)| *x == i as f32));
    }
}
