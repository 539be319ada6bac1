"""The model that training starts from: with CLIP's weights, or for stage 2 alone with those of a stage-1 file."""

from __future__ import annotations

from pathlib import Path

from lightning.fabric import Fabric
from torch import nn

from svllreid import build
from svllreid.config import Config
from svllreid.data.readers import DATASETS
from svllreid.errors import CheckpointError, ConfigError
from svllreid.files import is_file
from svllreid.models.checkpoint import HEADS, CheckpointInfo, read_checkpoint
from svllreid.models.fitting import fit_checkpoint
from svllreid.models.reid import SVLLReID
from svllreid.runtime.gather import num_processes


def starting_model(
    config: Config, data: build.TrainingData, dataset: str, prompts: Path | None, *, foreign: bool
) -> tuple[SVLLReID, str]:
    """The model on the CPU, and a line for the log that says where its weights come from.

    Args:
        config: the configuration of the run.
        data: its training data.
        dataset: name of the dataset.
        prompts: a stage-1 file, which holds CLIP's weights too; None starts from MODEL.PRETRAINED.
        foreign: whether the stage-1 file is of another run; its self-supervision heads, which may have other widths,
            are then not loaded.
    Raises: CheckpointError: the file does not exist, does not fit, or has prompts of other identities.
    """
    if prompts is None:
        return build.build_model_for(config, data), f"the weights at the start are {config.model.pretrained}"
    if not is_file(prompts):
        raise CheckpointError(
            f"stage 2 needs stage 1's prompts, and there is no {prompts}; run stage 1 (--stage 1), or name its file "
            "with --stage1-weights"
        )
    state, info = read_checkpoint(prompts)
    _check_identities(prompts, info, data, dataset)
    quick_gelu = info.quick_gelu if info is not None else None
    model = build.build_model_for(config, data, clip="random", quick_gelu=quick_gelu)
    fit_checkpoint(model, state, str(prompts), skip=HEADS if foreign else ())
    return model, f"stage 1's prompts come from {prompts}"


def _check_identities(file: Path, info: CheckpointInfo | None, data: build.TrainingData, dataset: str) -> None:
    """Check that a stage-1 file has the same identity for each label, since prompts belong to labels.

    Raises: CheckpointError: it has not, or it is a published file whose labels are in another order.
    """
    if info is not None and info.pids != list(data.labels):
        raise CheckpointError(f"{file} has prompts of other identities than {dataset}; run stage 1 on it")
    record = DATASETS.get(dataset)
    if info is None and record is not None and not record.sorted_when_published:
        raise CheckpointError(
            f"{file} is a published stage-1 file of {dataset}, whose identities are numbered in another order than the "
            "sorted one here, so its prompts would go to the wrong people; run stage 1 instead"
        )


def on_device(model: SVLLReID, config: Config, fabric: Fabric) -> SVLLReID:
    """The model on its device; where SOLVER.SYNC_BATCHNORM asks for it, with BatchNorms that all processes share.

    Raises: ConfigError: synchronised BatchNorm without GPUs.
    """
    if config.solver.sync_batchnorm and num_processes() > 1:
        if fabric.device.type != "cuda":
            raise ConfigError("SOLVER.SYNC_BATCHNORM works on GPUs alone; set it to false")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model.to(fabric.device)
