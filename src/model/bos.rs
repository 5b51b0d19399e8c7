//! What stands at position 0, and what ends a document.

use tokenizers::Tokenizer;

use crate::model::config::ModelConfig;
use crate::model::vocabulary;

impl ModelConfig {
    /// Settles what stands at position 0 and what ends a document: ids within the vocabulary, so
    /// that a `bos` which no embedding has is not used.
    pub(super) fn settle_bos(&mut self, tokenizer: Option<&Tokenizer>) {
        let end_of_text = tokenizer.and_then(vocabulary::end_of_text);
        let from_file = [
            (Some(self.bos), ""),
            (Some(self.eos), "the eos_token_id of config.json, which has no bos_token_id of use"),
        ];
        let candidates = if self.family.centres() {
            vec![from_file[0], from_file[1], (end_of_text, "config.json names none")]
        } else {
            let own = (tokenizer.and_then(vocabulary::put_first), "the tokenizer puts it first");
            let end_of_text =
                (end_of_text, "the tokenizer puts none first, and this one parts documents");
            vec![own, end_of_text, from_file[0], from_file[1]]
        };
        let known = |id: &u32| (*id as usize) < self.d_vocab;
        let found = candidates.into_iter().find_map(|(id, is)| Some((id.filter(known)?, is)));
        if let Some((id, is)) = found {
            (self.bos, self.bos_is) = (id, is);
        }
        if let Some(id) = end_of_text.filter(|id| !self.family.centres() && known(id)) {
            self.eos = id;
        }
        if self.eos as usize >= self.d_vocab {
            self.eos = self.bos;
        }
    }
}
