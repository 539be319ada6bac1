"""The network, its training tasks and their optimisers."""

from __future__ import annotations

import logging

import torch

from svllreid.arguments import whole_number
from svllreid.build.data import TrainingData, noun_notes
from svllreid.config import Config, from_tree
from svllreid.errors import ConfigError
from svllreid.models.checkpoint import CheckpointInfo, read_info
from svllreid.models.clip import load_clip
from svllreid.models.fitting import start_from
from svllreid.models.layouts import REID, State, clean
from svllreid.models.pretrained import Weights, read_weights, uses_quick_gelu
from svllreid.models.prompt_augmentations import PromptAugmentation
from svllreid.models.reid import SVLLReID
from svllreid.models.towers import ViTEncoder
from svllreid.training.optim import make_optimizer
from svllreid.training.stage1 import Stage1Task
from svllreid.training.stage2 import LossWeights, Stage2Task

logger = logging.getLogger(__name__)


def build_model(
    config: Config,
    *,
    num_classes: int,
    num_cameras: int = 1,
    num_views: int = 1,
    clip: str | State | None = None,
    quick_gelu: bool | None = None,
) -> SVLLReID:
    """The network of a configuration, on the CPU; the same seed gives the same weights.

    Args:
        config: the run's configuration.
        num_classes: training identities.
        num_cameras, num_views: rows of the side information table, where one is learned.
        clip: the weights: None takes MODEL.PRETRAINED; or `openai`, an open_clip tag, a file or folder, `random`, or a
            state dict in OpenAI's layout. Of a ReID checkpoint all is taken but its classifiers and prompts.
        quick_gelu: QuickGELU or GELU in the transformers; None: as the weights were trained, with `random` as those of
            MODEL.PRETRAINED.
    Raises: ConfigError, CheckpointError: a count below 1; see also `noun_notes`, `read_weights`, `load_clip` and
        `start_from`.

    Example:
        >>> import svllreid
        >>> config = svllreid.load_config("person/tiny_svllreid.yml")
        >>> model = svllreid.build_model(config, num_classes=3, num_cameras=2, clip="random").eval()
        >>> model.embed(torch.zeros(5, 3, 96, 48)).shape  # a feature for each image: `final` (256) and `proj` (128)
        torch.Size([5, 384])
    """
    num_classes = whole_number(num_classes, "num_classes", ConfigError)
    num_cameras = whole_number(num_cameras, "num_cameras", ConfigError)
    num_views = whole_number(num_views, "num_views", ConfigError)
    noun_notes(config)  # refuses prompts without a noun
    model = config.model
    if quick_gelu is None and clip == "random":  # a checkpoint's weights will replace them
        quick_gelu = uses_quick_gelu(model.name, model.pretrained)
    weights: str | State | Weights = model.pretrained if clip is None else clip
    if isinstance(weights, str) and weights != "random":
        weights = read_weights(model.name, weights)
    trained = weights if isinstance(weights, Weights) and weights.layout == REID else None
    info = read_info(trained.path) if trained else None
    if trained:
        weights, quick_gelu = "random", _began_with_quick_gelu(model.name, info)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.solver.seed)
        network = SVLLReID(
            load_clip(model.name, weights, quick_gelu),
            num_classes=num_classes,
            num_cameras=num_cameras,
            num_views=num_views,
            image_size=config.input.size_train,
            stride=model.stride_size,
            sie_camera=model.sie_camera,
            sie_view=model.sie_view,
            sie_coe=model.sie_coe,
            noun=config.datasets.noun,
            use_text=model.use_text,
            language_head=model.use_text and model.use_ssl_stage1,
            vision_head=model.ssl_type if model.use_ssl else None,
            ssl_hidden_dim=model.ssl_hidden_dim,
            ssl_out_dim=model.ssl_out_dim,
        )
    if trained:
        _fine_tune(network, config, trained, info)
    return network


def _began_with_quick_gelu(name: str, info: CheckpointInfo | None) -> bool:
    """Whether a checkpoint of backbone `name` uses QuickGELU; a published one (no information) began with OpenAI's."""
    if info is None:
        return uses_quick_gelu(name, "openai")
    if info.quick_gelu is None:
        return uses_quick_gelu(name, info.config.get("MODEL", {}).get("PRETRAINED", ""))
    return info.quick_gelu


def build_model_for(
    config: Config, data: TrainingData, clip: str | None = None, quick_gelu: bool | None = None
) -> SVLLReID:
    """The network with classifiers, prompts and side information for this training data; see `build_model`."""
    network = build_model(
        config,
        num_classes=len(data.labels),
        num_cameras=data.side_rows.num_cameras,
        num_views=data.side_rows.num_views,
        clip=clip,
        quick_gelu=quick_gelu,
    )
    network.side_rows = data.side_rows
    return network


def _fine_tune(network: SVLLReID, config: Config, trained: Weights, info: CheckpointInfo | None) -> None:
    """Load a trained checkpoint into a network for new identities; see `start_from`."""
    origin, grid = str(trained.path), None
    if info is not None:
        before = from_tree(info.config, origin)
        if config.model.use_text and before.datasets.noun != config.datasets.noun:
            raise ConfigError(
                f"DATASETS.NOUN {config.datasets.noun}: the prompts of {origin} say {before.datasets.noun}, and only "
                f"CLIP's own weights hold other words; set DATASETS.NOUN {before.datasets.noun}"
            )
        grid = network.image_encoder.grid_of(before.input.size_train, before.model.stride_size)
    logger.info("%s", start_from(network, clean(trained.state), origin, grid))


def build_stage1(config: Config, model: SVLLReID) -> Stage1Task:
    """Stage 1's task."""
    stage = config.solver.stage1
    augment = PromptAugmentation(stage.prompt_aug_method, stage.prompt_aug_scale)
    return Stage1Task(
        model,
        augment=augment if config.model.use_ssl_stage1 else None,
        ssl_weight=stage.ssl_loss_weight,
        train_head=stage.train_ssl_head,
    )


def check_stage2(config: Config, model: SVLLReID) -> None:
    """Refuse settings of stage 2 that the image encoder does not have.

    Raises: ConfigError: more frozen blocks than the encoder has, or a setting that a ResNet cannot follow.
    """
    encoder, settings = model.image_encoder, config.model
    if not (settings.frozen_blocks or settings.grad_checkpointing or config.solver.stage2.micro_batch):
        return
    if not isinstance(encoder, ViTEncoder):
        raise ConfigError(
            "MODEL.FROZEN_BLOCKS, MODEL.GRAD_CHECKPOINTING, SOLVER.STAGE2.MICRO_BATCH: not for a ResNet, whose "
            "BatchNorm sees whole batches once; leave them off"
        )
    if settings.frozen_blocks > len(encoder.blocks):
        raise ConfigError(
            f"MODEL.FROZEN_BLOCKS {settings.frozen_blocks}: the encoder has {len(encoder.blocks)} blocks; set at most "
            "that"
        )


def build_stage2(config: Config, model: SVLLReID) -> Stage2Task:
    """Stage 2's task; encodes every prompt once."""
    weights = LossWeights(
        identity=config.model.id_loss_weight,
        triplet=config.model.triplet_loss_weight,
        i2t=config.model.i2t_loss_weight,
        ssl=config.solver.stage2.ssl_loss_weight,
    )
    margin = None if config.model.no_margin else config.solver.margin
    check_stage2(config, model)
    encoder, settings = model.image_encoder, config.model
    if isinstance(encoder, ViTEncoder):
        encoder.recompute = settings.grad_checkpointing
    model.micro_batch = config.solver.stage2.micro_batch
    return Stage2Task(
        model,
        weights=weights,
        margin=margin,
        smooth=settings.if_labelsmooth == "on",
        use_ssl=settings.use_ssl,
        frozen_blocks=settings.frozen_blocks,
    )


def build_optimizer(config: Config, task: Stage1Task | Stage2Task) -> torch.optim.Optimizer:
    """The optimiser of a stage's task."""
    if isinstance(task, Stage1Task):
        first = config.solver.stage1
        return make_optimizer(
            task.trained.items(),
            lr=first.base_lr,
            weight_decay=first.weight_decay,
            weight_decay_bias=first.weight_decay_bias,
        )
    stage = config.solver.stage2
    return make_optimizer(
        task.trained.items(),
        lr=stage.base_lr,
        weight_decay=stage.weight_decay,
        bias_lr_factor=stage.bias_lr_factor,
        weight_decay_bias=stage.weight_decay_bias,
        layer_decay=stage.layer_decay,
        name=stage.optimizer_name,
    )
