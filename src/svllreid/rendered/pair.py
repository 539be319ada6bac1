"""The pair of towers that is pretrained: image and text encoder of CLIP, with a joint space."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from svllreid.errors import ConfigError
from svllreid.models.clip import ClipTowers
from svllreid.models.layouts import State
from svllreid.models.towers import TextEncoder, ViTEncoder

MAX_SCALE = 100.0  # the largest factor on the cosines, as in CLIP


class ImageTextPair(nn.Module):
    """CLIP's image and text encoder with a learned scale of the cosines of their features.

    Args:
        clip: the towers; the image tower must be a ViT.
        image_size: height and width of the images; their grid of patches must be a whole number of times higher than
            wide.
    Raises: ConfigError: another image tower, or another image size.
    """

    def __init__(self, clip: ClipTowers, image_size: tuple[int, int]) -> None:
        super().__init__()
        if not hasattr(clip.vision, "ln_pre"):
            raise ConfigError("pretraining takes a ViT; name tiny or a ViT of CLIP's")
        patch = clip.vision.conv1.kernel_size
        self.image_encoder = ViTEncoder(clip.vision, image_size, (patch[0], patch[1]))
        rows, columns = self.image_encoder.grid
        if rows % columns:
            raise ConfigError(
                f"{image_size[0]} x {image_size[1]} pixels give {rows} x {columns} patches; CLIP's files have square "
                "grids, so give images that are a whole number of times higher than wide"
            )
        self.token_embedding = clip.text.token_embedding
        self.text_encoder = TextEncoder(clip)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def scale(self) -> Tensor:
        """The factor on the cosines (the inverse temperature), at most 100."""
        return self.logit_scale.exp().clamp(max=MAX_SCALE)

    def encode_image(self, images: Tensor) -> Tensor:
        """The features (B, E) of normalised images (B, 3, H, W) in the joint space."""
        return self.image_encoder(images).proj

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """The features (B, E) of token ids (B, 77) in the joint space."""
        return self.text_encoder.encode_tokens(token_ids, self.token_embedding)

    @torch.no_grad()
    def balance(self, image_features: Tensor, text_features: Tensor) -> None:
        """Rescales both projections so that the mean length of image and of text features is the root of the scale.

        Then products of features that are not normalised, which re-identification uses, are on average the scale times
        their cosines. CLIP's own weights are like this: the scale is 100, and both lengths are about 10. Cosines do not
        change.

        Args:
            image_features, text_features: (n, E), features of some images and of some texts by this model.
        """
        length = self.scale.sqrt()
        self.image_encoder.proj *= length / image_features.norm(dim=1).mean()
        self.text_encoder.text_projection *= length / text_features.norm(dim=1).mean()

    def openai_state(self) -> State:
        """The weights in OpenAI's layout, on the CPU.

        Position embeddings of the image are repeated to a square grid, which that layout requires. Resizing them to the
        trained grid gives exactly the trained ones.
        """
        state = {f"visual.{name}": value for name, value in self.image_encoder.state_dict().items()}
        state |= self.text_encoder.state_dict()
        state |= {"token_embedding.weight": self.token_embedding.weight, "logit_scale": self.logit_scale}
        rows, columns = self.image_encoder.grid
        cls, patches = self.image_encoder.positional_embedding.split([1, rows * columns])
        square = patches.unflatten(0, (rows, columns)).repeat_interleave(rows // columns, dim=1)  # (h, h, W)
        state["visual.positional_embedding"] = torch.cat([cls, square.flatten(0, 1)])
        return {name: value.detach().cpu() for name, value in state.items()}
