"""Runs the Python of docs/coming-from-saelens.md, for tests/interchange/guide.rs: `python guide.py run DIR`, in the folder DIR.

A small random model, and random tokens, stand in the place of GPT-2 and of a data set of the hub; the numbers of the page are made to fit them.
"""

import os
import re
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import sae_lens.cache_activations_runner
import sae_lens.llm_sae_training_runner
import sae_lens.training.activations_store
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import PreTrainedTokenizerFast

PAGE = Path(__file__).parent.parent.parent / "docs" / "coming-from-saelens.md"
SMALL = [
    ("blocks.8.", "blocks.1."), ("768", "32"), ("12_288", "64"), ("k=30", "k=4"), ("256", "16"), ("4096", "32"), ("10_000_000", "1024"),
    ("buffer_size_gb=0.5", "buffer_size_gb=2e-5"),
]  # fmt: skip

torch.manual_seed(0)
model = HookedTransformer(HookedTransformerConfig(n_layers=2, d_model=32, n_ctx=16, d_head=8, d_vocab=61, act_fn="gelu", seed=0))
tokens = Dataset.from_dict({"input_ids": torch.randint(1, 61, (4096, 16)).tolist()})


def load_dataset(*_, **__):
    return tokens


words = Tokenizer(WordLevel({str(i): i for i in range(61)}, unk_token="1"))
model.tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="0", eos_token="0", pad_token="0")
for module in [sae_lens.cache_activations_runner, sae_lens.llm_sae_training_runner]:
    module.load_model = lambda *_, **__: model
store = sae_lens.training.activations_store
store.load_dataset = load_dataset
store.validate_pretokenized_dataset_tokenizer = lambda *_, **__: None  # it asks the hub how the data set was tokenized
HookedTransformer.from_pretrained_no_processing = staticmethod(lambda *_, **__: model)


def main():
    os.chdir(sys.argv[2])
    names, blocks = {}, re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    for block in blocks:
        for large, small in SMALL:
            block = block.replace(large, small)
        if "for-saelens" in block and not Path("for-saelens").exists():
            names["sae"].save_inference_model("for-saelens")
        exec(block, names)
    assert len(blocks) == 4, len(blocks)
    assert names["sae"].cfg.d_sae == 64
    assert Path("cache/gpt2/state.json").is_file() and Path("runs/SAE/cfg.json").is_file()


main()
