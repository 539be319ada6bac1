"""A CLIP model as it is pretrained: images and captions into one space."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from svllreid.errors import ConfigError
from svllreid.models.clip import ClipTowers
from svllreid.models.layouts import State
from svllreid.models.towers import TextEncoder, ViTEncoder

MAX_SCALE = 100.0  # of the cosines, as CLIP bounds it


class ImageTextPair(nn.Module):
    """CLIP's image and text encoder with the scale of their cosines.

    Args:
        clip: the towers; the image tower must be a ViT.
        image_size: height and width of the images, whose grid of patches is as many times higher than wide.
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
        """The inverse temperature, at most 100."""
        return self.logit_scale.exp().clamp(max=MAX_SCALE)

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, E) of (B, 3, H, W) images."""
        return self.image_encoder(images).proj

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """(B, E) of (B, 77) token ids."""
        ends = token_ids.argmax(dim=1)  # the end of text has the largest id
        length = int(ends.max()) + 1
        return self.text_encoder.read_at(self.token_embedding(token_ids[:, :length]), ends)

    @torch.no_grad()
    def balance(self, image_features: Tensor, text_features: Tensor) -> None:
        """Scale both projections until products of features are, on average, the scale times their cosines.

        ReID multiplies the features as they are. CLIP's own have such lengths (its scale is 100, both are about 10
        long); cosines do not change.

        Args:
            image_features, text_features: (n, E), what the model makes of some images and texts.
        """
        length = self.scale.sqrt()
        self.image_encoder.proj *= length / image_features.norm(dim=1).mean()
        self.text_encoder.text_projection *= length / text_features.norm(dim=1).mean()

    def openai_state(self) -> State:
        """The weights in OpenAI's layout, on the CPU, the image positions repeated to a square grid.

        Resizing them back to the grid that was trained gives exactly what was trained.
        """
        state = {f"visual.{name}": value for name, value in self.image_encoder.state_dict().items()}
        state |= self.text_encoder.state_dict()
        state |= {"token_embedding.weight": self.token_embedding.weight, "logit_scale": self.logit_scale}
        rows, columns = self.image_encoder.grid
        cls, patches = self.image_encoder.positional_embedding.split([1, rows * columns])
        square = patches.unflatten(0, (rows, columns)).repeat_interleave(rows // columns, dim=1)  # (h, h, W)
        state["visual.positional_embedding"] = torch.cat([cls, square.flatten(0, 1)])
        return {name: value.detach().cpu() for name, value in state.items()}
