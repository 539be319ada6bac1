"""Learned prompts, one per identity, and their augmentations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import open_clip
import torch
from torch import Tensor, nn

from svllreid.errors import ConfigError

NUM_CONTEXT = 4
_CONTEXT = " ".join(["X"] * NUM_CONTEXT)
_PREFIX_LENGTH = 5  # start of text, "A photo of a"


def tokenize(noun: str) -> tuple[Tensor, int]:
    """Token ids (1, 77) of "A photo of a X X X X noun." and the number of tokens up to the end of text."""
    token_ids = open_clip.tokenize(f"A photo of a {_CONTEXT} {noun}.")
    length = int(token_ids.argmax()) + 1  # the end of text has the largest id
    if length == token_ids.shape[1] or not noun.strip():
        raise ConfigError(f"DATASETS.NOUN: {noun!r} is not a short noun such as person or vehicle")
    return token_ids, length


class PromptLearner(nn.Module):
    """The learned vectors of each identity between a fixed prefix and suffix.

    Args:
        num_classes: identities (N).
        token_embedding: CLIP's table, (49408, T).
        noun: what the prompts name.
    """

    token_prefix: Tensor
    token_suffix: Tensor

    def __init__(self, num_classes: int, token_embedding: nn.Embedding, noun: str) -> None:
        super().__init__()
        token_ids, self.length = tokenize(noun)
        embedded = token_embedding(token_ids).detach()
        self.cls_ctx = nn.Parameter(torch.randn(num_classes, NUM_CONTEXT, embedded.shape[2]) * 0.02)
        self.register_buffer("token_prefix", embedded[:, :_PREFIX_LENGTH])
        self.register_buffer("token_suffix", embedded[:, _PREFIX_LENGTH + NUM_CONTEXT :])

    def forward(self, labels: Tensor) -> Tensor:
        """Prompts (L, 77, T) of (L,) labels."""
        context = self.cls_ctx[labels]
        return torch.cat(
            [self.token_prefix.expand(len(labels), -1, -1), context, self.token_suffix.expand(len(labels), -1, -1)],
            dim=1,
        )


def mask_prompts(prompts: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """Each scalar set to 0 with probability `scale`; nothing is rescaled."""
    keep = torch.rand(prompts.shape, generator=generator, device=prompts.device) >= scale
    return prompts * keep


def swap_prompts(prompts: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """int(77 * scale) randomly chosen positions of each prompt permuted among themselves."""
    num_prompts, length, _ = prompts.shape
    chosen = int(length * scale)
    draws = torch.rand((2, num_prompts, length), generator=generator, device=prompts.device)
    positions = draws[0].argsort(dim=1)[:, :chosen]  # a random subset, in random order
    sources = positions.gather(1, draws[1, :, :chosen].argsort(dim=1))
    order = torch.arange(length, device=prompts.device).repeat(num_prompts, 1).scatter(1, positions, sources)
    return prompts.gather(1, order[:, :, None].expand_as(prompts))


def mix_prompts(prompts: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """(1 - scale) of each prompt plus `scale` of a random other prompt of the batch."""
    num_prompts = len(prompts)
    if num_prompts == 1:
        return prompts
    shift = torch.randint(1, num_prompts, (num_prompts,), generator=generator, device=prompts.device)
    partner = (torch.arange(num_prompts, device=prompts.device) + shift) % num_prompts
    return (1 - scale) * prompts + scale * prompts[partner]


AUGMENTATIONS: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "mask": mask_prompts,
    "swap": swap_prompts,
    "mix": mix_prompts,
}


@dataclass(frozen=True)
class PromptAugmentation:
    """Random change of whole prompts (U, 77, T), drawn independently for each prompt and call.

    Args:
        method: mask, swap or mix.
        scale: strength in 0..1.
    Source: Wang et al. 2025, arXiv:2407.20647.
    """

    method: str = "mask"
    scale: float = 0.5

    def __call__(self, prompts: Tensor, generator: torch.Generator) -> Tensor:
        return AUGMENTATIONS[self.method](prompts, self.scale, generator)
