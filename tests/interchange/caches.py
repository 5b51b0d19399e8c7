"""Activation caches of SAELens, for tests/interchange/caches.rs.

    python caches.py make DIR    what CacheActivationsRunner writes of the model in tests/golden/gpt2, in float32 and float16, and beside each
                                 NAME.safetensors: the numbers and tokens that datasets reads back
    python caches.py check DIR   reads each folder that tokenized-sae wrote with datasets and with SAELens' own ActivationsStore, and compares with
                                 NAME.safetensors, bit by bit

Needs sae-lens 6 and transformer-lens. tests/golden/caches was made by `make`, with the versions in tests/golden/sae/versions.txt.
"""

import os
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import datasets
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from sae_lens import cache_activations_runner
from sae_lens.config import CacheActivationsRunnerConfig
from sae_lens.training.activations_store import ActivationsStore
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import GPT2LMHeadModel

GOLDEN = Path(__file__).parent.parent / "golden"
HOOK, N_SEQ, N_CTX = "blocks.1.hook_resid_pre", 8, 8


def model():
    """The model in tests/golden/gpt2, unprocessed."""
    theirs = GPT2LMHeadModel.from_pretrained(GOLDEN / "gpt2")
    c = theirs.config
    config = HookedTransformerConfig(
        n_layers=c.n_layer, d_model=c.n_embd, n_ctx=c.n_positions, n_heads=c.n_head, d_head=c.n_embd // c.n_head, d_mlp=c.n_inner,
        d_vocab=c.vocab_size, act_fn="gelu_new", eps=c.layer_norm_epsilon, normalization_type="LN",
    )  # fmt: skip
    ours = HookedTransformer(config)
    ours.load_state_dict(convert_gpt2_weights(theirs, config), strict=False)
    return ours


def make(folder):
    tokens = torch.randint(1, 61, (N_SEQ, N_CTX), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = 0
    of = model()
    cache_activations_runner.load_model = lambda **_: of
    for dtype in ["float32", "float16"]:
        config = CacheActivationsRunnerConfig(
            dataset_path="none", model_name="golden", hook_name=HOOK, d_in=of.cfg.d_model, context_size=N_CTX,
            training_tokens=N_SEQ * N_CTX, new_cached_activations_path=str(folder / dtype), dtype=dtype, device="cpu",
            model_batch_size=2, buffer_size_gb=4 * N_CTX * of.cfg.d_model * 4 / 1e9, prepend_bos=False, streaming=False, shuffle=False,
        )  # fmt: skip
        runner = cache_activations_runner.CacheActivationsRunner(config, override_dataset=Dataset.from_dict({"input_ids": tokens.tolist()}))
        saved = runner.run().with_format("torch")
        x, ids = torch.stack(list(saved[HOOK])), torch.stack(list(saved["token_ids"]))
        save_file({"x": x.float().contiguous(), "tokens": ids.int().contiguous()}, folder / f"{dtype}.safetensors")


def check(folder):
    failed = 0
    for cache in sorted(path for path in folder.iterdir() if path.is_dir()):
        expected = load_file(folder / f"{cache.name}.safetensors")
        x, tokens = expected["x"], expected["tokens"]
        n_seq, n_ctx, d_in = x.shape
        read = datasets.load_from_disk(cache)
        dtype = read.features[HOOK].dtype
        read = read.with_format("torch")
        same = torch.equal(torch.stack(list(read[HOOK])).float(), x) and torch.equal(torch.stack(list(read["token_ids"])).int(), tokens)
        store = ActivationsStore(
            model=None, dataset=None, cached_activations_path=str(cache), hook_name=HOOK, hook_head_index=None, context_size=n_ctx, d_in=d_in,
            n_batches_in_buffer=2, total_training_tokens=n_seq * n_ctx, store_batch_size_prompts=n_seq, train_batch_size_tokens=n_ctx,
            prepend_bos=False, normalize_activations="none", device=torch.device("cpu"), dtype="float32", streaming=False,
        )  # fmt: skip
        rows, ids = store.get_raw_llm_batch()
        same = same and torch.equal(rows.reshape(x.shape), x) and torch.equal(ids.reshape(tokens.shape).int(), tokens)
        print(f"{cache.name:10} {dtype} {tuple(x.shape)} {'the same' if same else 'differs'}")
        failed += not same
    return failed


if __name__ == "__main__":
    verb, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    sys.exit(check(folder) if verb == "check" else make(folder))
