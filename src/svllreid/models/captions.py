"""Texts through CLIP's own text tower, and how a checkpoint proves that it was trained with that tower."""

from __future__ import annotations

from collections.abc import Sequence

import open_clip
import torch
from torch import Tensor, nn

from svllreid.errors import CheckpointError, DatasetError
from svllreid.models.clip import ClipTowers
from svllreid.models.layouts import State
from svllreid.models.prompts import PREFIX_LENGTH
from svllreid.models.towers import TextEncoder

TOWER, PREFIX = "text_encoder.", "prompt_learner.token_prefix"
LENGTH = 77
_RELATIVE, _ABSOLUTE = 1e-3, 1e-6  # how far half precision rounds


def tokenize_texts(texts: Sequence[str]) -> Tensor:
    """Token ids (n, 77) of n texts, with start and end of text.

    Raises: DatasetError: something is not text, or a text is empty or longer than CLIP reads; the message has its
        index, counted from 0.

    >>> tuple(tokenize_texts(["a person in a red coat", "a man"]).shape)
    (2, 77)
    """
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise DatasetError(f"text {index} is a {type(text).__name__}; give words, such as 'a person in a red coat'")
        if not text.strip():
            raise DatasetError(f"text {index} is empty; describe whom to look for, such as 'a person in a red coat'")
    token_ids = open_clip.tokenize(list(texts), context_length=LENGTH + 1)
    for index, (text, beyond) in enumerate(zip(texts, token_ids[:, LENGTH].tolist(), strict=True)):
        if beyond:
            raise DatasetError(
                f"text {index} ({text[:40]!r}…) is longer than the {LENGTH} tokens, about 50 words, that CLIP reads; "
                "shorten it"
            )
    return token_ids[:, :LENGTH]


class CaptionEncoder(nn.Module):
    """CLIP's text tower with its table of tokens: any text to its feature in the joint space of images and texts.

    Args:
        clip: the towers, whose text tower is taken over.
    """

    def __init__(self, clip: ClipTowers) -> None:
        super().__init__()
        self.token_embedding = clip.text.token_embedding
        self.text_encoder = TextEncoder(clip)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Text features (B, E) of token ids (B, 77)."""
        return self.text_encoder.encode_tokens(token_ids, self.token_embedding)

    def check_trained_with(self, state: State, origin: str, source: str) -> bool:
        """Refuses a checkpoint that was trained with another text tower.

        A checkpoint of a model with prompts holds the text tower, which training leaves as it is, and the embeddings of
        "A photo of a", but not the table of tokens. Both are compared, up to the rounding of half precision.

        Args:
            state: the checkpoint under the published names.
            origin, source: what to call the checkpoint and CLIP's weights in messages.
        Returns: whether the checkpoint holds anything to compare.
        Raises: CheckpointError: an entry differs.
        """
        kept = {name: value for name, value in state.items() if name.startswith(TOWER) or name == PREFIX}
        own = {f"{TOWER}{name}": value for name, value in self.text_encoder.state_dict().items()}
        prefix = tokenize_texts(["A photo of a"])[:, :PREFIX_LENGTH].to(self.token_embedding.weight.device)
        own[PREFIX] = self.token_embedding(prefix)
        differing = [name for name, value in kept.items() if not _alike(value, own.get(name))]
        if differing:
            raise CheckpointError(
                f"{origin} was not trained with the text tower of {source}: {len(differing)} of its {len(kept)} "
                f"entries differ (first {differing[0]}); name CLIP's weights that its training began with",
                settings=("pretrained weights",),
            )
        return bool(kept)


def _alike(value: Tensor, other: Tensor | None) -> bool:
    """Whether two entries are the same up to rounding."""
    if other is None or value.shape != other.shape:
        return False
    return torch.allclose(value.float().cpu(), other.detach().float().cpu(), rtol=_RELATIVE, atol=_ABSOLUTE)
