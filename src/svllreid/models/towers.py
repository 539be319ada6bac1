"""CLIP's towers as ReID uses them: three image features, side information, prompts as text input."""

from __future__ import annotations

from typing import NamedTuple

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from svllreid.errors import CheckpointError, ConfigError
from svllreid.models.attention import causal_mask, fuse, one_token
from svllreid.models.clip import ClipTowers


class ImageFeatures(NamedTuple):
    """The three features of a batch of B images.

    last: (B, W) CLS token after the block before the last (RN50: pooled layer 3).
    final: (B, W) CLS token after the last block and `ln_post` (RN50: pooled layer 4).
    proj: (B, E) `final` in the joint embedding (RN50: attention pool).
    """

    last: Tensor
    final: Tensor
    proj: Tensor


def resize_positions(positions: Tensor, grid: tuple[int, int], source: tuple[int, int] | None = None) -> Tensor:
    """Position embeddings, bilinearly resized; the first token (CLS or mean) keeps its own.

    Args:
        positions: (1 + g * f, W).
        grid: height and width of the new grid.
        source: height and width of their own (g, f); None: a square one, as CLIP's.
    Returns: (1 + h * w, W).
    Raises: CheckpointError: the number of positions does not fit `source`, or is no square.

    >>> positions = torch.tensor([[9.0], [0.0], [2.0], [0.0], [2.0]])  # the first token's, then the grid 0 2 / 0 2
    >>> resize_positions(positions, grid=(1, 4)).flatten().tolist()
    [9.0, 0.0, 0.5, 1.5, 2.0]
    """
    count = positions.shape[0] - 1
    rows, columns = source or (round(count**0.5),) * 2
    if rows * columns != count:
        kind = "square grid" if source is None else f"grid of {rows} x {columns}"
        raise CheckpointError(f"the weights have {count} position embeddings, which are no {kind}; is the file whole?")
    if grid == (rows, columns):
        return positions
    patches = positions[1:].reshape(1, rows, columns, -1).permute(0, 3, 1, 2)  # (1, W, g, f)
    patches = F.interpolate(patches, size=grid, mode="bilinear", align_corners=False)
    return torch.cat([positions[:1], patches.flatten(2)[0].T])  # (1 + h * w, W)


class ViTEncoder(nn.Module):
    """CLIP's vision transformer with overlapping patches and side information on the CLS token.

    Args:
        tower: open_clip's vision transformer.
        image_size: height and width of the images.
        stride: step of the patch embedding, down and across.
    Source: Radford et al. 2021 (CLIP); He et al., ICCV 2021 (overlapping patches, side information).
    """

    def __init__(self, tower: VisionTransformer, image_size: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = tower.conv1
        self.grid = self.grid_of(image_size, stride)
        if min(self.grid) < 1:
            (height, width), (rows, columns) = image_size, self.conv1.kernel_size
            raise ConfigError(
                f"images of {height} x {width} pixels are smaller than a patch of {rows} x {columns}; set a larger "
                "image size",
                settings=("image size",),
            )
        self.conv1.stride = tuple(stride)
        self.class_embedding = tower.class_embedding
        self.positional_embedding = nn.Parameter(resize_positions(tower.positional_embedding.detach(), self.grid))
        self.ln_pre = tower.ln_pre
        self.transformer = tower.transformer
        fuse(self.transformer.resblocks)
        self.ln_post = tower.ln_post
        self.proj = tower.proj
        self.last_dim = self.final_dim = self.class_embedding.shape[0]
        self.proj_dim = self.proj.shape[1]
        self.recompute = False
        """Whether activations inside the blocks are computed again in the backward pass instead of kept."""

    def grid_of(self, image_size: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches in images of this height and width."""
        patch = self.conv1.kernel_size
        rows, columns = ((size - p) // s + 1 for size, p, s in zip(image_size, patch, stride, strict=True))
        return rows, columns

    def forward(self, images: Tensor, side_information: Tensor | None = None) -> ImageFeatures:
        """Features of (B, 3, H, W) images; `side_information` (B, W) is added to the CLS token."""
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (B, h * w, W)
        cls = self.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)  # (B, 1, W)
        if side_information is not None:
            cls = cls + side_information.to(patches.dtype)[:, None]
        x = self.ln_pre(torch.cat([cls, patches], dim=1) + self.positional_embedding.to(patches.dtype))
        *blocks, last_block = self.blocks
        for block in blocks:
            x = self._run(block, x)
        final = self.ln_post(one_token(last_block, x, 0))
        return ImageFeatures(x[:, 0], final, final @ self.proj)

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer's blocks, from the first on."""
        return list(self.transformer.resblocks)

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)
        return block(x)


class ResNetEncoder(nn.Module):
    """CLIP's modified ResNet with a last stage of stride 1.

    Args:
        tower: open_clip's ModifiedResNet.
        image_size: height and width of the images.
        stride: taken as `ViTEncoder` takes it, and not used: a ResNet has no patches that could overlap.
    Source: Radford et al. 2021 (CLIP); Luo et al., CVPRW 2019 (last stride 1).
    """

    def __init__(self, tower: ModifiedResNet, image_size: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = tower.conv1, tower.bn1, tower.act1
        self.conv2, self.bn2, self.act2 = tower.conv2, tower.bn2, tower.act2
        self.conv3, self.bn3, self.act3 = tower.conv3, tower.bn3, tower.act3
        self.avgpool = tower.avgpool
        self.layer1, self.layer2, self.layer3, self.layer4 = tower.layer1, tower.layer2, tower.layer3, tower.layer4
        first = self.layer4[0]
        first.avgpool = nn.Identity()
        first.downsample[0] = nn.Identity()
        self.attnpool = tower.attnpool
        self.grid = self.grid_of(image_size, stride)
        positions = resize_positions(self.attnpool.positional_embedding.detach(), self.grid)
        self.attnpool.positional_embedding = nn.Parameter(positions)
        self.proj_dim = self.attnpool.c_proj.out_features
        self.last_dim = self.layer3[-1].conv3.out_channels
        self.final_dim = self.layer4[-1].conv3.out_channels
        self.to(memory_format=torch.channels_last)  # a fifth faster on a CPU; half precision on a GPU wants it too

    def grid_of(self, image_size: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the last feature map for images of this height and width, whatever the stride."""
        # One strided convolution halves and rounds up, three poolings halve and round down.
        return (image_size[0] + 1) // 2 // 8, (image_size[1] + 1) // 2 // 8

    def forward(self, images: Tensor, side_information: Tensor | None = None) -> ImageFeatures:
        """Features of (B, 3, H, W) images; there is no token that side information could be added to."""
        x = self.act1(self.bn1(self.conv1(images.contiguous(memory_format=torch.channels_last))))
        x = self.act2(self.bn2(self.conv2(x)))
        x = self.avgpool(self.act3(self.bn3(self.conv3(x))))
        layer3 = self.layer3(self.layer2(self.layer1(x)))
        layer4 = self.layer4(layer3)
        return ImageFeatures(layer3.mean(dim=(2, 3)), layer4.mean(dim=(2, 3)), self.attnpool(layer4))

    @property
    def blocks(self) -> list[nn.Module]:
        """The four stages, from the first on."""
        return [self.layer1, self.layer2, self.layer3, self.layer4]


class TextEncoder(nn.Module):
    """CLIP's text transformer over prompt embeddings instead of token ids.

    Attention is causal: tokens after the end of text cannot change its feature, and are left out.
    """

    def __init__(self, clip: ClipTowers) -> None:
        super().__init__()
        self.positional_embedding = clip.text.positional_embedding
        self.transformer = clip.text.transformer
        fuse(self.transformer.resblocks)
        self.ln_final = clip.text.ln_final
        self.text_projection = clip.text.text_projection

    def forward(self, prompts: Tensor, length: int) -> Tensor:
        """Text features (U, E) of (U, 77, T) prompts whose end-of-text token is the last of `length`."""
        x = prompts[:, :length] + self.positional_embedding[:length]
        mask = causal_mask(length, x.device)
        *blocks, last_block = self.transformer.resblocks
        for block in blocks:
            x = block(x, attn_mask=mask)
        return self.ln_final(one_token(last_block, x, -1)) @ self.text_projection

    def read_at(self, embedded: Tensor, ends: Tensor) -> Tensor:
        """Text features (B, E) of embedded captions (B, L, T), each read at its own end of text, `ends` (B,)."""
        x = embedded + self.positional_embedding[: embedded.shape[1]]
        mask = causal_mask(embedded.shape[1], x.device)
        for block in self.transformer.resblocks:
            x = block(x, attn_mask=mask)
        return self.ln_final(x[torch.arange(len(x), device=x.device), ends]) @ self.text_projection

    def encode_tokens(self, token_ids: Tensor, table: nn.Embedding) -> Tensor:
        """Text features (B, E) of token ids (B, 77), whose embeddings are looked up in CLIP's table."""
        ends = token_ids.argmax(dim=1)  # the end of text has the largest id
        return self.read_at(table(token_ids[:, : int(ends.max()) + 1]), ends)


def image_encoder(clip: ClipTowers, image_size: tuple[int, int], stride: tuple[int, int]) -> ViTEncoder | ResNetEncoder:
    """The image encoder of a CLIP model for images of this size."""
    if isinstance(clip.vision, ModifiedResNet):
        return ResNetEncoder(clip.vision, image_size, stride)
    return ViTEncoder(clip.vision, image_size, stride)
