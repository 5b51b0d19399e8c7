#!/usr/bin/env python3
"""Trains the two small language models of this folder.

The two models were made by these command lines, run from the root of the repository:

    python models/train.py --books BOOKS --out models --model tiny-gpt2 --tokens 12000000 --threads 1
    python models/train.py --books BOOKS --out models --model tiny-pythia --tokens 12000000 --threads 1

BOOKS is the unpacked text: a folder of Markdown files, one book each.
Both models share one tokenizer. The first run trains it, on a sample of the training books.
Tokens and checkpoints are kept in the folder given by --work; a stopped run continues from there.
After a finished run, remove WORK/MODEL.checkpoint.pt before you train that model anew.

To print the figures of a finished model (unigram entropy and held-out loss):

    python models/train.py --books BOOKS --out models --model tiny-gpt2 --eval
"""

import argparse
import copy
import hashlib
import math
import os
import re
import shutil
import time
import unicodedata
from pathlib import Path

MODELS = ("tiny-gpt2", "tiny-pythia")
VOCAB, WIDTH, LAYERS, HEADS, CONTEXT = 4096, 128, 4, 4, 256
BOS_TEXT, BOS = "<|endoftext|>", 0
SEED = 20240601


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--books", type=Path, required=True, help="folder of Markdown files, searched in depth")
    p.add_argument("--out", type=Path, required=True, help="the model is written to OUT/MODEL")
    p.add_argument("--model", choices=MODELS, required=True)
    p.add_argument("--tokens", type=int, default=12_000_000, help="training tokens")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--work", type=Path, default=Path("target/models"), help="folder for tokens and checkpoints")
    p.add_argument("--batch", type=int, default=8, help="sequences a step")
    p.add_argument("--lr", type=float, default=4e-3, help="peak learning rate")
    p.add_argument("--precision", choices=("bf16", "f32"), default="bf16")
    p.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    p.add_argument("--eval", action="store_true", help="no training: print the figures of OUT/MODEL")
    return p.parse_args()


ARGS = arguments()
os.environ["RAYON_NUM_THREADS"] = str(ARGS.threads)
os.environ["OMP_NUM_THREADS"] = str(ARGS.threads)

import numpy as np  # noqa: E402  (the thread counts must be set before these are loaded)
import torch  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging  # noqa: E402


# ---------------------------------------------------------------- text


def name_hash(path):
    """A number from the file name alone, the same on every machine."""
    name = unicodedata.normalize("NFC", path.name)
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big")


def is_held_out(path):
    return name_hash(path) % 32 == 0


def read_book(path):
    text = path.read_text("utf-8").replace("\ufeff", "").replace("\u00a0", " ")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def write_whole(path, write):
    """Writes beside `path`, then renames: a reader never sees half a file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    write(part)
    os.replace(part, path)


def get_tokenizer(train_books):
    path = ARGS.work / "tokenizer.json"
    if not path.exists():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
        trainer = trainers.BpeTrainer(
            vocab_size=VOCAB,
            special_tokens=[BOS_TEXT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        sample = [b for b in train_books if name_hash(b) % 5 == 1]
        print(f"tokenizer: from {len(sample)} training books", flush=True)
        tokenizer.train_from_iterator((read_book(b) for b in sample), trainer)
        write_whole(path, lambda p: tokenizer.save(str(p)))
    tokenizer = Tokenizer.from_file(str(path))
    assert tokenizer.get_vocab_size() == VOCAB and tokenizer.token_to_id(BOS_TEXT) == BOS
    return tokenizer


def pack(tokenizer, books):
    """Books joined by BOS, cut into pieces of 255, BOS put before each: rows of 256."""
    stream = []
    for start in range(0, len(books), 16):
        texts = [read_book(b) for b in books[start : start + 16]]
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            if stream:
                stream.append(np.array([BOS], dtype=np.uint16))
            stream.append(np.array(encoding.ids, dtype=np.uint16))
    stream = np.concatenate(stream)
    rows = len(stream) // (CONTEXT - 1)
    body = stream[: rows * (CONTEXT - 1)].reshape(rows, CONTEXT - 1)
    return np.concatenate([np.full((rows, 1), BOS, dtype=np.uint16), body], axis=1)


def get_rows():
    """The packed training rows and held-out rows, made once and kept in --work."""
    ARGS.work.mkdir(parents=True, exist_ok=True)
    books = sorted(ARGS.books.rglob("*.md"), key=lambda b: unicodedata.normalize("NFC", str(b.relative_to(ARGS.books))))
    parts = {
        "train": [b for b in books if not is_held_out(b)],
        "held-out": [b for b in books if is_held_out(b)],
    }
    tokenizer = get_tokenizer(parts["train"])
    rows = {}
    for part, part_books in parts.items():
        path = ARGS.work / f"{part}.npy"
        if not path.exists():
            write_whole(path, lambda p: np.save(p.open("wb"), pack(tokenizer, part_books)))
        rows[part] = np.load(path, mmap_mode="r")
        print(f"{part}: {len(part_books)} books, {rows[part].size:,} tokens", flush=True)
    return rows["train"], rows["held-out"]


# ---------------------------------------------------------------- model


def new_model():
    torch.manual_seed(SEED)
    if ARGS.model == "tiny-gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCAB,
                n_positions=CONTEXT,
                n_embd=WIDTH,
                n_layer=LAYERS,
                n_head=HEADS,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=BOS,
                eos_token_id=BOS,
            )
        )
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=VOCAB,
            max_position_embeddings=CONTEXT,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH,
            hidden_act="gelu",
            rotary_pct=0.25,
            rotary_emb_base=10000,
            use_parallel_residual=True,
            tie_word_embeddings=False,
            bos_token_id=BOS,
            eos_token_id=BOS,
        )
    )


def save_model(model, folder):
    """Writes the model in f16 with its tokenizer, file by file, each whole."""
    folder.mkdir(parents=True, exist_ok=True)
    part = ARGS.work / f"{ARGS.model}.part"
    shutil.rmtree(part, ignore_errors=True)
    copy.deepcopy(model).half().save_pretrained(part)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(ARGS.work / "tokenizer.json"),
        bos_token=BOS_TEXT,
        eos_token=BOS_TEXT,
        unk_token=BOS_TEXT,
        model_max_length=CONTEXT,
    )
    tokenizer.save_pretrained(part)
    for file in sorted(part.iterdir()):
        write_whole(folder / file.name, lambda p: shutil.copyfile(file, p))
    shutil.rmtree(part)


def mean_loss(model, rows):
    """Mean next-token loss of a batch in nats. The BOS at position 0 is read, never predicted."""
    rows = torch.from_numpy(rows.astype(np.int64))
    logits = model(rows, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())


@torch.no_grad()
def held_out_loss(model, rows):
    model.eval()
    parts = [rows[i : i + 4] for i in range(0, len(rows), 4)]
    total = sum(mean_loss(model, part).item() * len(part) for part in parts)
    model.train()
    return total / len(rows)


def unigram_entropy(rows):
    counts = np.bincount(rows[:, 1:].reshape(-1), minlength=VOCAB)
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


# ---------------------------------------------------------------- training


def optimizers(model):
    """Muon for the matrices inside the blocks, AdamW for the rest (or AdamW for all)."""
    named = list(model.named_parameters())
    inner = [p for n, p in named if p.ndim == 2 and (".h." in n or ".layers." in n)]
    if ARGS.optimizer == "adamw":
        inner = []
    chosen = {id(p) for p in inner}
    groups = [
        {"params": [p for _, p in named if id(p) not in chosen and p.ndim == 2], "weight_decay": 0.05},
        {"params": [p for _, p in named if id(p) not in chosen and p.ndim != 2], "weight_decay": 0.0},
    ]
    made = [torch.optim.AdamW(groups, lr=ARGS.lr, betas=(0.9, 0.98), eps=1e-8)]
    if inner:
        made.append(torch.optim.Muon(inner, lr=ARGS.lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"))
    return made


def rate(step, steps):
    """Linear warm-up, then a cosine down to 1% of the peak."""
    warm = max(1, min(200, steps // 20))
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def train():
    train_rows, test_rows = get_rows()
    few = test_rows[np.random.default_rng(SEED).permutation(len(test_rows))[:128]]
    order = np.random.default_rng(SEED).permutation(len(train_rows))
    steps = ARGS.tokens // (ARGS.batch * CONTEXT)
    model = new_model()
    opts = optimizers(model)
    print(f"{ARGS.model}: {sum(p.numel() for p in model.parameters()):,} parameters, {steps} steps", flush=True)

    checkpoint = ARGS.work / f"{ARGS.model}.checkpoint.pt"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        assert state["steps"] == steps, "the checkpoint is of a run with another token budget"
        model.load_state_dict(state["model"])
        for opt, saved in zip(opts, state["opts"]):
            opt.load_state_dict(saved)
        first = state["step"]
        print(f"going on from step {first}", flush=True)

    model.train()
    began, recent = time.time(), []
    for step in range(first, steps):
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = ARGS.lr * rate(step, steps)
        picked = [order[i % len(order)] for i in range(step * ARGS.batch, (step + 1) * ARGS.batch)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=ARGS.precision == "bf16"):
            loss = mean_loss(model, train_rows[np.sort(picked)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        recent.append(loss.item())
        done = step + 1
        if done % 50 == 0 or done == steps:
            speed = (done - first) * ARGS.batch * CONTEXT / (time.time() - began)
            left = (steps - done) * ARGS.batch * CONTEXT / speed / 60
            print(f"step {done}/{steps} loss {np.mean(recent):.4f} {speed:.0f} tokens/s, {left:.0f} min left", flush=True)
            recent = []
        if done % 250 == 0 or done == steps:
            print(f"step {done}/{steps} held-out (128 rows) {held_out_loss(model, few):.4f}", flush=True)
            state = {"model": model.state_dict(), "opts": [o.state_dict() for o in opts], "step": done, "steps": steps}
            write_whole(checkpoint, lambda p: torch.save(state, p))
            save_model(model, ARGS.work / "checkpoint" / ARGS.model)
    save_model(model, ARGS.out / ARGS.model)
    print(f"held-out loss before rounding to f16: {held_out_loss(model, test_rows):.4f} nats per token", flush=True)


def evaluate():
    """The figures of the files as they are saved: f16 weights, computed in f32."""
    _, test_rows = get_rows()
    model = AutoModelForCausalLM.from_pretrained(ARGS.out / ARGS.model, dtype=torch.float32)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    entropy, loss = unigram_entropy(test_rows), held_out_loss(model, test_rows)
    print(f"{ARGS.model}: held-out targets {test_rows[:, 1:].size:,}")
    print(f"unigram entropy {entropy:.4f} nats per token")
    print(f"held-out loss   {loss:.4f} nats per token ({entropy - loss:.4f} below)")


if __name__ == "__main__":
    torch.set_num_threads(ARGS.threads)
    logging.disable_progress_bar()
    if not ARGS.eval:
        train()
    evaluate()
