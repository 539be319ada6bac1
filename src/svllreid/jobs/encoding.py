"""The encoder of images that are no test set, and its configuration."""

from __future__ import annotations

from pathlib import Path

from svllreid import build
from svllreid.config import Config, from_tree
from svllreid.embedding.exported import ExportedEmbedder
from svllreid.files import user_path
from svllreid.models.checkpoint import read_info

_LEFT_OUT = "side information is left out, as camera numbers may be others than in training; --cameras adds it"


def fitting_encoder(
    weights: Path,
    config: Config | None = None,
    device: str = "auto",
    *,
    cameras: bool,
    precision: str | None = None,
    batch_size: int | None = None,
) -> tuple[build.Encoder, list[str]]:
    """The encoder, side information off where camera numbers are not those of the training set, and notes.

    Args:
        weights: a checkpoint or an exported file, see `Encoder.load`.
        config, device, precision, batch_size: see `Encoder.load`.
        cameras: whether cameras and viewpoints are numbered as in the training set.
    Returns: the encoder, and what to tell the user.
    """
    if weights.suffix.lower() in build.EXPORTED:
        notes = list[str]()
    else:
        config, notes = fitting_config(config, user_path(weights), cameras=cameras)
    encoder = build.Encoder.load(weights, config, device, precision=precision, batch_size=batch_size)
    embedder = encoder.embedder
    if isinstance(embedder, ExportedEmbedder) and not cameras and (embedder.spec.sie_camera or embedder.spec.sie_view):
        embedder.leave_out_side_information()
        notes = [_LEFT_OUT]
    return encoder, notes


def fitting_config(config: Config | None, weights: Path, *, cameras: bool) -> tuple[Config | None, list[str]]:
    """The configuration, side information off where camera numbers are not those of the training set, and a note.

    Args:
        config: the user's; None takes the one beside the checkpoint.
        weights: the checkpoint.
        cameras: whether cameras and viewpoints are numbered as in the training set.
    Returns: the configuration for `Encoder.load`, and what to tell the user.
    """
    if config is None and (info := read_info(weights)) is not None:
        config = from_tree(info.config, str(weights))
    if config is None or cameras or not (config.model.sie_camera or config.model.sie_view):
        return config, []
    off = {"MODEL.SIE_CAMERA": False, "MODEL.SIE_VIEW": False}
    return from_tree(config.to_yaml_tree(), str(weights), off), [_LEFT_OUT]
