//! The model card of an SAE: what the Hugging Face hub shows of a folder, and what a reader needs to use it.

use super::io::{Exported, SaeFormat};
use super::{Index, Sae};
use crate::display::{Table, format};
use crate::error::Result;
use crate::files;

const CARD: &str = "README.md";

impl Sae {
    /// A model card: what it is, what it reads, how it computes, and how it is loaded, in Markdown with the hub's front matter.
    ///
    /// [`export`](Sae::export) writes one beside the files. `metrics` are tables to go with it, such as that of an
    /// [`Evaluation`](crate::eval::Evaluation).
    ///
    /// ```
    /// # use tokenized_sae::prelude::*;
    /// let card = Sae::new(SaeConfig::new(128, 4096))?.card(&[]);
    /// assert!(card.starts_with("---\nlibrary_name: tokenized-sae\n"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn card(&self, metrics: &[Table]) -> String {
        self.card_for(SaeFormat::Tsae, &[], metrics)
    }

    /// Writes the card of an export.
    pub(super) fn write_card(&self, exported: &Exported) -> Result<()> {
        let text = self.card_for(exported.format, &exported.notes, &[]);
        files::write_atomic(&exported.dir.join(CARD), |out| out.write_all(text.as_bytes()))
    }

    fn card_for(&self, format: SaeFormat, notes: &[String], metrics: &[Table]) -> String {
        let kind = if self.lookup.is_some() { "tokenized sparse autoencoder" } else { "sparse autoencoder" };
        let library = match format {
            SaeFormat::Tsae => "tokenized-sae",
            SaeFormat::SaeLens => "saelens",
            SaeFormat::Sparsify => "sparsify",
            SaeFormat::DictionaryLearning => "dictionary_learning",
            SaeFormat::Llamascopium => "llamascopium",
        };
        let mut card = format!("---\nlibrary_name: {library}\n");
        if let Some(model) = self.origin.model.as_deref().filter(|model| is_on_hub(model)) {
            card += &format!("base_model: {model}\n");
        }
        card += "tags:\n- sparse-autoencoder\n- mechanistic-interpretability\n";
        if self.lookup.is_some() {
            card += "- tokenized-sae\n";
        }
        card += "---\n\n";
        let of = self.origin.model.as_deref().map_or(String::new(), |model| format!(" of {}", in_line(model)));
        let at = self.origin.hook.map_or(String::new(), |hook| format!(" at `{hook}`"));
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
        card += "```\n\nThese are the SAE's own terms; what the library's files name otherwise computes the same.\n";
        if !notes.is_empty() {
            card += "\n## What to know\n\n";
            card.extend(notes.iter().map(|note| format!("- {}\n", in_line(note))));
        }
        card += "\n## Training settings\n\n";
        card += &fenced(&self.config.table());
        for table in metrics {
            card += "\n## Metrics\n\n";
            card += &fenced(table);
        }
        card += "\n## How to load it\n\n";
        card += match format {
            SaeFormat::Tsae => "```rust\nlet sae = Sae::load(\"this-folder\")?;\n```\n",
            SaeFormat::SaeLens => "```python\nfrom sae_lens import SAE\nsae = SAE.load_from_disk(\"this-folder\")\n```\n",
            SaeFormat::Sparsify => "```python\nfrom sparsify import SparseCoder\nsae = SparseCoder.load_from_disk(\"this-folder\")\n```\n",
            SaeFormat::DictionaryLearning => {
                "```python\nfrom dictionary_learning.utils import load_dictionary\nsae, config = load_dictionary(\"this-folder\", device=\"cpu\")\n```\n"
            }
            SaeFormat::Llamascopium => {
                "```python\nfrom llamascopium import SparseAutoEncoder\nsae = SparseAutoEncoder.from_pretrained(\"this-folder\")\n```\n"
            }
        };
        card
    }

    /// The computation, line by line.
    fn formula(&self) -> String {
        use super::Architecture::*;
        let read = if self.subtract { "x − b_dec − W_lookup[token]" } else { "x − b_dec" };
        let bias = if matches!(self.config.architecture, Gated { .. }) { "" } else { " + b_enc" };
        let codes = match self.config.architecture {
            TopK if self.config.relu => format!("the {} largest of pre, negative ones as 0", self.config.k),
            TopK => format!("the {} largest of pre, kept as they are", self.config.k),
            BatchTopK => "pre where it exceeds the one threshold".to_owned(),
            Relu { .. } => "ReLU(pre)".to_owned(),
            Gated { .. } => "[pre + b_gate > 0] · ReLU(exp(r_mag)·pre + b_mag)".to_owned(),
            JumpRelu { .. } => "pre where it exceeds the latent's threshold".to_owned(),
        };
        let table = match (&self.lookup, &self.index) {
            (None, _) => "",
            (Some(_), Index::Token) => " + W_lookup[token]",
            (Some(_), Index::Grams(_)) => " + W_lookup[longest known n-gram that ends here]",
            (Some(_), Index::Latents(_)) => " + Σ code·W_lookup[latent] over the preceding SAE's codes",
        };
        format!("pre   = W_enc ({read}){bias}\ncodes = {codes}\nx̂     = codes · W_dec + b_dec{table}\n")
    }
}

/// Whether a name can be one of a model on the hub.
fn is_on_hub(model: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    model.chars().all(is_plain) && model.split('/').count() == 2 && !model.starts_with(['/', '.']) && !model.ends_with('/')
}

/// Text within a line of Markdown.
fn in_line(text: &str) -> String {
    text.replace('\n', " ").replace('<', "&lt;").replace('|', "\\|")
}

/// A table with its definitions, as it stands in a terminal.
fn fenced(table: &Table) -> String {
    format!("```text\n{}```\n", table.text().replace("```", "'''"))
}
