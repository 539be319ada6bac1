"""Trained models: for testing, and to turn images into features."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch

from svllreid.build.device import build_fabric
from svllreid.build.embedding import build_embedder, transform_of
from svllreid.build.model import build_model
from svllreid.config import Config, from_tree
from svllreid.data.images import ChannelOrder
from svllreid.embedding.boxes import crop_boxes
from svllreid.embedding.encoder import FeatureEncoder
from svllreid.embedding.onnx import OnnxEmbedder
from svllreid.embedding.openvino import OpenVinoEmbedder
from svllreid.errors import CheckpointError, ConfigError, DatasetError
from svllreid.models.architectures import architecture_of
from svllreid.models.checkpoint import (
    CLASSIFIERS,
    HEADS,
    TEXT,
    CheckpointInfo,
    describe,
    read_checkpoint,
)
from svllreid.models.fitting import fit_checkpoint
from svllreid.models.hub import fetch_model, is_on_hub
from svllreid.models.layouts import State
from svllreid.models.reid import SVLLReID

logger = logging.getLogger(__name__)

VERI_VIEWS = 8
EXPORTED = {".onnx": OnnxEmbedder, ".xml": OpenVinoEmbedder}
"""The embedder of each kind of exported file, by its suffix."""


def load_trained(path: str | Path, config: Config | None = None) -> tuple[SVLLReID, Config, CheckpointInfo | None]:
    """A trained model for testing: image encoder, side information and necks; nothing is fetched.

    Args:
        path: a checkpoint of ours or a published one.
        config: the configuration; None takes the one beside the checkpoint.
    Returns: the model, the configuration used, and what the file beside the checkpoint says (None without one).
    Raises: CheckpointError: not a checkpoint, of another backbone, or no configuration given or beside it.
    """
    if Path(path).suffix.lower() in EXPORTED:
        raise CheckpointError(
            f"{path} is an exported model, which only embeds images; give the checkpoint that it was made from"
        )
    state, info = read_checkpoint(path)
    if config is None:
        if info is None:
            raise CheckpointError(
                f"{path} has no .json beside it that says how it was trained; give a configuration (--config-file, or "
                "config=load_config(...)) with its MODEL.NAME, MODEL.STRIDE_SIZE, MODEL.SIE_CAMERA, MODEL.SIE_VIEW, "
                f"MODEL.SIE_COE and INPUT.SIZE_TRAIN; its shapes tell {describe(state)}"
            )
        config = from_tree(info.config, str(path))
    testing = config.model_copy(
        update={"model": config.model.model_copy(update={"use_text": False, "use_ssl": False, "use_ssl_stage1": False})}
    )
    num_cameras, num_views = _table_sizes(state, config, str(path), info)
    model = build_model(
        testing,
        num_classes=1,
        num_cameras=num_cameras,
        num_views=num_views,
        clip="random",
        quick_gelu=info.quick_gelu if info is not None else None,
    )
    if info is not None:
        model.side_rows = info.side_rows
    without = () if config.model.sie_camera or config.model.sie_view else ("cv_embed",)
    fit_checkpoint(model, state, str(path), skip=(*CLASSIFIERS, *TEXT, *HEADS, *without))
    if without and "cv_embed" in state and info is None:  # otherwise whoever switched it off has said so
        logger.info("%s: its side information is left out (MODEL.SIE_CAMERA and MODEL.SIE_VIEW are false)", path)
    if "classifier.weight" in state:
        trained_on = f" of {info.config['DATASETS']['NAMES']}" if info is not None else ""
        identities = len(state["classifier.weight"])
        logger.info(
            "%s: the classifiers of its %d identities%s are left out, as are its prompts", path, identities, trained_on
        )
    return model, config, info


def _table_sizes(state: State, config: Config, origin: str, info: CheckpointInfo | None) -> tuple[int, int]:
    """How many cameras and how many views the side information table has rows for."""
    camera, view = config.model.sie_camera, config.model.sie_view
    resnet = isinstance(architecture_of(config.model.name)["vision_cfg"]["layers"], list)
    if resnet != ("image_encoder.attnpool.positional_embedding" in state):
        return 1, 1  # another backbone, which fitting the weights will explain
    if "cv_embed" not in state and (camera or view):
        raise CheckpointError(f"{origin} has no side information; set MODEL.SIE_CAMERA and MODEL.SIE_VIEW to false")
    rows = len(state["cv_embed"]) if "cv_embed" in state else 1
    if info is not None:
        cameras, views = info.num_cameras if camera else 1, info.num_views if view else 1
        if (camera or view) and cameras * views != rows:
            raise CheckpointError(
                f"{origin} has side information of {rows} rows, and its .json names {info.num_cameras} cameras and "
                f"{info.num_views} views; check MODEL.SIE_CAMERA and MODEL.SIE_VIEW, or restore the .json"
            )
        return info.num_cameras, info.num_views
    if camera and view:
        if rows % VERI_VIEWS:
            raise CheckpointError(
                f"{origin}: {rows} rows of side information are no multiple of VeRi's {VERI_VIEWS} views, and no .json "
                "says how many cameras and views there are; set one of MODEL.SIE_CAMERA and MODEL.SIE_VIEW to false"
            )
        return rows // VERI_VIEWS, VERI_VIEWS
    return (rows, 1) if camera else (1, rows)


class Encoder(FeatureEncoder):
    """A trained model that turns images into features: `Encoder.load(path).encode(images)`.

    Example:
        >>> import numpy as np
        >>> import svllreid
        >>> import torch
        >>> config = svllreid.load_config("person/tiny_svllreid.yml")
        >>> model = svllreid.build_model(config, num_classes=2)
        >>> torch.save(model.state_dict(), "weights.pth")  # instead of a training run
        >>> encoder = svllreid.Encoder.load("weights.pth", config, device="cpu")
        >>> features = encoder.encode([np.zeros((128, 64, 3), np.uint8), np.ones((96, 48))])
        >>> features.shape
        (2, 384)
    """

    @classmethod
    def load(
        cls,
        path: str | Path,
        config: Config | None = None,
        device: str | torch.device = "auto",
        *,
        precision: str | None = None,
        batch_size: int | None = None,
    ) -> Encoder:
        """The encoder in a checkpoint; `svllreid test` compares the same features under the same configuration.

        Args:
            path: a checkpoint of ours, a published one with its configuration, or `hf://org/name`: a model on the
                Hugging Face hub, which is fetched once and cached. Or a file that `svllreid export` wrote: .onnx is run
                by onnxruntime, and .xml, with its .bin beside it, by OpenVINO on the CPU.
            config: None takes the configuration beside the checkpoint. Its INPUT settings, TEST.NECK_FEAT, FEAT_NORM,
                FLIP, SOLVER.PRECISION, MODEL.SIE_CAMERA and SIE_VIEW count. An exported file has its settings in itself
                and takes none, nor a precision.
            device: auto, cpu, cuda, cuda:1, mps; for .onnx also tensorrt, where onnxruntime has it, and not mps.
            precision: auto (16-mixed on CUDA, else 32), 32, tf32, 16-mixed or bf16-mixed; None takes that of the
                configuration, which is auto unless it says otherwise.
            batch_size: see `FeatureEncoder`.
        Raises: CheckpointError, ConfigError, DeviceError; HubError: the model cannot be fetched; ExportError: the
            library that runs the file is not installed.
        """
        path, device = fetch_model(path) if is_on_hub(path) else path, str(device)
        if (runtime := EXPORTED.get(Path(path).suffix.lower())) is not None:
            if config is not None or precision is not None:
                raise ConfigError(
                    f"{path} is an exported model, whose settings are fixed; leave configuration and precision out, or "
                    "export the checkpoint again with them"
                )
            exported = runtime(path, device)
            transform, rows = transform_of(exported.spec), exported.record.side_rows
            return cls(exported, transform.resize, rows, batch_size=batch_size)
        model, config, _ = load_trained(path, config)
        if precision is not None:
            config = from_tree(config.to_yaml_tree(), "precision", {"SOLVER.PRECISION": precision})
        embedder = build_embedder(config, model, build_fabric(config, device))
        return cls(embedder, embedder.transform.resize, model.side_rows, batch_size=batch_size)

    @overload
    def encode_boxes(
        self,
        frame: np.ndarray,
        boxes: Any,
        camids: int | None = None,
        *,
        channel_order: ChannelOrder = "rgb",
        on_error: Literal["raise"] = "raise",
    ) -> np.ndarray: ...

    @overload
    def encode_boxes(
        self,
        frame: np.ndarray,
        boxes: Any,
        camids: int | None = None,
        *,
        channel_order: ChannelOrder = "rgb",
        on_error: Literal["skip"],
    ) -> tuple[np.ndarray, list[int]]: ...

    def encode_boxes(
        self,
        frame: np.ndarray,
        boxes: Any,
        camids: int | None = None,
        *,
        channel_order: ChannelOrder = "rgb",
        on_error: Literal["raise", "skip"] = "raise",
    ) -> np.ndarray | tuple[np.ndarray, list[int]]:
        """Features (n, D) float32 of n boxes in a frame, for a tracker; (0, D) where there is no box.

        Parts of a box outside of the frame are cut off. The features are those that `encode` gives for the crops.

        Args:
            frame: (H, W, 3) uint8, one picture of a video.
            boxes: (n, 4) numbers x1, y1, x2, y2 in pixels, which are rounded.
            camids: the camera that took the frame, numbered as in the training set. None: unknown.
            channel_order: order of the colours in the frame: `rgb`, or `bgr` as OpenCV reads them.
            on_error: what to do about boxes with NaN corners or without a pixel in the frame: `raise` an error, or
                `skip` them.
        Returns: the features; with `skip` also the indices, from 0, of the boxes that were left out.
        Raises:
            DatasetError: the frame or the boxes have another shape or type, or the camera is unknown to the model.
            ImageError: a box has NaN corners, or no pixel in the frame. The message has its index, counted from 0.
            EvaluationError: features are NaN or infinite.
        """
        if on_error not in ("raise", "skip"):
            raise DatasetError(f"on_error is {on_error!r}; give 'raise' or 'skip'")
        skipped: list[int] = []
        on_skip = None if on_error == "raise" else lambda index, error: skipped.append(index)
        features = self.encode(crop_boxes(frame, boxes, channel_order, on_skip), camids)
        return features if on_error == "raise" else (features, skipped)
