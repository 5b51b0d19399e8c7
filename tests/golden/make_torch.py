#!/usr/bin/env python3
"""Makes PyTorch's own files of this folder, after `make_golden.py`.

    pip install torch safetensors
    python tests/golden/make_torch.py

Made with torch 2.15.0. It writes

    neox/pytorch_model.bin               the tensors of neox/model.safetensors, and a causal mask as old checkpoints have it
    torch/tensors.pt, tensors4.pt        every way in which a tensor may lie in a file, by pickle protocol 2 and 4
    torch/old.pt                         the form that PyTorch wrote before version 1.6
    torch/stem_of_21_characters.pt       a name whose entry in the archive's directory has as many bytes as what stands behind the directory
"""

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent

neox = load_file(HERE / "neox/model.safetensors")
neox["gpt_neox.layers.0.attention.bias"] = torch.tril(torch.ones(1, 1, 16, 16, dtype=torch.bool))
torch.save(OrderedDict(neox), HERE / "neox/pytorch_model.bin")

x = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
tensors = OrderedDict(
    whole=x,
    turned=x.permute(2, 0, 1),
    part=x[1, :, 1:3],
    wide=x[:1, :1].expand(1, 3, 4),
    number=x[1, 2, 3],
    empty=torch.zeros(0, 5),
    parameter=torch.nn.Parameter(x[0]),
    half=x.half(),
    bfloat=x.bfloat16(),
    double=-x.double() / 3,
    long=x.long() - 5,
    bool=x > 11,
    not_a_tensor=3,
)
tensors._metadata = OrderedDict({"": {"version": 1}})
(HERE / "torch").mkdir(exist_ok=True)
torch.save(tensors, HERE / "torch/tensors.pt")
torch.save(tensors, HERE / "torch/tensors4.pt", pickle_protocol=4)
torch.save({"x": x}, HERE / "torch/old.pt", _use_new_zipfile_serialization=False)
torch.save({"x": x}, HERE / "torch/stem_of_21_characters.pt")
