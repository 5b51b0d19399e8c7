//! The model card of an SAE: what the Hugging Face hub shows of a folder, and what a reader needs
//! to use it.

use std::path::Path;

use super::io::SaeFormat;
use super::{Architecture, Index, RowNorm, Sae};
use crate::base::error::Result;
use crate::base::files;
use crate::base::format;
use crate::display::{Figure, Table};
use crate::hub::Repo;

const CARD: &str = "README.md";

/// What a model card says that the SAE itself does not hold; by default nothing.
///
/// ```no_run
/// # use tokenized_sae::prelude::*;
/// # use tokenized_sae::sae::ModelCard;
/// # fn publish(model: &Model, hook: HookPoint, runs: &Runs, valid: &Tokens) -> Result<()> {
/// let about = ModelCard {
///     license: Some("mit".into()),
///     data: vec![("text".into(), "500,000 tokens of the model's own samples".into())],
///     metrics: vec![evaluate(model, hook, runs, valid)?.table()],
///     figures: vec![("reconstruction.svg".into(), plot::reconstruction(runs)?)],
/// };
/// runs.get("TSAE")?.sae.write_card("for-the-hub", &about)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ModelCard {
    /// The licence, by its name on the hub, such as `mit`. Whoever publishes an SAE decides on it,
    /// so none is named by default.
    pub license: Option<String>,
    /// What it was trained on, and how: names and values.
    pub data: Vec<(String, String)>,
    /// How well it does: tables with their definitions, such as an
    /// [`Evaluations`](crate::eval::Evaluations)'.
    pub metrics: Vec<Table>,
    /// Figures, each with the name of its file beside the card.
    pub figures: Vec<(String, Figure)>,
}

impl Sae {
    /// A model card: what it is, what it reads, how it computes, what it was trained on, how well
    /// it does, and how it is loaded; in Markdown, with the hub's front matter.
    ///
    /// ```
    /// # use tokenized_sae::prelude::*;
    /// # use tokenized_sae::sae::ModelCard;
    /// let card = Sae::new(SaeConfig::new(128, 4096))?.card(&ModelCard::default());
    /// assert!(card.starts_with("---\nlibrary_name: tokenized-sae\n"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn card(&self, about: &ModelCard) -> String {
        self.card_for(SaeFormat::Tsae, &[], about)
    }

    /// Writes the [card](Sae::card) to `dir/README.md`, and its figures beside it.
    ///
    /// A finished training and [`compare`](crate::experiments::compare::compare) leave a card with
    /// what they measured; [`export`](Sae::export) leaves one with what to know.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn write_card(&self, dir: impl AsRef<Path>, about: &ModelCard) -> Result<()> {
        let dir = dir.as_ref();
        files::create_folder(dir)?;
        for (name, figure) in &about.figures {
            figure.save(dir.join(name))?;
        }
        write(dir, &self.card(about))
    }

    /// Writes the card of an export.
    pub(super) fn write_card_of(
        &self,
        dir: &Path,
        format: SaeFormat,
        notes: &[String],
    ) -> Result<()> {
        write(dir, &self.card_for(format, notes, &ModelCard::default()))
    }

    fn card_for(&self, format: SaeFormat, notes: &[String], about: &ModelCard) -> String {
        let kind = if self.lookup.is_some() {
            "tokenized sparse autoencoder"
        } else {
            "sparse autoencoder"
        };
        let mut card = self.front_matter(format, about);
        let of = self
            .origin
            .model
            .as_deref()
            .map_or(String::new(), |model| format!(" of {}", in_line(model)));
        let at = self
            .origin
            .hook_name()
            .map_or(String::new(), |hook| format!(" at `{}`", in_line(&hook)));
        card += &format!("# A {kind}{of}{at}\n\n");
        card += &format!(
            "{} latents of width {} ({}), written for {format} by [tokenized-sae](https://crates.io/crates/tokenized-sae) {}.\n\n",
            format::count(self.d_sae() as u64),
            self.d_model(),
            self.config.architecture.name(),
            env!("CARGO_PKG_VERSION"),
        );
        card += &fenced(&self.table());
        card += "\n## What it computes\n\n```text\n";
        card += &self.formula();
        card += "```\n\nThese are the SAE's own terms; the library's files may use other names, and compute the same.\n";
        if !notes.is_empty() {
            card += "\n## What to know\n\n";
            card.extend(notes.iter().map(|note| format!("- {}\n", in_line(note))));
        }
        card += "\n## Training\n\n";
        if !about.data.is_empty() {
            card += "| | |\n| --- | --- |\n";
            card.extend(
                about
                    .data
                    .iter()
                    .map(|(name, value)| format!("| {} | {} |\n", in_line(name), in_line(value))),
            );
            card += "\n";
        }
        card += &fenced(&self.config.table());
        if !about.metrics.is_empty() {
            card += "\n## Metrics\n";
            card.extend(about.metrics.iter().map(|table| format!("\n{}", fenced(table))));
        }
        if !about.figures.is_empty() {
            card += "\n## Figures\n";
            let image = |(name, figure): &(String, Figure)| {
                format!("\n![{}]({name})\n", in_line(figure.summary()))
            };
            card.extend(about.figures.iter().map(image));
        }
        card += "\n## How to load it\n\n";
        card + &self.loading(format)
    }

    /// The YAML that the hub reads.
    fn front_matter(&self, format: SaeFormat, about: &ModelCard) -> String {
        let library = match format {
            SaeFormat::Tsae => "tokenized-sae",
            SaeFormat::SaeLens => "saelens",
            SaeFormat::Sparsify => "sparsify",
            SaeFormat::DictionaryLearning => "dictionary_learning",
            SaeFormat::Llamascopium => "llamascopium",
        };
        let mut yaml = format!("---\nlibrary_name: {library}\n");
        if let Some(license) = &about.license {
            yaml += &format!("license: {}\n", serde_json::Value::from(license.as_str())); // JSON's texts are YAML's
        }
        // A built-in model or a folder has no name on the hub.
        let base = self.origin.model.as_deref().and_then(|model| Repo::model(model).ok());
        if let Some(base) = base {
            yaml += &format!("base_model: {}\n", base.current_id());
        }
        yaml += "tags:\n- sparse-autoencoder\n- mechanistic-interpretability\n";
        if self.lookup.is_some() {
            yaml += "- tokenized-sae\n";
        }
        yaml + "---\n\n"
    }

    /// How the files of a format are loaded, in its library's language.
    fn loading(&self, format: SaeFormat) -> String {
        let python = |lines: &str| format!("```python\n{lines}\n```\n");
        let saelens = "from sae_lens import SAE\nsae = SAE.load_from_disk(\"this-folder\")";
        match format {
            SaeFormat::Tsae => {
                let rust = "```rust\nuse tokenized_sae::prelude::*;\n\nlet sae = Sae::load(\"this-folder\")?;\n\
                            // x: activations [n, d_model] as a Vec<f32>; tokens: the n token ids
                            // that they stand on\n\
                            let x_hat = sae.reconstruct(&x, &tokens)?;\n```\n";
                let keeps_signs =
                    self.config.architecture == Architecture::TopK && !self.config.relu;
                let python = match &self.index {
                    _ if self.lookup.is_none() && !keeps_signs => {
                        format!("\nIn Python, SAELens reads it:\n\n{}", python(saelens))
                    }
                    Index::Token => {
                        format!("\nIn Python, with PyTorch alone:\n\n{}", python(&self.in_torch()))
                    }
                    _ => String::new(),
                };
                rust.to_owned() + &python
            }
            SaeFormat::SaeLens => python(saelens),
            SaeFormat::Sparsify => python(
                "from sparsify import SparseCoder\nsae = SparseCoder.load_from_disk(\"this-folder\")",
            ),
            SaeFormat::DictionaryLearning => python(
                "from dictionary_learning.utils import load_dictionary\nsae, config = load_dictionary(\"this-folder\", device=\"cpu\")",
            ),
            SaeFormat::Llamascopium => python(
                "from llamascopium import SparseAutoEncoder\nsae = SparseAutoEncoder.from_pretrained(\"this-folder\")",
            ),
        }
    }

    /// What it computes, in Python.
    fn in_torch(&self) -> String {
        use Architecture::*;
        let row = if self.lookup.is_some() { " - w[\"W_lookup\"][tokens]" } else { "" };
        let (scaled, x) = match self.row_norm {
            RowNorm::None => ("", "x"),
            RowNorm::LayerNorm => (
                "mean, scale = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)\nz = (x - mean) / (scale + 1e-5)\n",
                "z",
            ),
            RowNorm::ConstantNorm => (
                "mean, scale = 0, x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5\nz = x / scale\n",
                "z",
            ),
        };
        let back =
            if self.row_norm == RowNorm::None { "" } else { "\nx_hat = scale * x_hat + mean" };
        let read = format!("{x} - w[\"b_dec\"]{}", if self.subtract { row } else { "" });
        let bias =
            if matches!(self.config.architecture, Gated { .. }) { "" } else { " + w[\"b_enc\"]" };
        let codes = match self.config.architecture {
            TopK => {
                let clamped = if self.config.relu { ".relu()" } else { "" };
                let top = format!("top = pre.topk({})", self.config.k);
                format!("{top}\ncodes = torch.zeros_like(pre).scatter_(-1, top.indices, top.values){clamped}")
            }
            BatchTopK | JumpRelu { .. } => "codes = pre * (pre > w[\"threshold\"])".to_owned(),
            Relu { .. } => "codes = pre.relu()".to_owned(),
            Gated { .. } => "codes = (pre + w[\"b_gate\"] > 0) * (pre * w[\"r_mag\"].exp() + w[\"b_mag\"]).relu()".to_owned(),
        };
        let table = if self.lookup.is_some() { " + w[\"W_lookup\"][tokens]" } else { "" };
        format!(
            "import torch\nfrom safetensors.torch import load_file\n\nw = load_file(\"this-folder/sae_weights.safetensors\")\n\
             # x: activations [n, d_model]; tokens: the n token ids that they stand on\n\
             {scaled}pre = ({read}) @ w[\"W_enc\"]{bias}\n{codes}\nx_hat = codes @ w[\"W_dec\"] + w[\"b_dec\"]{table}{back}"
        )
    }

    /// The computation, line by line.
    fn formula(&self) -> String {
        use super::Architecture::*;
        // With rows that are scaled, all of it is about z and ẑ instead of x and x̂.
        let (x, x_hat, scaled, back) = match self.row_norm {
            RowNorm::None => ("x", "x̂", "", ""),
            RowNorm::LayerNorm => (
                "z",
                "ẑ",
                "z     = (x − mean(x)) / (std(x) + 1e-5)\n",
                "x̂     = std(x)·ẑ + mean(x)\n",
            ),
            RowNorm::ConstantNorm => {
                ("z", "ẑ", "z     = √d_model · x / ‖x‖\n", "x̂     = ẑ · ‖x‖ / √d_model\n")
            }
        };
        let read = format!("{x} − b_dec{}", if self.subtract { " − W_lookup[token]" } else { "" });
        let bias = if matches!(self.config.architecture, Gated { .. }) { "" } else { " + b_enc" };
        let codes = match self.config.architecture {
            TopK if self.config.relu => {
                format!("the {} largest of pre, negative ones as 0", self.config.k)
            }
            TopK => format!("the {} largest of pre, kept as they are", self.config.k),
            BatchTopK => "pre where it exceeds the one threshold".to_owned(),
            Relu { .. } => "ReLU(pre)".to_owned(),
            Gated { .. } => "[pre + b_gate > 0] · ReLU(exp(r_mag)·pre + b_mag)".to_owned(),
            JumpRelu { .. } => "pre where it exceeds the latent's threshold".to_owned(),
        };
        let table = match (&self.lookup, &self.index) {
            (None, _) => "",
            (Some(_), Index::Token) => " + W_lookup[token]",
            (Some(_), Index::Ngrams(_)) => " + W_lookup[longest known n-gram that ends here]",
            (Some(_), Index::Latents(_)) => {
                " + Σ code·W_lookup[latent] over the preceding SAE's codes"
            }
        };
        format!(
            "{scaled}pre   = W_enc ({read}){bias}\ncodes = {codes}\n{x_hat}     = codes · W_dec + b_dec{table}\n{back}"
        )
    }
}

fn write(dir: &Path, card: &str) -> Result<()> {
    files::write_atomic(&dir.join(CARD), |out| out.write_all(card.as_bytes()))
}

/// Text within a line of Markdown.
fn in_line(text: &str) -> String {
    text.replace('\n', " ").replace('<', "&lt;").replace('|', "\\|")
}

/// A table with its definitions, as it stands in a terminal.
fn fenced(table: &Table) -> String {
    format!("```text\n{}```\n", table.text().replace("```", "'''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::SaeConfig;

    fn of(model: Option<&str>) -> Sae {
        let mut sae = Sae::new(SaeConfig { k: 2, ..SaeConfig::new(4, 9) }).unwrap();
        sae.origin.model = model.map(str::to_owned);
        sae
    }

    #[test]
    fn the_front_matter_names_what_the_hub_knows() {
        let matter = |model, license: Option<&str>| {
            let about = ModelCard { license: license.map(str::to_owned), ..ModelCard::default() };
            let card = of(model).card(&about);
            card.split("---\n").nth(1).unwrap_or_default().to_owned()
        };
        let tags = "tags:\n- sparse-autoencoder\n- mechanistic-interpretability\n";
        assert_eq!(matter(Some("tiny-gpt2"), None), format!("library_name: tokenized-sae\n{tags}"));
        let gpt2 = matter(Some("gpt2"), Some("mit"));
        assert_eq!(
            gpt2,
            format!(
                "library_name: tokenized-sae\nlicense: \"mit\"\nbase_model: openai-community/gpt2\n{tags}"
            )
        );
        assert!(
            matter(Some("pythia-70m@step3000"), None)
                .contains("base_model: EleutherAI/pythia-70m\n")
        );
        assert!(!matter(Some("a/b\ntags: [x]"), None).contains("base_model"));
    }

    #[test]
    fn a_card_says_what_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let figure = of(None).norms().unwrap();
        let about = ModelCard {
            data: vec![("text".into(), "books | and more".into())],
            metrics: vec![Table::pairs("Held out", &[("NMSE", "0.5".into())])],
            figures: vec![("norms.svg".into(), figure.clone())],
            ..ModelCard::default()
        };
        of(None).write_card(dir.path(), &about).unwrap();
        let card = std::fs::read_to_string(dir.path().join(CARD)).unwrap();
        let image = format!("![{}](norms.svg)", figure.summary());
        for part in [
            "| text | books \\| and more |",
            "Held out",
            "NMSE  0.5",
            &image,
            "Sae::load",
            "pre.topk(2)",
        ] {
            assert!(card.contains(part), "{part} is not in\n{card}");
        }
        assert_eq!(
            std::fs::read_to_string(dir.path().join("norms.svg")).unwrap(),
            figure.standalone()
        );
    }
}
