"""SAEs of the real packages, for tests/interchange/main.rs.

    python check.py make DIR    one folder an SAE, and beside it NAME.safetensors: activations x, and what the package makes of them
    python check.py check DIR   loads what tokenized-sae wrote for the packages, and compares with NAME.safetensors
    python check.py without DIR as `make`, of SAELens alone, each without one setting that has a default
    python check.py card DIR    runs the Python that stands in each model card, and compares

Needs sae-lens 6, eai-sparsify and dictionary-learning. Llamascopium, openai/sparse_autoencoder and the authors of tokenized SAEs have no
package that installs beside them: theirs are computed here from their published formulas. tests/golden/sae was made by
`make`, with the versions that stand in its versions.txt.
"""

import json
import math
import os
import sys
import warnings
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import MagicMock

for name in ["nnsight", "zstandard"]:
    # dictionary_learning imports them to run language models on text, which dictionaries need nothing of.
    if find_spec(name) is None:
        sys.modules[name] = MagicMock(__spec__=ModuleSpec(name, None))

import torch
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")
os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # which needs a GPU

D, L, K, N, V = 6, 10, 3, 7, 5  # d_sae is not a multiple of d_in
HOOK = "blocks.3.hook_resid_post"
PACKAGES = ["sae-lens", "eai-sparsify", "dictionary-learning", "torch"]


def numbers(*shape, scale=1.0):
    return torch.randn(shape, generator=numbers.generator) * scale


numbers.generator = torch.Generator().manual_seed(0)


def fill(module):
    """Gives every floating-point weight a value of its own; thresholds are positive, and decoders far from unit norm."""
    with torch.no_grad():
        for name, weight in [*module.named_parameters(), *module.named_buffers()]:
            if weight.is_floating_point():
                value = numbers(*weight.shape, scale=0.5)
                weight.copy_(value.abs() if "threshold" in name else value)


class Maker:
    def __init__(self, out):
        self.out = out
        out.mkdir(parents=True, exist_ok=True)

    def case(self, name, encode, decode, x=None, **more):
        x = numbers(N, D) + 0.2 if x is None else x
        with torch.no_grad():
            codes = encode(x)
            x_hat = decode(codes)
        save_file({"x": x, "codes": codes.contiguous(), "x_hat": x_hat.contiguous(), **more}, self.out / f"{name}.safetensors")

    def folder(self, name):
        (self.out / name).mkdir(exist_ok=True)
        return self.out / name


def dense(output):
    """sparsify's codes as a matrix."""
    codes = torch.zeros_like(output.pre_acts)
    return codes.scatter_(-1, output.top_indices, output.top_acts)


def sparse_decode(sae, codes):
    return sae.decode(*codes.topk(sae.cfg.k, dim=-1))


def make_saelens(maker):
    from sae_lens import SAE
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    metadata = lambda: SAEMetadata(model_name="gpt2", hook_name=HOOK, context_size=32, prepend_bos=True)
    for name, sae_class, config, more in [
        ("standard", StandardSAE, StandardSAEConfig, {}),
        ("standard_outside", StandardSAE, StandardSAEConfig, {"apply_b_dec_to_input": False}),
        ("topk", TopKSAE, TopKSAEConfig, {"k": K}),
        ("topk_rescaled", TopKSAE, TopKSAEConfig, {"k": K, "rescale_acts_by_decoder_norm": True}),
        ("jumprelu", JumpReLUSAE, JumpReLUSAEConfig, {}),
        ("gated", GatedSAE, GatedSAEConfig, {}),
        ("gated_outside", GatedSAE, GatedSAEConfig, {"apply_b_dec_to_input": False}),
    ]:
        sae = sae_class(config(d_in=D, d_sae=L, metadata=metadata(), **more))
        fill(sae)
        sae.save_model(maker.folder(f"saelens_{name}"))
        # Their codes are in units of the decoder's length only once that is folded.
        if "rescale_acts_by_decoder_norm" in more:
            sae.fold_W_dec_norm()
            sae.cfg.rescale_acts_by_decoder_norm = False
        maker.case(f"saelens_{name}", sae.encode, sae.decode)

    def batch(rescale, normalize):
        config = BatchTopKTrainingSAEConfig(
            d_in=D, d_sae=L, k=2.0, rescale_acts_by_decoder_norm=rescale, normalize_activations=normalize, metadata=metadata()
        )
        sae = BatchTopKTrainingSAE(config)
        fill(sae)
        return sae

    sae = batch(True, "none")
    sae.save_inference_model(maker.folder("saelens_batchtopk"))
    read = SAE.load_from_disk(maker.out / "saelens_batchtopk")
    maker.case("saelens_batchtopk", read.encode, read.decode)
    # A checkpoint of a training on scaled activations: what it becomes if it is folded and saved for inference.
    sae, scale = batch(True, "expected_average_only_in"), 2.5
    folder = maker.folder("saelens_checkpoint")
    sae.save_model(folder)
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": scale}))
    sae.fold_activation_norm_scaling_factor(scale)
    folded = maker.folder("saelens_checkpoint_folded")
    sae.save_inference_model(folded)
    read = SAE.load_from_disk(folded)
    x = numbers(N, D) + 0.2
    maker.case("saelens_checkpoint", read.encode, read.decode, x)
    maker.case("saelens_checkpoint_folded", read.encode, read.decode, x)
    # Files of version 5 are flat.
    for name, cfg in [
        ("standard", {"architecture": "standard", "activation_fn_str": "relu", "normalize_activations": False}),
        ("topk", {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "normalize_activations": "none"}),
    ]:
        folder = maker.folder(f"saelens5_{name}")
        flat = {"d_in": D, "d_sae": L, "dtype": "float32", "device": "cpu", "model_name": "gpt2", "hook_point": HOOK}
        flat |= {"hook_point_layer": 3, "context_size": 32, "apply_b_dec_to_input": True, "finetuning_scaling_factor": False}
        (folder / "cfg.json").write_text(json.dumps(flat | cfg))
        weights = {"W_enc": numbers(D, L), "b_enc": numbers(L), "W_dec": numbers(L, D), "b_dec": numbers(D)}
        save_file(weights | {"scaling_factor": torch.ones(L)}, folder / "sae_weights.safetensors")
        read = SAE.load_from_disk(folder)
        maker.case(f"saelens5_{name}", read.encode, read.decode)


def make_without(out):
    """Of each class of SAELens an SAE for each setting that has a default and that the package loads without."""
    from sae_lens import SAE
    from sae_lens.registry import get_sae_class, get_sae_training_class
    from sae_lens.saes.sae import SAEMetadata
    from dataclasses import MISSING, fields

    maker = Maker(out)
    metadata = SAEMetadata(model_name="gpt2", hook_name=HOOK, context_size=32, prepend_bos=True)
    for architecture in ["standard", "topk", "jumprelu", "gated"]:
        sae_class, config = get_sae_class(architecture)
        for field in fields(config):
            if field.default is MISSING and field.default_factory is MISSING:
                continue
            name = f"saelens_{architecture}_without_{field.name}"
            wide = 128 if field.name == "k" else L  # its default is 100
            sae = sae_class(config(d_in=D, d_sae=wide, metadata=metadata, **({"k": K} if architecture == "topk" else {})))
            fill(sae)
            folder = maker.folder(name)
            sae.save_model(folder)
            cfg = json.loads((folder / "cfg.json").read_text())
            del cfg[field.name]
            if field.name == "metadata":
                cfg |= {"model_name": "gpt2", "hook_name": HOOK}  # where it stood before there was metadata
            (folder / "cfg.json").write_text(json.dumps(cfg))
            try:
                read = SAE.load_from_disk(folder)
            except Exception as error:
                print(f"{name}: SAELens does not load it either: {error!r}")
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()
                continue
            maker.case(name, read.encode, read.decode)
    # And every setting of a training, which is accounted for.
    for architecture in ["standard", "topk", "jumprelu", "gated", "batchtopk", "matryoshka_batchtopk"]:
        sae_class, config = get_sae_training_class(architecture)
        more = {"k": K} if "topk" in architecture else {}
        more |= {"matryoshka_widths": [4, L]} if architecture.startswith("matryoshka") else {}
        sae = sae_class(config(d_in=D, d_sae=L, metadata=metadata, **more))
        fill(sae)
        name = f"saelens_{architecture}_training"
        runner = {name: "x" for name in runner_settings()} | {"context_size": 32}
        sae.save_model(maker.folder(name))
        path = maker.out / name / "cfg.json"
        path.write_text(json.dumps(runner | json.loads(path.read_text())))
        inference = maker.folder(f"{name}_saved")
        sae.save_inference_model(inference)
        read = SAE.load_from_disk(inference)
        x = numbers(N, D) + 0.2
        maker.case(name, read.encode, read.decode, x)
        maker.case(f"{name}_saved", read.encode, read.decode, x)


def runner_settings():
    """What a training adds to an SAE's own settings."""
    from dataclasses import fields
    from sae_lens.config import LanguageModelSAERunnerConfig

    return [f.name for f in fields(LanguageModelSAERunnerConfig) if f.name != "sae"]


def make_sparsify(maker):
    from sparsify import SparseCoder, SparseCoderConfig

    run = maker.folder("sparsify")
    (run / "config.json").write_text(json.dumps({"model": "gpt2", "ctx_len": 32}))
    for name, dtype in [("layers.3", torch.float32), ("layers.4.mlp", torch.bfloat16)]:
        sae = SparseCoder(D, SparseCoderConfig(num_latents=L, k=K, normalize_decoder=True), dtype=dtype)
        fill(sae)
        sae.save_to_disk(run / name)
        sae = sae.to(torch.float32)
        maker.case(f"sparsify/{name}", lambda x: dense(sae.encode(x)), lambda codes: sparse_decode(sae, codes))


def make_dictionary_learning(maker):
    from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    classes = {
        "AutoEncoder": lambda: AutoEncoder(D, L),
        "AutoEncoderNew": lambda: AutoEncoderNew(D, L),
        "GatedAutoEncoder": lambda: GatedAutoEncoder(D, L),
        "JumpReluAutoEncoder": lambda: JumpReluAutoEncoder(D, L),
        "AutoEncoderTopK": lambda: AutoEncoderTopK(D, L, K),
        "BatchTopKSAE": lambda: BatchTopKSAE(D, L, K),
        "MatryoshkaBatchTopKSAE": lambda: MatryoshkaBatchTopKSAE(D, L, K, [2, 3, 5]),
    }
    trainer = {"layer": 3, "lm_name": "gpt2", "submodule_name": "resid_post_layer_3", "activation_dim": D, "dict_size": L, "k": K}
    for name, make in classes.items():
        ae = make()
        fill(ae)
        folder = maker.folder(f"dictionary_learning_{name}")
        torch.save(ae.state_dict(), folder / "ae.pt")
        config = {"trainer": trainer | {"dict_class": name}, "buffer": {"ctx_len": 32}}
        (folder / "config.json").write_text(json.dumps(config))
        maker.case(f"dictionary_learning_{name}", ae.encode, ae.decode)
    # What a running training leaves: weights for activations that are divided by norm_factor.
    ae, factor = classes["BatchTopKSAE"](), 3.5
    fill(ae)
    left = {"step": 10, "ae": ae.state_dict(), "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}}
    folder = maker.folder("dictionary_learning_left")
    torch.save(left | {"config": trainer | {"dict_class": "BatchTopKSAE"}, "norm_factor": factor}, folder / "ae.pt")
    left = {name: weight.clone() for name, weight in ae.state_dict().items()}
    ae.scale_biases(factor)
    maker.case("dictionary_learning_left", ae.encode, ae.decode)


def make_by_formula(maker):
    relu = torch.relu
    # openai/sparse_autoencoder, model.py: Autoencoder with ReLU.
    w, b, pre, dec = numbers(L, D), numbers(L), numbers(D), numbers(D, L)
    state = {"pre_bias": pre, "encoder.weight": w, "latent_bias": b, "decoder.weight": dec}
    counts = {"stats_last_nonzero": torch.zeros(L, dtype=torch.long), "latents_activation_frequency": torch.ones(L)}
    torch.save(state | counts | {"activation": "ReLU", "activation_state_dict": {}}, maker.out / "openai_relu.pt")
    maker.case("openai_relu.pt", lambda x: relu((x - pre) @ w.T + b), lambda codes: codes @ dec.T + pre)
    # tdooms/tokenized-sae, base.py and top.py.
    for name, has_table in [("gpt2_resid_pre_8_o3.pt", False), ("gpt2_resid_pre_8_ot3.pt", True)]:
        w, b, dec, b_dec, table = numbers(L, D), numbers(L), numbers(D, L), numbers(D), numbers(V, D)
        state = {"W_enc": w, "W_dec": dec, "b_enc": b, "b_dec": b_dec}
        torch.save(state | ({"lookup.W_lookup.weight": table} if has_table else {}), maker.out / name)
        tokens = torch.arange(N) % V

        def encode(x, w=w, b=b, b_dec=b_dec):
            full = (x - b_dec) @ w.T + b - 2.0  # some of the largest are below 0
            return torch.zeros_like(full).scatter_(-1, full.topk(3).indices, full.gather(-1, full.topk(3).indices))

        state["b_enc"] = b - 2.0
        torch.save(state | ({"lookup.W_lookup.weight": table} if has_table else {}), maker.out / name)
        decode = lambda codes, dec=dec, b_dec=b_dec, t=table, h=has_table: codes @ dec.T + b_dec + (t[tokens] if h else 0)
        maker.case(name, encode, decode, tokens=tokens.to(torch.int32))

    # OpenMOSS/Llamascopium, models/sae.py. Activations are scaled to a mean length of √d_model before, and codes are folded after.
    for name, act_fn, norm, include in [
        ("relu", "relu", "inference", True),
        ("topk", "topk", "inference", False),
        ("topk_normed", "topk", "dataset-wise", True),
        ("jumprelu", "jumprelu", "dataset-wise", True),
    ]:
        w, b, dec, b_d, log = numbers(D, L), numbers(L), numbers(L, D), numbers(D), numbers(L, scale=0.3)
        folder = maker.folder(f"llamascopium_{name}")
        mean = 5.0
        weights = {"W_E": w, "b_E": b, "W_D": dec, "b_D": b_d, f"dataset_average_activation_norm.{HOOK}": torch.tensor(mean)}
        if act_fn == "jumprelu":
            weights["activation_function.log_jumprelu_threshold"] = log
        save_file(weights, folder / "sae_weights.safetensors")
        config = {"sae_type": "sae", "d_model": D, "expansion_factor": L / D, "use_decoder_bias": True, "act_fn": act_fn, "top_k": K}
        config |= {"norm_activation": norm, "sparsity_include_decoder_norm": include, "hook_point_in": HOOK, "hook_point_out": HOOK}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "lm_config.json").write_text(json.dumps({"model_name": "gpt2"}))
        factor = math.sqrt(D) / mean if norm == "dataset-wise" else 1.0
        norms = dec.norm(dim=-1) if include else torch.ones(L)

        def encode(x, w=w, b=b, act_fn=act_fn, factor=factor, norms=norms, log=log):
            pre = ((x * factor) @ w + b) * norms
            if act_fn == "jumprelu":
                acts = pre * (pre > log.exp())
            else:
                acts = relu(pre)
                if act_fn == "topk":
                    acts = torch.zeros_like(acts).scatter_(-1, acts.topk(K).indices, acts.topk(K).values)
            # What was scaled is scaled back; TopK's codes stay in units of the decoder's length.
            return acts / factor / (1.0 if act_fn == "topk" else norms)

        unit = dec / norms[:, None] if act_fn == "topk" else dec
        maker.case(f"llamascopium_{name}", encode, lambda codes, unit=unit, b_d=b_d, factor=factor: codes @ unit + b_d / factor)


def make_scaled_by_row(maker):
    """SAEs that scale each row of activations by itself; theirs are far from a mean of 0 and a length of √d."""
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    rows = lambda: numbers(N, D) * torch.linspace(0.3, 3.0, N)[:, None] + 0.7
    for name, sae_class, config, more in [
        ("standard", StandardSAE, StandardSAEConfig, {}),
        ("topk", TopKSAE, TopKSAEConfig, {"k": K}),
    ]:
        for norm in ["layer_norm", "constant_norm_rescale"]:
            metadata = SAEMetadata(model_name="gpt2", hook_name=HOOK, context_size=32, prepend_bos=True)
            sae = sae_class(config(d_in=D, d_sae=L, metadata=metadata, normalize_activations=norm, **more))
            fill(sae)
            sae.save_model(maker.folder(f"saelens_{name}_{norm}"))
            maker.case(f"saelens_{name}_{norm}", sae.encode, sae.decode, rows())

    # openai/sparse_autoencoder, model.py: Autoencoder with TopK, and what it is given to do to the k largest.
    for name, after in [("ReLU", torch.relu), ("Identity", lambda pre: pre)]:
        w, b, pre, dec = numbers(L, D), numbers(L), numbers(D), numbers(D, L)
        state = {"pre_bias": pre, "encoder.weight": w, "latent_bias": b - 2.0, "decoder.weight": dec}
        topk = {"activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": name}}
        torch.save(state | topk, maker.out / f"openai_topk_{name}.pt")
        x = rows()
        mean, std = x.mean(dim=-1, keepdim=True), x.std(dim=-1, keepdim=True)

        def encode(x, w=w, b=b, pre=pre, after=after):
            largest = (((x - mean) / (std + 1e-5) - pre) @ w.T + b - 2.0).topk(K, dim=-1)
            return torch.zeros(N, L).scatter_(-1, largest.indices, after(largest.values))

        maker.case(f"openai_topk_{name}.pt", encode, lambda codes, dec=dec, pre=pre: (codes @ dec.T + pre) * std + mean, x)

    # OpenMOSS/Llamascopium, models/sae.py: "token-wise".
    w, b, dec, b_d = numbers(D, L), numbers(L), numbers(L, D), numbers(D)
    folder = maker.folder("llamascopium_token_wise")
    save_file({"W_E": w, "b_E": b, "W_D": dec, "b_D": b_d}, folder / "sae_weights.safetensors")
    config = {"sae_type": "sae", "d_model": D, "expansion_factor": L / D, "act_fn": "relu", "norm_activation": "token-wise"}
    (folder / "config.json").write_text(json.dumps(config | {"hook_point_in": HOOK, "hook_point_out": HOOK}))
    (folder / "lm_config.json").write_text(json.dumps({"model_name": "gpt2"}))
    x = rows()
    factor = math.sqrt(D) / x.norm(dim=-1, keepdim=True)
    maker.case("llamascopium_token_wise", lambda x: torch.relu((x * factor) @ w + b), lambda codes: (codes @ dec + b_d) / factor, x)


def load(folder):
    """What a package makes of a folder: encode and decode."""
    if folder.name.startswith("saelens"):
        from sae_lens import SAE

        sae = SAE.load_from_disk(folder)
        assert sae.cfg.metadata.model_name == "gpt2" and sae.cfg.metadata.hook_name == HOOK, sae.cfg.metadata
        return sae.encode, sae.decode
    if folder.name.startswith("sparsify"):
        from sparsify import SparseCoder

        sae = SparseCoder.load_from_disk(folder)
        return lambda x: dense(sae.encode(x)), lambda codes: sparse_decode(sae, codes)
    if folder.name.startswith("dictionary-learning"):
        from dictionary_learning.utils import load_dictionary

        sae, _ = load_dictionary(str(folder), device="cpu")
        return sae.encode, sae.decode
    if folder.name.startswith("llamascopium"):
        config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "sae_weights.safetensors")
        assert not config["sparsity_include_decoder_norm"]
        factor = {"inference": lambda x: 1.0, "token-wise": lambda x: math.sqrt(x.shape[-1]) / x.norm(dim=-1, keepdim=True)}
        factor, seen = factor[config["norm_activation"]], []
        assert int(config["d_model"] * config["expansion_factor"]) == weights["b_E"].shape[0]

        def encode(x):
            seen[:] = [factor(x)]
            pre = x * seen[0] @ weights["W_E"] + weights["b_E"]
            if config["act_fn"] == "jumprelu":
                return pre * (pre > weights["activation_function.log_jumprelu_threshold"].exp())
            pre = torch.relu(pre)
            if config["act_fn"] == "topk":
                return torch.zeros_like(pre).scatter_(-1, *reversed(pre.topk(config["top_k"])))
            return pre

        return encode, lambda codes: (codes @ weights["W_D"] + weights["b_D"]) / seen[0]
    raise ValueError(folder)


def of_card(folder, x, tokens):
    """What the Python in a model card makes of activations."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names = {"x": x, "tokens": tokens}
    exec(code.replace("this-folder", str(folder)), names)
    if "sae" in names:
        codes = names["sae"].encode(x)
        return codes, names["sae"].decode(codes)
    return names["codes"], names["x_hat"]


def check(folder, by_card):
    failed = 0
    for case in sorted(folder.iterdir()):
        if not case.is_dir():
            continue
        expected = load_file(folder / f"{case.name}.safetensors")
        with torch.no_grad():
            if by_card:
                codes, x_hat = of_card(case, expected["x"], expected["tokens"])
            else:
                encode, decode = load(case)
                codes = encode(expected["x"])
                x_hat = decode(codes)
        apart = [(codes - expected["codes"]).abs().max().item(), (x_hat - expected["x_hat"]).abs().max().item()]
        failed += max(apart) > 1e-5
        print(f"{case.name:45} codes {apart[0]:.1e}  reconstructions {apart[1]:.1e}  active {(codes != 0).sum().item()}")
    return failed


def main():
    verb, folder = sys.argv[1], Path(sys.argv[2])
    if verb in ["check", "card"]:
        sys.exit(1 if check(folder, verb == "card") else 0)
    if verb == "without":
        return make_without(folder)
    maker = Maker(folder)
    make_saelens(maker)
    make_sparsify(maker)
    make_dictionary_learning(maker)
    make_by_formula(maker)
    make_scaled_by_row(maker)
    (folder / "versions.txt").write_text("".join(f"{name} {version(name)}\n" for name in PACKAGES))


if __name__ == "__main__":
    main()
