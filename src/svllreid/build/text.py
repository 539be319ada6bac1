"""Texts as queries: `svllreid.TextEncoder` of a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from svllreid.build.device import build_fabric
from svllreid.build.embedding import build_embedder, build_prompt_embedder
from svllreid.build.model import build_model
from svllreid.build.trained import EXPORTED, load_trained
from svllreid.config import Config, from_tree
from svllreid.embedding.contract import EmbeddingSpec
from svllreid.embedding.encoder import FeatureEncoder
from svllreid.errors import CheckpointError, ConfigError
from svllreid.files import is_file, is_folder, user_path
from svllreid.models.captions import CaptionEncoder, tokenize_texts
from svllreid.models.checkpoint import read_checkpoint, read_info
from svllreid.models.clip import ClipTowers, load_clip
from svllreid.models.hub import fetch_model, is_on_hub
from svllreid.models.layouts import REID
from svllreid.models.pretrained import Weights, read_weights
from svllreid.models.reid import SVLLReID

logger = logging.getLogger(__name__)

_BLOCK = 256  # texts that are encoded at once


class TextEncoder:
    """Turns texts into queries for the features of a trained model, by the text tower of the CLIP it began with.

    `queries` gives vectors to search the stored features of images with, those of `Encoder.load` with the same
    checkpoint; nothing else has to be stored. Training pulls images away from texts, so more is found with features
    from before training. `pretrained_encoder` makes these, to be stored beside and searched with `encode`.

    Args:
        network: the text tower.
        readout: (D, E) matrix that brings features of the joint space to the stored features' own space.
        config: the configuration of the trained model.
        spec: the record of the features that `queries` searches.
        clip: the file of CLIP's weights, as they were before training.
        quick_gelu: whether CLIP uses QuickGELU; None: as the file or the backbone says.
    Example:
        >>> import svllreid
        >>> import torch
        >>> config = svllreid.load_config("person/tiny_svllreid.yml")
        >>> model = svllreid.build_model(config, num_classes=2)
        >>> torch.save(model.state_dict(), "weights.pth")  # instead of a training run
        >>> words = svllreid.TextEncoder.load("weights.pth", config, device="cpu")
        >>> words.queries(["a person in a red coat", "a man with a backpack"]).shape
        (2, 384)
    """

    def __init__(
        self,
        network: CaptionEncoder,
        readout: Tensor,
        config: Config,
        spec: EmbeddingSpec,
        clip: Path,
        quick_gelu: bool | None = None,
    ) -> None:
        self.network, self.readout = network.eval(), readout
        self.config, self.spec = config, spec
        self.clip, self.quick_gelu = clip, quick_gelu

    @classmethod
    def load(
        cls, path: str | Path, config: Config | None = None, device: str = "auto", *, clip: str | None = None
    ) -> TextEncoder:
        """The text encoder that belongs to a checkpoint.

        A checkpoint holds no table of tokens, so CLIP's weights are read too; those of a tag are fetched once and
        cached. Where the checkpoint keeps its text tower, the two are compared.

        Args:
            path: a checkpoint of ours, a published one with its configuration, or `hf://org/name`.
            config: None takes the configuration beside the checkpoint.
            device: auto, cpu, cuda, cuda:1, mps.
            clip: CLIP's weights that training began with, a file, folder or tag. None: what MODEL.PRETRAINED says, and
                where that is a trained model, what its own training began with.
        Raises:
            CheckpointError: not a checkpoint; or CLIP's weights cannot be read or fetched, differ from the
                checkpoint's, or cannot be shown to be those that training began with.
            ConfigError, DeviceError: see `Encoder.load`.
        """
        path = fetch_model(path) if is_on_hub(path) else user_path(path)
        if path.suffix.lower() in EXPORTED:
            raise CheckpointError(
                f"{path} is an exported model, which reads no words; name the checkpoint that it was exported from"
            )
        model, config, info = load_trained(path, config)
        weights = _clip_weights(path, config, clip)
        quick_gelu = weights.quick_gelu if info is None or info.quick_gelu is None else info.quick_gelu
        towers = load_clip(config.model.name, weights, quick_gelu)
        network = CaptionEncoder(towers)
        if not network.check_trained_with(read_checkpoint(path)[0], str(path), str(weights.path)):
            _explain_source(path, config, clip)
        readout = _readout(model.eval(), towers, after_neck=config.test.neck_feat == "after")
        embedder = build_embedder(config, model, build_fabric(config, device))
        network, readout = network.to(embedder.device), readout.to(embedder.device)
        return cls(network, readout, config, embedder.spec, weights.path, quick_gelu)

    @torch.inference_mode()
    def encode(self, texts: str | Sequence[str]) -> np.ndarray:
        """Features (n, E) float32 of n texts in the joint space of images and texts, of length 1; (1, E) of one text.

        They are compared with those that `pretrained_encoder` makes of images.

        Raises: DatasetError: a text is empty, longer than the 77 tokens that CLIP reads, or no text.
        """
        return self._encode(texts).cpu().numpy()

    @torch.inference_mode()
    def queries(self, texts: str | Sequence[str]) -> np.ndarray:
        """Vectors (n, D) float32 of length 1 that rank stored features by how well images fit n texts, best first.

        The features are those of `spec`, which has to be that of the gallery (see `check_same`). Rank by Euclidean
        distance, as for images, or by inner product: the order is the same. The distances of one text do not compare
        with those of another, and thresholds for pairs of images do not apply.

        Raises:
            DatasetError: as for `encode`.
            ConfigError: the stored features are not normalised, so their lengths would decide the order.
        """
        if not self.spec.normalized:
            raise ConfigError(
                "features that are not normalised cannot be searched by words, since their lengths would decide the "
                "order; set TEST.FEAT_NORM yes and embed the images again"
            )
        return F.normalize(self._encode(texts) @ self.readout.T, dim=1).cpu().numpy()

    def pretrained_encoder(self, batch_size: int | None = None) -> FeatureEncoder:
        """The image encoder before training, whose features (n, E) of length 1 are compared with those of `encode`.

        It takes images of the trained model's size, and adds no side information.

        Args:
            batch_size: see `FeatureEncoder`.
        """
        model = self.config.model.model_copy(
            update={
                "use_text": False,
                "use_ssl": False,
                "use_ssl_stage1": False,
                "sie_camera": False,
                "sie_view": False,
            }
        )
        config = self.config.model_copy(update={"model": model})
        network = build_model(config, num_classes=1, clip=str(self.clip), quick_gelu=self.quick_gelu)
        fabric = build_fabric(config, str(self.readout.device))
        embedder = build_prompt_embedder(config, network, fabric, normalize=True)
        return FeatureEncoder(embedder, embedder.transform.resize, network.side_rows, batch_size=batch_size)

    def _encode(self, texts: str | Sequence[str]) -> Tensor:
        """As `encode`, on the device."""
        token_ids = tokenize_texts([texts] if isinstance(texts, str) else list(texts))
        if not len(token_ids):
            return self.readout.new_empty(0, self.readout.shape[1])
        parts = [self.network(block.to(self.readout.device)) for block in token_ids.split(_BLOCK)]
        return F.normalize(torch.cat(parts), dim=1)


def _clip_weights(path: Path, config: Config, clip: str | None) -> Weights:
    """The weights of CLIP that training began with, also where it began with another trained model."""
    name, source, origin, seen = config.model.name, clip or config.model.pretrained, path, set[Path]()
    while True:
        if source == "random":
            raise CheckpointError(
                f"{origin} began with random weights, whose text tower knows no words; search by words needs a model "
                "that began with CLIP's weights"
            )
        try:
            weights = read_weights(name, source)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; words need the weights of CLIP that {origin} began with (clip=)") from None
        if weights.layout != REID:
            return weights
        info = None if weights.path in seen else read_info(weights.path)
        seen.add(weights.path)
        if info is None:
            raise CheckpointError(
                f"{origin} was trained from {weights.path}, a ReID model without .json that says which CLIP it began "
                "with; name CLIP's weights (clip=)",
                settings=("pretrained weights",),
            )
        before = from_tree(info.config, str(weights.path))
        name, source, origin = before.model.name, before.model.pretrained, weights.path


def _explain_source(path: Path, config: Config, clip: str | None) -> None:
    """Say which text tower is used for a checkpoint that keeps none; CheckpointError where it may be another one."""
    source = clip or config.model.pretrained
    place = user_path(source)
    if clip is None and (is_file(place) or is_folder(place)):
        raise CheckpointError(
            f"{path} keeps no text tower (a one-stage baseline), and {source} may have been changed since its "
            "training; if it is what training began with, name it (clip=)"
        )
    logger.info("%s keeps no text tower (a one-stage baseline); that of %s is used", path, source)


def _readout(model: SVLLReID, towers: ClipTowers, *, after_neck: bool) -> Tensor:
    """The matrix (D, E) by which products with stored features are products with texts, up to a factor for each image.

    A ViT's `final` goes through the projection of CLIP as it was before training. A ResNet has no such matrix, so
    its trained `proj` is compared. The slopes of BNNecks are undone; their shifts hardly change the order.
    """
    final_dim, proj_dim = model.image_encoder.final_dim, model.image_encoder.proj_dim
    readout = torch.zeros(final_dim + proj_dim, proj_dim)
    if isinstance(towers.vision, VisionTransformer):
        readout[:final_dim] = towers.vision.proj.detach()
    else:
        readout[final_dim:] = torch.eye(proj_dim)
    if after_neck:
        necks = ((model.bottleneck, final_dim), (model.bottleneck_proj, proj_dim))
        slope = torch.cat([_slope(neck, dim) for neck, dim in necks])  # (D,)
        readout *= torch.where(slope == 0, 0, 1 / slope)[:, None]
    return readout


def _slope(neck: torch.nn.BatchNorm1d, dim: int) -> Tensor:
    """The factor (D,) of each dimension in a BNNeck in eval mode."""
    low, high = neck(torch.stack([torch.zeros(dim), torch.ones(dim)])).detach()
    return high - low
