"""Trains an SAE by SAELens' own trainer on rows from standard input, for scripts/beside-saelens.sh.

    synthetic_rows DIR rows SAMPLES | python beside.py ARCH SAMPLES OUT

4,096 latents, batch 1,024, learning rate 3e-4 that stays, L0 25: SynthSAEBench's recipe. OUT gets the SAE, and OUT/seconds.txt the time of training.
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

warnings.filterwarnings("ignore")

from sae_lens import (  # noqa: E402
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
)
from sae_lens.config import LoggingConfig, SAETrainerConfig  # noqa: E402
from sae_lens.training.sae_trainer import SAETrainer  # noqa: E402

D, LATENTS, BATCH, L0, LR = 768, 4096, 1024, 25, 3e-4


def untrained(arch):
    size = {"d_in": D, "d_sae": LATENTS, "device": "cpu", "dtype": "float32"}
    topk = {"k": L0, "rescale_acts_by_decoder_norm": True, **size}
    match arch:
        case "batch-topk":
            return BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**topk))
        case "matryoshka":
            widths = [LATENTS // part for part in (32, 8, 2, 1)]
            return MatryoshkaBatchTopKTrainingSAE(MatryoshkaBatchTopKTrainingSAEConfig(matryoshka_widths=widths, **topk))
    sys.exit(f"{arch}: say batch-topk or matryoshka")


def rows():
    while piece := sys.stdin.buffer.read(4 * D * BATCH):
        yield torch.from_numpy(np.frombuffer(piece, "<f4").reshape(-1, D).copy())


def main(arch, samples, out):
    torch.manual_seed(0)
    sae = untrained(arch)
    config = SAETrainerConfig(
        total_training_samples=samples // BATCH * BATCH,
        train_batch_size_samples=BATCH,
        lr=LR,
        lr_end=LR,
        logger=LoggingConfig(log_to_wandb=False),
    )
    begun = time.monotonic()
    SAETrainer(config, sae, rows()).fit()
    seconds = time.monotonic() - begun
    sae.save_inference_model(str(out))
    (out / "seconds.txt").write_text(f"{seconds:.1f}\n")


main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
