//! The numbers of arXiv 2502.17332.
//!
//! [`PARETO`] are the points behind the figure "Pareto" of the authors' page on the paper (GPT-2
//! small, layer 8), to all their digits. [`SPEEDUPS`] are read from the heights of the bars of its
//! figures "speedup GPT-2" and "speedup Pythia"; those of GPT-2 all equal 65/n for some n in steps
//! of a half, hence about 65,000 steps measured every 500, so that a bar is right to 5 to 10 %.

/// What stands below the table.
pub(super) const PARETO_SOURCE: &str =
    "The points of the authors' Pareto figure, arXiv 2502.17332.";

/// What stands below the table.
pub(super) const SPEEDUPS_SOURCE: &str =
    "Read from the bars of the authors' figures, arXiv 2502.17332; right to 5 to 10 %.";

/// Reconstruction against sparsity. "ReLU" is what the figure calls vanilla.
/// Method, L0, CE added, NMSE.
pub(super) const PARETO: [(&str, f64, f64, f64); 22] = [
    ("ReLU", 6.71, 0.470, 0.3328),
    ("ReLU", 21.4, 0.1363, 0.1651),
    ("ReLU", 51.6, 0.06, 0.1166),
    ("ReLU", 148.8, 0.029, 0.079),
    ("ReLU + lookup", 2.8, 0.420, 0.2934),
    ("ReLU + lookup", 12.9, 0.1645, 0.170),
    ("ReLU + lookup", 38.9, 0.0667, 0.1152),
    ("ReLU + lookup", 115.0, 0.031, 0.080),
    ("Gated", 3.291, 0.537, 0.3392),
    ("Gated", 8.845, 0.160, 0.1689),
    ("Gated", 20.512, 0.055, 0.1165),
    ("Gated", 56.717, 0.024, 0.0805),
    ("TopK", 5.0, 0.309, 0.233),
    ("TopK", 10.0, 0.116, 0.154),
    ("TopK", 20.0, 0.047, 0.107),
    ("TopK", 30.0, 0.034, 0.093),
    ("TopK", 50.0, 0.023, 0.077),
    ("TopK + lookup", 5.0, 0.137, 0.163),
    ("TopK + lookup", 10.0, 0.077, 0.126),
    ("TopK + lookup", 20.0, 0.036, 0.092),
    ("TopK + lookup", 30.0, 0.027, 0.080),
    ("TopK + lookup", 50.0, 0.015, 0.065),
];

/// Training speed by layer.
/// Model, its number of layers, layer, CE added, NMSE.
pub(super) const SPEEDUPS: [(&str, usize, usize, f64, f64); 10] = [
    ("gpt2", 12, 5, 7.22, 9.29),
    ("gpt2", 12, 6, 8.13, 9.29),
    ("gpt2", 12, 7, 6.19, 6.84),
    ("gpt2", 12, 8, 7.22, 6.84),
    ("gpt2", 12, 9, 13.0, 10.0),
    ("gpt2", 12, 10, 11.82, 6.84),
    ("gpt2", 12, 11, 7.22, 9.29),
    ("EleutherAI/pythia-1.4b", 24, 12, 5.16, 3.78),
    ("EleutherAI/pythia-1.4b", 24, 16, 2.50, 1.98),
    ("EleutherAI/pythia-1.4b", 24, 20, 2.20, 2.07),
];
