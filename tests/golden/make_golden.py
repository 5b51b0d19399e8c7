#!/usr/bin/env python3
"""Makes the golden files of this folder: tiny random models and what `transformers` computes with them.

    pip install torch transformers safetensors
    python tests/golden/make_golden.py

Made with transformers 5.23.0 and torch 2.15.0 (CPU). For each family F of gpt2, neox, llama, mistral and qwen2 it writes

    F/config.json, F/model.safetensors   a checkpoint as `save_pretrained` writes it, float32
    F/golden.safetensors                 tokens [2, 12], every hook [2, 12, 32], logits [2, 12, 61], loss [1];
                                         and for each change of the configuration "KEY=JSON" the logits of the same weights

The weights are far larger than those of an untrained model, and all biases and layer-norm weights are random, so that no
term can be left out unnoticed. What is stored was computed in float64 and rounded to float32 once.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

HERE = Path(__file__).parent
D_MODEL, D_MLP, N_LAYERS, N_HEADS, D_VOCAB, N_POSITIONS = 32, 64, 3, 4, 61, 16
N_SEQ, N_CTX = 2, 12


def randomise(model):
    """Every parameter by its kind; matrices so that their outputs have about the size of their inputs."""
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            is_norm = any(part in name for part in ("ln_", "layernorm", "layer_norm", "model.norm"))
            if is_norm and name.endswith("weight"):
                p.copy_(1 + 0.3 * torch.randn_like(p))
            elif name.endswith("bias"):
                p.copy_(0.2 * torch.randn_like(p))
            elif "wte" in name or "embed_in" in name or "embed_tokens" in name:
                p.copy_(0.7 * torch.randn_like(p))
            elif "wpe" in name:
                p.copy_(0.5 * torch.randn_like(p))
            else:
                p.copy_(1.3 * torch.randn_like(p) / D_MODEL**0.5)


def first(output):
    return output[0] if isinstance(output, tuple) else output


def golden(model, parts):
    """Runs the model with a torch hook for each of `parts`: name -> (module, "in" or "out")."""
    seen = {}

    def keep(name):
        def hook(module, args, kwargs, output):
            side = args[0] if args else kwargs["hidden_states"]
            seen[name] = (side if parts[name][1] == "in" else first(output)).detach()

        return hook

    handles = [module.register_forward_hook(keep(name), with_kwargs=True) for name, (module, _) in parts.items()]
    tokens = torch.randint(0, D_VOCAB, (N_SEQ, N_CTX))
    with torch.no_grad():
        out = model(tokens, labels=tokens, use_cache=False)
    for handle in handles:
        handle.remove()
    tensors = {name: x.float().contiguous() for name, x in seen.items()}
    return tensors | {"tokens": tokens.int(), "logits": out.logits.float().contiguous(), "loss": out.loss.float().reshape(1)}


def gpt2_parts(model):
    parts = {}
    for l, block in enumerate(model.transformer.h):
        parts[f"blocks.{l}.hook_resid_pre"] = (block, "in")
        parts[f"blocks.{l}.hook_attn_out"] = (block.attn, "out")
        parts[f"blocks.{l}.hook_resid_mid"] = (block.ln_2, "in")
        parts[f"blocks.{l}.hook_mlp_out"] = (block.mlp, "out")
        parts[f"blocks.{l}.hook_resid_post"] = (block, "out")
    return parts


def neox_parts(model):
    parts = {}
    for l, block in enumerate(model.gpt_neox.layers):
        parts[f"blocks.{l}.hook_resid_pre"] = (block, "in")
        parts[f"blocks.{l}.hook_attn_out"] = (block.attention, "out")
        parts[f"blocks.{l}.hook_mlp_out"] = (block.mlp, "out")
        parts[f"blocks.{l}.hook_resid_post"] = (block, "out")
    return parts


def llama_parts(model):
    parts = {}
    for l, block in enumerate(model.model.layers):
        parts[f"blocks.{l}.hook_resid_pre"] = (block, "in")
        parts[f"blocks.{l}.hook_attn_out"] = (block.self_attn, "out")
        parts[f"blocks.{l}.hook_resid_mid"] = (block.post_attention_layernorm, "in")
        parts[f"blocks.{l}.hook_mlp_out"] = (block.mlp, "out")
        parts[f"blocks.{l}.hook_resid_post"] = (block, "out")
    return parts


def make(name, model, parts, changes):
    torch.manual_seed(20240601)
    randomise(model)
    model.eval()
    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tensors = golden(model.double(), parts(model))
    for key, value in changes:
        config = type(model.config)(**(model.config.to_dict() | {key: value, "attn_implementation": "eager"}))
        changed = type(model)(config).eval().double()
        # Weights that the change takes away are left over; none may be missing.
        assert not changed.load_state_dict(model.state_dict(), strict=False).missing_keys
        if key == "reorder_and_upcast_attn":
            changed = changed.float()  # it refuses float64
        with torch.no_grad():
            tensors[f"{key}={json.dumps(value)}"] = changed(tensors["tokens"], use_cache=False).logits.float().contiguous()
    save_file(tensors, folder / "golden.safetensors")


shared = {"vocab_size": D_VOCAB, "bos_token_id": 0, "eos_token_id": 0, "attn_implementation": "eager"}
make(
    "gpt2",
    GPT2LMHeadModel(
        GPT2Config(n_embd=D_MODEL, n_layer=N_LAYERS, n_head=N_HEADS, n_inner=D_MLP, n_positions=N_POSITIONS, **shared)
    ),
    gpt2_parts,
    [("activation_function", "gelu"), ("activation_function", "relu"), ("scale_attn_weights", False), ("layer_norm_epsilon", 0.1)]
    + [("scale_attn_by_inverse_layer_idx", True), ("reorder_and_upcast_attn", True)],
)
make(
    "neox",
    GPTNeoXForCausalLM(
        GPTNeoXConfig(
            hidden_size=D_MODEL,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=N_HEADS,
            intermediate_size=D_MLP,
            max_position_embeddings=N_POSITIONS,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
            **shared,
        )
    ),
    neox_parts,
    [
        ("use_parallel_residual", False),
        ("hidden_act", "gelu_new"),
        ("attention_bias", False),
        ("layer_norm_eps", 0.1),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 1.0}),
    ],
)
# Two heads of queries share one of keys and values; heads of Llama's and Qwen2's are wider or narrower together than the stream.
grouped = dict(
    hidden_size=D_MODEL,
    num_hidden_layers=N_LAYERS,
    num_attention_heads=N_HEADS,
    num_key_value_heads=N_HEADS // 2,
    intermediate_size=D_MLP,
    max_position_embeddings=N_POSITIONS,
)
stretched = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
make(
    "llama",
    LlamaForCausalLM(LlamaConfig(head_dim=12, attention_bias=True, mlp_bias=True, **grouped, **shared)),
    llama_parts,
    [
        ("attention_bias", False),
        ("mlp_bias", False),
        ("hidden_act", "gelu"),
        ("rms_norm_eps", 0.1),
        ("rope_parameters", stretched | {"original_max_position_embeddings": 16}),
    ],
)
make(
    "mistral",
    MistralForCausalLM(MistralConfig(sliding_window=N_POSITIONS, tie_word_embeddings=True, **grouped, **shared)),
    llama_parts,
    [("rope_parameters", {"rope_type": "default", "rope_theta": 100.0})],
)
make(
    "qwen2",
    Qwen2ForCausalLM(Qwen2Config(sliding_window=4, use_sliding_window=False, **grouped, **shared)),
    llama_parts,
    [("rms_norm_eps", 0.1)],
)
