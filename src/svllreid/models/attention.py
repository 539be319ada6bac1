"""Attention of CLIP's blocks, fused: two matrix products around PyTorch's own kernel, no copies between layouts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F


class FusedAttention(nn.Module):
    """Replaces an `nn.MultiheadAttention` without dropout; its parameters keep their names.

    Args:
        attention: the module that is replaced, whose parameters are taken.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.in_proj_weight, self.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Attention of `query` (B, Q, W) to `key` (B, L, W), which is also the value; never the weights."""
        width = query.shape[2]
        if query is key:
            q, k, v = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=2)
        else:
            q = F.linear(query, self.in_proj_weight[:width], self.in_proj_bias[:width])
            k, v = F.linear(key, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, dim=2)
        q, k, v = (part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in (q, k, v))  # (B, H, ·, W / H)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None  # (B, Q, W)


def fuse(blocks: Iterable[ResidualAttentionBlock]) -> None:
    """Replace the attention of CLIP's blocks by the fused one, in place."""
    for block in blocks:
        block.attn = FusedAttention(block.attn)


def one_token(block: ResidualAttentionBlock, x: Tensor, position: int) -> Tensor:
    """The output of a block for one token of x (B, L, W), which attends to all tokens.

    The outputs of the other tokens are not computed.

    Returns: (B, W).
    """
    token, normed = x[:, [position]], block.ln_1(x)
    token = token + block.ls_1(block.attention(q_x=normed[:, [position]], k_x=normed, v_x=normed))
    return (token + block.ls_2(block.mlp(block.ln_2(token))))[:, 0]


def causal_mask(length: int, device: torch.device) -> Tensor:
    """The mask (L, L) that is added to attention: minus infinity where a token would see a later one, 0 elsewhere."""
    return torch.full((length, length), float("-inf"), device=device).triu(1)
