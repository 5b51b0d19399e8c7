"""Synthetic models and their scores by SAELens, for tests/interchange/synthetic.rs.

    python synthetic.py scores DIR       scores DIR/sae on the rows in DIR/rows.safetensors, into DIR/scores.json
    python synthetic.py statistics DIR   checks how DIR/model was made, and counts what fires in rows that SAELens draws from it, into DIR/statistics.safetensors

DIR/model is a synthetic model that tokenized-sae wrote.
"""

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")

from sae_lens import SAE  # noqa: E402
from sae_lens.synthetic import SyntheticModel, eval_sae_on_synthetic_data, generate_hierarchy  # noqa: E402

BATCH = 2_000


class Given:
    """A generator of activations that were drawn elsewhere."""

    def __init__(self, rows, n_features):
        self.rows, self.n_features, self.at = rows, n_features, 0

    def sample(self, n):
        begin, self.at = self.at, self.at + n
        row = self.rows["row"]
        mask = (row >= begin) & (row < self.at)
        acts = torch.zeros(n, self.n_features)
        acts[(row[mask] - begin).long(), self.rows["feature"][mask].long()] = self.rows["value"][mask]
        return acts


def scores(folder):
    model = SyntheticModel.load_from_disk(folder / "model")
    sae = SAE.load_from_disk(folder / "sae")
    rows = load_file(folder / "rows.safetensors")
    n = int(rows["n"][0])
    found = eval_sae_on_synthetic_data(
        sae, model.feature_dict, Given(rows, model.cfg.num_features), num_samples=n, batch_size=BATCH
    )
    (folder / "scores.json").write_text(json.dumps({"rows": n, **found.to_dict()}))


def statistics(folder):
    model = SyntheticModel.load_from_disk(folder / "model")
    stored = load_file(folder / "model" / "synthetic_model.safetensors")
    # What SAELens derives from the settings is what was written.
    generator = model._create_activation_generator()
    torch.testing.assert_close(generator.firing_probabilities, stored["firing_probabilities"], rtol=2e-5, atol=1e-7)
    torch.testing.assert_close(generator.mean_firing_magnitudes, stored["mean_firing_magnitudes"])
    assert generate_hierarchy(model.cfg.num_features, replace(model.cfg.hierarchy), seed=0) == model.hierarchy
    square = stored["correlation_factor"].square().sum(1) + stored["correlation_diag"]
    torch.testing.assert_close(square, torch.ones_like(square))
    generator.std_firing_magnitudes = stored["std_firing_magnitudes"]
    torch.manual_seed(0)
    n, first = 100_000, 64
    fired, sums = torch.zeros(model.cfg.num_features), torch.zeros(model.cfg.num_features)
    together, norms = torch.zeros(first, first), []
    for _ in range(n // BATCH):
        acts = generator.sample(BATCH)
        is_on = (acts > 0).float()
        fired += is_on.sum(0)
        sums += acts.sum(0)
        together += is_on[:, :first].T @ is_on[:, :first]
        norms.append(model.feature_dict(acts).norm(dim=1))
    norms = torch.cat(norms)
    save_file(
        {"fired": fired, "sums": sums, "together": together.contiguous(), "norms": torch.stack([norms.mean(), norms.std()])},
        folder / "statistics.safetensors",
    )


{"scores": scores, "statistics": statistics}[sys.argv[1]](Path(sys.argv[2]))
