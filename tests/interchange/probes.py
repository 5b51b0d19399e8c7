"""Logistic regressions by scikit-learn, for tests/interchange/probes.rs.

    python probes.py fit DIR   fits the rows in DIR/rows.safetensors, into DIR/fits.json
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression

folder = Path(sys.argv[2])
rows = load_file(folder / "rows.safetensors")
x, labels = rows["x"].astype(np.float64), rows["labels"]
fits = []
for weight in (None, "balanced"):
    for c in (0.1, 1.0):
        fit = LogisticRegression(C=c, class_weight=weight, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(x, labels)
        fits.append({"c": c, "balanced": weight is not None, "weights": fit.coef_[0].tolist(), "bias": float(fit.intercept_[0])})
(folder / "fits.json").write_text(json.dumps(fits))
