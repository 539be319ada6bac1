"""A digest of weights: equal for the same model in memory and in a file, different as soon as one number differs."""

from __future__ import annotations

import hashlib
import json

import torch
from open_clip.transformer import QuickGELU
from torch import nn
from torch.distributed.tensor import DTensor


def weights_digest(module: nn.Module, prefixes: tuple[str, ...] = ("",)) -> str:
    """SHA-256 of all that an output in eval mode depends on: names, types, shapes and bytes of the entries.

    It also covers what shapes do not tell: strides, attention heads, and whether GELU is QuickGELU. BatchNorm's count
    of batches is left out, since eval mode does not use it. Weights sharded over processes (FSDP) are gathered one by
    one, so all processes must call this together.

    Args:
        module: the model, or a part of it; on any device.
        prefixes: only entries and modules whose names begin with one of these.
    Returns: 64 hexadecimal digits.

    >>> layer = nn.Linear(2, 2)
    >>> before = weights_digest(layer)
    >>> _ = layer.weight.data.add_(1e-3)
    >>> weights_digest(layer) == before
    False
    """
    parts = [part for name, part in module.named_modules() if f"{name}.".startswith(prefixes)]
    settings = {
        "strides": [list(part.stride) for part in parts if isinstance(part, nn.Conv2d)],
        "heads": [part.num_heads for part in parts if hasattr(part, "num_heads")],
        "quick_gelu": any(isinstance(part, QuickGELU) for part in parts),
    }
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, value in sorted(module.state_dict().items()):
        if not name.startswith(prefixes) or name.endswith("num_batches_tracked"):
            continue
        entry = value.full_tensor() if isinstance(value, DTensor) else value
        digest.update(f"{name}\0{entry.dtype}\0{tuple(entry.shape)}\0".encode())
        digest.update(entry.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
