"""Augmentations of prompts for language self-supervision: a new one is a function here and a line of AUGMENTATIONS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def mask_prompts(prompts: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """Each scalar set to 0 with probability `scale`; nothing is rescaled.

    >>> masked = mask_prompts(torch.ones(1, 77, 100), 0.3, torch.Generator().manual_seed(0))
    >>> round(masked.mean().item(), 2)
    0.7
    """
    keep = torch.rand(prompts.shape, generator=generator, device=prompts.device) >= scale
    return prompts * keep


def swap_prompts(prompts: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """int(77 * scale) randomly chosen positions of each prompt permuted among themselves.

    >>> positions = torch.arange(77.0).reshape(1, 77, 1)  # one number for each token
    >>> swapped = swap_prompts(positions, 0.1, torch.Generator().manual_seed(0))
    >>> int((swapped != positions).sum()) <= 7, torch.equal(swapped.sort(dim=1).values, positions)
    (True, True)
    """
    num_prompts, length, _ = prompts.shape
    chosen = int(length * scale)
    draws = torch.rand((2, num_prompts, length), generator=generator, device=prompts.device)
    positions = draws[0].argsort(dim=1)[:, :chosen]  # a random subset, in random order
    sources = positions.gather(1, draws[1, :, :chosen].argsort(dim=1))
    order = torch.arange(length, device=prompts.device).repeat(num_prompts, 1).scatter(1, positions, sources)
    return prompts.gather(1, order[:, :, None].expand_as(prompts))


def mix_prompts(prompts: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """(1 - scale) of each prompt plus `scale` of a random other prompt of the batch.

    >>> prompts = torch.tensor([0.0, 1.0]).reshape(2, 1, 1).expand(2, 77, 1)
    >>> mix_prompts(prompts, 0.25, torch.Generator())[:, 0, 0]
    tensor([0.2500, 0.7500])
    """
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

    >>> augment = PromptAugmentation("mask", scale=1.0)
    >>> int(augment(torch.ones(2, 77, 8), torch.Generator()).count_nonzero())
    0
    """

    method: str
    scale: float

    def __call__(self, prompts: Tensor, generator: torch.Generator) -> Tensor:
        return AUGMENTATIONS[self.method](prompts, self.scale, generator)
