"""Learned prompts, one per identity, and their augmentations."""

from __future__ import annotations

import open_clip
import torch
from torch import Tensor, nn

from svllreid.errors import ConfigError

NUM_CONTEXT = 4
_CONTEXT = " ".join(["X"] * NUM_CONTEXT)
PREFIX_LENGTH = 5  # start of text, "A photo of a"


def tokenize(noun: str) -> tuple[Tensor, int]:
    """Token ids (1, 77) of "A photo of a X X X X noun." and the number of tokens up to the end of text.

    Raises: ConfigError: an empty noun, or one that does not fit.

    >>> token_ids, length = tokenize("person")
    >>> tuple(token_ids.shape), length
    ((1, 77), 12)
    """
    token_ids = open_clip.tokenize(f"A photo of a {_CONTEXT} {noun}.")
    length = int(token_ids.argmax()) + 1  # the end of text has the largest id
    if length == token_ids.shape[1] or not noun.strip():
        raise ConfigError(
            f"the noun {noun!r} is not a short one such as person or vehicle; give such a noun", settings=("noun",)
        )
    return token_ids, length


class PromptLearner(nn.Module):
    """Prompts "A photo of a X X X X noun." whose four X are vectors learned for each identity.

    Args:
        num_classes: identities (N).
        token_embedding: CLIP's table, (49408, T).
        noun: the prompts' last word, such as person.
    """

    token_prefix: Tensor
    token_suffix: Tensor

    def __init__(self, num_classes: int, token_embedding: nn.Embedding, noun: str) -> None:
        super().__init__()
        token_ids, self.length = tokenize(noun)
        embedded = token_embedding(token_ids).detach()
        self.cls_ctx = nn.Parameter(torch.randn(num_classes, NUM_CONTEXT, embedded.shape[2]) * 0.02)
        self.register_buffer("token_prefix", embedded[:, :PREFIX_LENGTH])
        self.register_buffer("token_suffix", embedded[:, PREFIX_LENGTH + NUM_CONTEXT :])

    def forward(self, labels: Tensor) -> Tensor:
        """Prompts (L, 77, T) of (L,) labels."""
        context = self.cls_ctx[labels]
        return torch.cat(
            [self.token_prefix.expand(len(labels), -1, -1), context, self.token_suffix.expand(len(labels), -1, -1)],
            dim=1,
        )
