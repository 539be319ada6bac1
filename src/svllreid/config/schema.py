"""The configuration tree: published key names in YAML (upper case), the same names in lower case in Python."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from svllreid.config.fields import (
    MAY_CHANGE,
    NOT_GIVEN,
    Derived,
    Names,
    OnOff,
    Pair,
    Precision,
    Probability,
    Section,
    Text,
    Triple,
    Weight,
    YesNo,
)
from svllreid.data.readers import DATASETS
from svllreid.evaluation.ranking.rerank import RerankOptions
from svllreid.models.prompt_augmentations import AUGMENTATIONS
from svllreid.models.self_supervision import SELF_SUPERVISION
from svllreid.types import PERSON

# The choices are those of the registries.
SslType = Literal[*SELF_SUPERVISION]  # type: ignore[valid-type]
PromptAugMethod = Literal[*AUGMENTATIONS]  # type: ignore[valid-type]


def _is_tiny(config: Config) -> bool:
    return config.model.name == "tiny"


def _common_noun(config: Config) -> str:
    """What the datasets of the training show; empty where it is people and vehicles, for the user to choose."""
    names = config.datasets.names
    listed = [entry.partition(":")[0] for entry in ((names,) if isinstance(names, str) else names)]
    nouns = {DATASETS[name].noun for name in listed if name in DATASETS} or {PERSON}
    return nouns.pop() if len(nouns) == 1 else ""


class Dataloader(Section):
    """How images are fed."""

    num_instance: Annotated[int, Field(ge=2)] = 4
    """Images of each identity in a stage-2 batch (K of P x K)."""
    num_workers: Annotated[int, Field(ge=0), MAY_CHANGE] = 8
    """Processes that decode and augment; never more than the machine has cores. 0: in the main process."""
    cache: Annotated[Literal["none", "memory", "disk"], MAY_CHANGE] = "none"
    """Keep stage 2's decoded and resized images, for the same results sooner: none; memory, of the run; disk, in
    CACHE_DIR, for later runs too. A hundred thousand bytes an image of 256 x 128."""
    cache_dir: Annotated[Text, MAY_CHANGE] = ""
    """Folder of CACHE disk; empty: images in ~/.cache/svllreid (SVLLREID_CACHE names another than the latter)."""


class Datasets(Section):
    """What is trained and tested on."""

    names: Annotated[
        Names,
        Field(
            description=f"Dataset, or a list to train on jointly: {', '.join(DATASETS)}. One that lies elsewhere than "
            "ROOT_DIR is named with its place: folder:/data/mine."
        ),
    ] = "market1501"
    test: Annotated[Names, MAY_CHANGE] = ()
    """Dataset, or a list, to test on during and after training and in `test`; empty: the (first) one of NAMES."""
    root_dir: Annotated[Text, MAY_CHANGE] = "../data"
    """Folder that holds the dataset as its authors distribute it; for `manifest` the CSV or Parquet file."""
    veri_views: Annotated[Text, MAY_CHANGE] = ""
    """Folder of VeRi's viewpoint labels keypoint_train.txt and keypoint_test.txt; empty: beside the images."""
    noun: Annotated[Text, Derived(_common_noun)] = ""
    """The prompt's noun, "A photo of a X X X X noun."; empty: vehicle for veri and VehicleID, person for the others, to
    be chosen where both are trained on jointly."""
    val_identities: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training identities held out as query and gallery, to choose settings; 0: test on the test set."""


class Input(Section):
    """Images and their augmentation."""

    size_train: Pair = (256, 128)
    """Height and width in training."""
    size_test: Pair = (256, 128)
    """Height and width at test; the same as in training."""
    prob: Probability = 0.5
    """Probability of a horizontal flip."""
    re_prob: Probability = 0.5
    """Probability of random erasing, for the training image and both augmented copies of self-supervision."""
    re_max_area: Annotated[
        float, Field(gt=0.02, le=1), Derived(lambda config: 1 / 3 if config.model.use_text else 1 / 4)
    ] = NOT_GIVEN
    """Largest share of the image that random erasing covers; null: 1/3, and 1/4 where there is no text stage."""
    padding: Annotated[int, Field(ge=0)] = 10
    """Black border, in pixels, from which the random crop is taken."""
    augment_on: Literal["cpu", "device"] = "cpu"
    """Where stage 2's images are flipped, cropped and erased: cpu, one by one; device, a batch at once where the model
    trains, drawn from the same distributions with other draws."""
    pixel_mean: Triple = (0.5, 0.5, 0.5)
    """Mean of each channel, images in 0..1."""
    pixel_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.5, 0.5, 0.5)
    """Deviation of each channel."""


class Model(Section):
    """The network and its losses."""

    name: str = "ViT-B-16"
    """Backbone: ViT-B-16, RN50, any other CLIP ViT that open_clip names, or tiny."""
    pretrained: Annotated[Text, Derived(lambda config: "rendered-people" if _is_tiny(config) else "openai")] = ""
    """Weights to start from: openai, an open_clip tag, a file or folder (in OpenAI's, open_clip's or Hugging Face's
    layout, or a trained ReID model), or random; empty: openai (rendered-people, which is shipped, for tiny)."""
    stride_size: Pair = (16, 16)
    """Step of the patch embedding, down and across; 12 makes 16-pixel patches overlap. ViT only."""
    sie_camera: bool = False
    """Side information embedding: learn one vector per camera. ViT only."""
    sie_view: bool = False
    """Side information embedding: learn one vector per viewpoint (with SIE_CAMERA: per pair). ViT only."""
    sie_coe: float = 3.0
    """Factor of the side information embedding."""
    frozen_blocks: Annotated[int, Field(ge=0)] = 0
    """Patch embedding and so many first blocks stay as pretrained in stage 2; for small sets. ViT only."""
    grad_checkpointing: bool = False
    """Keep no activations inside the blocks of the image encoder and compute them again: a third less speed, far less
    memory. ViT only."""
    compile: Annotated[bool | Literal["auto"], MAY_CHANGE] = "auto"
    """Compile both stages with torch.compile, which takes half a minute in the first step of each. auto: on CUDA, where
    the compiler works and the stage has 2000 steps or more."""
    use_text: bool = True
    """Stage 1 and the image-to-text loss; false is the one-stage baseline."""
    use_ssl_stage1: bool = False
    """Language self-supervision in stage 1, on augmented prompts."""
    use_ssl: bool = False
    """Vision self-supervision in stage 2, on augmented images."""
    ssl_type: SslType = "SIMCLR"
    """Stage 2's self-supervised loss: SIMCLR or SIMSIAM."""
    ssl_hidden_dim: Annotated[PositiveInt, Derived(lambda config: 512 if _is_tiny(config) else 4096)] = NOT_GIVEN
    """Hidden width of the SimCLR heads; null: 4096 (512 for tiny)."""
    ssl_out_dim: Annotated[PositiveInt, Derived(lambda config: 128 if _is_tiny(config) else 256)] = NOT_GIVEN
    """Output width of the SimCLR heads; null: 256 (128 for tiny)."""
    id_loss_weight: Weight = 1.0
    """Weight of the identity classification loss."""
    triplet_loss_weight: Weight = 1.0
    """Weight of the triplet loss."""
    i2t_loss_weight: Weight = 1.0
    """Weight of the image-to-text loss in stage 2."""
    if_labelsmooth: OnOff = "on"
    """Label smoothing (0.1) of the identity and image-to-text losses: on or off."""
    no_margin: bool = False
    """Triplet loss with the soft margin log(1 + exp(.)) instead of SOLVER.MARGIN."""


class Stage1(Section):
    """Stage 1: one text prompt per identity is learned."""

    ims_per_batch: PositiveInt = 64
    """Cached image features in a batch, all processes together."""
    max_epochs: PositiveInt = 120
    """Passes over the training set."""
    base_lr: PositiveFloat = 3.5e-4
    """Learning rate after the warm-up."""
    lr_min: Weight = 1e-6
    """Learning rate at the end of the cosine."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 5
    """Epochs of linear warm-up."""
    warmup_lr_init: Weight = 1e-5
    """Learning rate from which the warm-up starts."""
    weight_decay: Weight = 1e-4
    """L2 penalty."""
    weight_decay_bias: Weight = 1e-4
    """L2 penalty of biases (which only the head of TRAIN_SSL_HEAD has)."""
    ssl_loss_weight: Weight = 0.8
    """Weight of language self-supervision."""
    prompt_aug_method: PromptAugMethod = "mask"
    """Prompt augmentation: mask scalars, swap token positions, or mix with another prompt of the batch."""
    prompt_aug_scale: Probability = 0.5
    """Strength of the augmentation: share masked or swapped, or the other prompt's weight."""
    train_ssl_head: bool = False
    """Train text_mlp too; published runs keep it as initialised."""
    log_period: Annotated[PositiveInt, MAY_CHANGE] = 50
    """Steps between two lines of the log."""
    checkpoint_period: Annotated[PositiveInt, MAY_CHANGE] = 120
    """Epochs between two kept files; the last epoch is always kept."""


class Stage2(Section):
    """Stage 2: the image encoder is trained against the prompts."""

    ims_per_batch: PositiveInt = 64
    """Images in a batch (P x K), all processes together."""
    max_epochs: PositiveInt = 60
    """Passes over the training set."""
    micro_batch: Annotated[int, Field(ge=0)] = 0
    """Images (augmented copies counted) whose activations are in memory at once; 0: all. The losses see the whole batch
    all the same: features are computed part by part, and again in the backward pass. ViT only."""
    optimizer_name: Literal["Adam", "AdamW"] = "Adam"
    """Optimiser; Adam has L2 weight decay in the gradient, AdamW decays the weights themselves."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the learning rate from each block of the image encoder to the one before it; 1: the same for all."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the moving average of the weights, which is then evaluated and kept, such as 0.999; 0: off."""
    base_lr: PositiveFloat = 5e-6
    """Learning rate after the warm-up."""
    bias_lr_factor: Weight = 2.0
    """Factor of the learning rate for every parameter whose name contains bias."""
    steps: tuple[PositiveInt, ...] = (30, 50)
    """Epochs from which the learning rate is multiplied by GAMMA once more."""
    gamma: PositiveFloat = 0.1
    """Factor at each of the steps."""
    warmup_factor: Probability = 0.1
    """Share of the learning rate with which the warm-up starts."""
    warmup_iters: Annotated[int, Field(ge=0)] = 10
    """Epochs of warm-up."""
    warmup_method: Literal["linear", "constant"] = "linear"
    """Shape of the warm-up: linear or constant."""
    weight_decay: Weight = 1e-4
    """L2 penalty."""
    weight_decay_bias: Weight = 1e-4
    """L2 penalty of every parameter whose name contains bias."""
    ssl_loss_weight: Weight = 0.8
    """Weight of vision self-supervision."""
    log_period: Annotated[PositiveInt, MAY_CHANGE] = 50
    """Steps between two lines of the log."""
    checkpoint_period: Annotated[PositiveInt, MAY_CHANGE] = 60
    """Epochs between two kept files; the last epoch is always kept."""
    eval_period: Annotated[PositiveInt, MAY_CHANGE] = 10
    """Epochs between two evaluations; the last epoch is always evaluated."""


class Solver(Section):
    """Optimisation."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1234
    """Seed of every random draw."""
    margin: Weight = 0.3
    """Margin of the triplet loss."""
    precision: Precision = "auto"
    """Arithmetic: 32, tf32, 16-mixed or bf16-mixed; auto is 16-mixed on CUDA, as published, and 32 elsewhere."""
    sync_batchnorm: bool = False
    """BatchNorm over the images of all processes instead of each process's own; on GPUs."""
    shard: bool = False
    """Shard weights, gradients and optimiser state of the image encoder over the processes in stage 2 (FSDP), for
    backbones that do not fit otherwise; in bf16-mixed, tf32 or 32."""
    save_period: Annotated[int, Field(ge=0), MAY_CHANGE] = 0
    """Steps between two states from which a killed run continues; 0: at the ends of epochs alone."""
    keep_last: Annotated[int, Field(ge=0), MAY_CHANGE] = 0
    """Of the checkpoints written every CHECKPOINT_PERIOD epochs keep so many, and the best; 0: all."""
    wandb: Annotated[Text, MAY_CHANGE] = ""
    """Project at Weights & Biases that gets the curves too; empty: none."""
    stage1: Stage1 = Stage1()
    stage2: Stage2 = Stage2()


class Test(Section):
    """Testing."""

    all_may_change = True

    ims_per_batch: PositiveInt = 64
    """Images in a batch."""
    weight: Text = ""
    """The checkpoint to test."""
    neck_feat: Literal["before", "after"] = "before"
    """Compare features before or after the BNNeck."""
    flip: bool = False
    """Add the features of the mirrored image: twice the time."""
    feat_norm: YesNo = "yes"
    """L2-normalise the features."""
    re_ranking: bool = False
    """Re-rank by k-reciprocal neighbours."""
    re_ranking_k1: PositiveInt = RerankOptions.k1
    """Neighbours that re-ranking tests for reciprocity."""
    re_ranking_k2: PositiveInt = RerankOptions.k2
    """Neighbours that re-ranking averages over; 1 averages nothing."""
    re_ranking_lambda: Probability = RerankOptions.lambda_value
    """Weight of the original distance against re-ranking's Jaccard distance: 1 changes nothing."""
    veri_drop_unlabelled: bool = False
    """Leave VeRi's test images without viewpoint label out, as the published test does."""
    far: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (1e-2, 1e-3, 1e-4)
    """False-accept rates for which true-accept rate and distance threshold are reported ("are these two the same?")."""


class Config(Section):
    """A whole run."""

    model: Model = Model()
    input: Input = Input()
    datasets: Datasets = Datasets()
    dataloader: Dataloader = Dataloader()
    solver: Solver = Solver()
    test: Test = Test()
    output_dir: Annotated[Text, MAY_CHANGE] = ""
    """Folder of the run's files; empty: outputs/<dataset>_<backbone>."""
