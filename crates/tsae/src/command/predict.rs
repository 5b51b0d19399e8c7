//! `tsae predict`.

use tokenized_sae::model::Candidate;
use tsae::Result;

use super::common::ModelArgs;
use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae predict tiny-gpt2 --text 'It was a dark and stormy'
  tsae predict tiny-pythia --token-ids 0,12,34 --top 3 --json";

/// Show what a model expects next.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Predict {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to continue; the beginning-of-sequence token is put before it.
    #[arg(long, required_unless_present = "token_ids", conflicts_with = "token_ids")]
    text: Option<String>,
    /// Token ids to continue, taken as they are: 1,2,3.
    #[arg(long, value_delimiter = ',')]
    token_ids: Option<Vec<u32>>,
    /// How many next tokens to show.
    #[arg(long, default_value_t = 10)]
    top: usize,
    #[command(flatten)]
    output: Output,
}

impl Predict {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        let model = self.model.load()?;
        let ids = match (self.text, self.token_ids) {
            (Some(text), _) => [vec![model.bos()], model.encode(&text)?].concat(),
            (None, ids) => ids.unwrap_or_default(),
        };
        let prediction = model.predict(&ids, self.top)?;
        self.output.result(&prediction, || {
            let line =
                |it: &Candidate| format!("{:>9.4}  {:>6}  {:?}", it.logprob, it.id, it.token);
            let loss =
                prediction.loss.map(|loss| format!("loss of the given tokens: {loss:.4} nats"));
            prediction.top.iter().map(line).chain(loss).collect::<Vec<_>>().join("\n")
        })
    }
}
