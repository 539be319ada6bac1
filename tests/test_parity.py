"""Every number recorded from the published system, reproduced through the public API (tests/golden/README.md)."""

import importlib.util
import json
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import svllreid
from svllreid.build import build_stage1, build_stage2
from svllreid.models.prompts import tokenize
from svllreid.training.optim import make_optimizer
from svllreid.training.schedule import cosine_lr, step_lr
from svllreid.types import Batch

LABELS = torch.tensor([0, 0, 0, 0, 2, 2, 2, 2, 5, 5, 5, 5, 7, 7, 7, 7])
BASE = ("MODEL.SSL_HIDDEN_DIM", "96", "MODEL.SSL_OUT_DIM", "32", "MODEL.IF_LABELSMOOTH", "on")


@pytest.fixture(scope="module")
def recipe(golden):
    spec = importlib.util.spec_from_file_location("recipe", golden / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Recorded(dict):
    """A file's arrays or json tables; keeps account of what was looked at."""

    def __init__(self, *args):
        super().__init__(*args)
        self.unread = set(self)

    def __getitem__(self, key):
        self.unread.discard(key)
        return super().__getitem__(key)


@cache
def load(golden, name):
    with np.load(golden / f"{name}.npz") as file:
        arrays = Recorded(file)
    return SimpleNamespace(arrays=arrays, table=Recorded(json.loads((golden / f"{name}.json").read_text())))


def near(actual, expected, rtol=1e-4, atol=1e-5):
    if isinstance(actual, torch.Tensor):
        actual = actual.detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def clip_state(recipe, prefix, shapes):
    return {name: torch.from_numpy(recipe.tensor(prefix + name, shape)) for name, shape in shapes.items()}


def fill(model, recipe, prefix, keys):
    """Step 2 of the recipe: necks, classifiers, side information, heads and prompts."""
    own = model.state_dict()
    for name, shape in keys.items():
        if name.startswith(("image_encoder.", "text_encoder.")) or name not in own:
            continue
        if name.endswith(("num_batches_tracked", "token_prefix", "token_suffix")):
            continue
        assert list(own[name].shape) == list(shape), name
        own[name].copy_(torch.from_numpy(recipe.tensor(prefix + name, tuple(shape))))
    return model


@pytest.fixture(scope="module")
def vit(golden, recipe):
    """Builds the small ViT with either self-supervised loss."""
    data = load(golden, "vit_small")
    table, prefix = data.table, data.table["prefix"]
    state = clip_state(recipe, prefix, recipe.clip_shapes(**table["dims"]))
    cameras = torch.from_numpy(recipe.integers(prefix + "cams", (16,), table["num_cameras"]))
    names = ("images", "aug1", "aug2")
    images, augmented1, augmented2 = (
        torch.from_numpy(recipe.uniform(prefix + name, (16, 3, *table["image_size"]))) for name in names
    )

    def make(ssl_type="SIMCLR"):
        config = svllreid.load_config(
            "person/vit_svllreid.yml",
            [*BASE, "MODEL.SSL_TYPE", ssl_type, "INPUT.SIZE_TRAIN", str(table["image_size"]),
             "MODEL.STRIDE_SIZE", str(table["stride"]), "MODEL.SIE_COE", "1.0"],
        )  # fmt: skip
        model = svllreid.build_model(
            config, num_classes=table["num_classes"], num_cameras=table["num_cameras"], clip=state
        )
        keys = dict(table["model_keys"])
        if ssl_type == "SIMSIAM":
            keys |= {name: tuple(p.shape) for name, p in model.state_dict().items() if name.startswith("image_mlp.")}
        return config, fill(model, recipe, prefix, keys)

    batch = Batch(images, LABELS, cameras, torch.full((16,), -1), augmented1, augmented2)
    return SimpleNamespace(make=make, batch=batch, prefix=prefix, table=table, arrays=data.arrays)


def test_checkpoint_keys_are_the_published_ones(vit, recipe):
    _, model = vit.make()
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == vit.table["model_keys"]


@pytest.mark.parametrize("noun", ["person", "vehicle"])
def test_token_ids(vit, noun):
    token_ids, length = tokenize(noun)
    np.testing.assert_array_equal(token_ids.numpy(), vit.arrays[f"prompt/{noun}_token_ids"])
    assert length == 12


@torch.no_grad()
def test_eval_features(vit):
    _, model = vit.make()
    model.eval()
    images, cameras, arrays = vit.batch.images, vit.batch.camids, vit.arrays
    near(model.embed(images, cameras, normalize=False), arrays["eval/features_before_neck"])
    near(model.embed(images, cameras, normalize=False, after_neck=True), arrays["eval/features_after_neck"])
    near(model.embed(images, normalize=False), arrays["eval/features_without_camera"])
    near(model.encode_image(images).proj, arrays["eval/image_features_stage1"])
    near(model.encode_all_text(), arrays["eval/text_features"])


def test_stage1(vit, recipe):
    config, model = vit.make()
    prefix, arrays = vit.prefix, vit.arrays
    num_classes, embed_dim = vit.table["num_classes"], vit.table["dims"]["embed_dim"]
    labels = torch.from_numpy(recipe.integers(prefix + "stage1_labels", (24,), num_classes))
    features = torch.from_numpy(recipe.tensor(prefix + "stage1_image_features", (24, embed_dim)))
    masks = iter(("stage1_mask1", "stage1_mask2"))
    task = build_stage1(config, model).train()
    embeddings = []
    model.text_mlp.register_forward_hook(lambda module, inputs, output: embeddings.append(output.detach()))

    def recorded_mask(prompts, generator):
        draws = recipe.uniform(prefix + next(masks), tuple(prompts.shape), 0, 1)
        return prompts.masked_fill(torch.from_numpy(draws < 0.5), 0.0)

    task.augment = recorded_mask
    stage = config.solver.stage1
    optimizer = make_optimizer(task.trained.items(), lr=stage.base_lr, weight_decay=stage.weight_decay)
    result = task(features, labels, torch.Generator())
    result.loss.backward()
    for name in ("loss_i2t", "loss_t2i", "loss_ssl"):
        near(result.terms[name], arrays[f"stage1/{name}"])
    near(result.loss, arrays["stage1/loss"])
    near(embeddings[0], arrays["stage1/aug_embed1"])
    with torch.no_grad():
        near(model.encode_prompts(model.prompt_learner(labels)), arrays["stage1/text_features"])
    cls_ctx = model.prompt_learner.cls_ctx
    near(cls_ctx.grad[..., :16], arrays["stage1/grad_cls_ctx"])
    near(cls_ctx.grad.norm(), arrays["stage1/grad_cls_ctx_norm"], rtol=1e-3)
    optimizer.step()
    near(cls_ctx[..., :16], arrays["stage1/cls_ctx_after_step"])
    assert as_groups(optimizer) == {tuple(group) for group in vit.table["stage1_param_groups"]}


def as_groups(optimizer):
    return {
        (name, round(group["lr"], 12), group["weight_decay"])
        for group in optimizer.param_groups
        for name in group["names"]
    }


@pytest.mark.parametrize("ssl_type", ["SIMCLR", "SIMSIAM"])
def test_stage2(vit, ssl_type):
    config, model = vit.make(ssl_type)
    case = f"stage2_{ssl_type.lower()}"
    arrays, table = vit.arrays, vit.table
    model.eval()
    task = build_stage2(config, model).train()
    near(task.text_features, arrays["eval/text_features"])
    stage = config.solver.stage2
    optimizer = make_optimizer(
        task.trained.items(), lr=5e-6, weight_decay=stage.weight_decay, bias_lr_factor=stage.bias_lr_factor
    )
    seen = {}
    encode, classify = model.encode_augmented, model.classify
    model.encode_augmented = lambda *args: seen.setdefault("features", encode(*args))
    model.classify = lambda *args: seen.setdefault("scores", classify(*args))
    result = task(vit.batch)
    result.loss.backward()

    for name in ("loss_id", "loss_triplet", "loss_i2t", "loss_ssl"):
        near(result.terms[name], arrays[f"{case}/{name}"])
    near(result.loss, arrays[f"{case}/loss"])
    near(seen["scores"].final, arrays[f"{case}/score"])
    near(seen["scores"].proj, arrays[f"{case}/score_proj"])
    features = seen["features"][0]
    near(features.proj @ task.text_features.T, arrays[f"{case}/logits_i2t"], atol=5e-5)
    for name in ("last", "final", "proj"):
        near(getattr(features, name)[:4], arrays[f"{case}/feature_{name}"])

    gradients = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    check_norms(gradients, table[f"{case}/grad_norms"])
    groups = {group for group in as_groups(optimizer) if ssl_type == "SIMCLR" or not group[0].startswith("text_mlp.")}
    assert groups == {tuple(group) for group in table[f"{case}/param_groups"]}
    rates = {name: lr for name, lr, _ in groups}
    optimizer.step()
    own = model.state_dict()
    for name, expected in table[f"{case}/sums_after_step"].items():
        total = own[name].double().sum().item()
        if name in rates:
            assert abs(total - expected) <= 8 * rates[name], name
        else:
            near(total, expected, rtol=1e-5)


def check_norms(actual, expected):
    assert set(actual) == set(expected)
    for name, norm in expected.items():
        np.testing.assert_allclose(actual[name], norm, rtol=1e-3, atol=1e-5, err_msg=name)


def test_schedules(vit):
    first = [
        cosine_lr(e, base_lr=3.5e-4, max_epochs=120, lr_min=1e-6, warmup_epochs=5, warmup_lr_init=1e-5)
        for e in range(1, 121)
    ]
    second = [
        step_lr(e, base_lr=5e-6, steps=(30, 50), gamma=0.1, warmup_factor=0.1, warmup_epochs=10) for e in range(1, 61)
    ]
    near(np.array(first), vit.arrays["schedule/stage1_lr"], rtol=1e-9, atol=0)
    near(np.array(second), vit.arrays["schedule/stage2_lr"], rtol=1e-9, atol=0)


def test_metrics(vit, recipe):
    prefix = vit.prefix
    ranking = svllreid.evaluate_ranking(
        recipe.uniform(prefix + "dist", (40, 200), 0, 2),
        recipe.integers(prefix + "qpid", (40,), 15),
        recipe.integers(prefix + "gpid", (200,), 18),
        recipe.integers(prefix + "qcam", (40,), 4),
        recipe.integers(prefix + "gcam", (200,), 4),
    )
    near(ranking.cmc, vit.arrays["metrics/cmc"], rtol=0, atol=1e-6)
    near(ranking.mean_ap, vit.arrays["metrics/mAP"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (50, 15)])
def test_rerank(vit, recipe, k1, k2):
    query, gallery = (recipe.tensor(vit.prefix + name, (count, 32)) for name, count in (("qf", 30), ("gf", 120)))
    query, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery))
    distances = svllreid.rerank(query, gallery, k1=k1, k2=k2, lambda_value=0.3)
    near(np.asarray(distances), vit.arrays[f"rerank/k1_{k1}_k2_{k2}"], rtol=0, atol=5e-3)


@torch.no_grad()
@pytest.mark.parametrize("case", ["camera_view", "view_only", "plain_stride16"])
def test_side_information_and_stride(golden, recipe, case):
    data = load(golden, "vit_sie")
    prefix, settings = data.table["prefix"], data.table["cases"][case]
    config = svllreid.load_config(
        "person/vit_svllreid.yml",
        [*BASE, "INPUT.SIZE_TRAIN", str(settings["image_size"]), "MODEL.STRIDE_SIZE", str(settings["stride"]),
         "MODEL.SIE_CAMERA", str(settings["sie_camera"]), "MODEL.SIE_VIEW", str(settings["sie_view"]),
         "MODEL.SIE_COE", str(settings["sie_coe"])],
    )  # fmt: skip
    cameras, views = settings["num_cameras"], settings["num_views"]
    state = clip_state(recipe, prefix, recipe.clip_shapes(**data.table["dims"]))
    model = svllreid.build_model(config, num_classes=11, num_cameras=cameras, num_views=views, clip=state).eval()
    name = f"{prefix}{case}/"
    if settings["cv_embed"]:
        model.cv_embed.copy_(torch.from_numpy(recipe.tensor(name + "cv_embed", tuple(settings["cv_embed"]))))
    images = torch.from_numpy(recipe.uniform(name + "images", (6, 3, *settings["image_size"])))
    camids = torch.from_numpy(recipe.integers(name + "cams", (6,), cameras))
    viewids = torch.from_numpy(recipe.integers(name + "views", (6,), views))
    near(model.embed(images, camids, viewids, normalize=False), data.arrays[f"{case}/features_before_neck"])


@pytest.fixture(scope="module")
def rn50(golden, recipe):
    data = load(golden, "rn50_small")
    table, prefix = data.table, data.table["prefix"]
    shapes = {
        name.replace("image_encoder.", "visual."): tuple(shape)
        for name, shape in table["model_keys"].items()
        if name.startswith("image_encoder.") and not name.endswith("num_batches_tracked")
    }
    shapes["visual.attnpool.positional_embedding"] = (50, table["width"] * 32)
    text = recipe.clip_shapes(
        vision_width=table["width"],
        vision_layers=0,
        text_width=table["text_width"],
        text_layers=table["text_layers"],
        embed_dim=table["embed_dim"],
    )
    shapes |= {name: shape for name, shape in text.items() if not name.startswith("visual.")}
    config = svllreid.load_config(
        "person/rn50_clipreid.yml", ["INPUT.SIZE_TRAIN", str(table["image_size"]), "MODEL.IF_LABELSMOOTH", "on"]
    )
    num_classes = table["model_keys"]["classifier.weight"][0]
    state = clip_state(recipe, prefix, shapes)
    model = svllreid.build_model(config, num_classes=num_classes, clip=state)
    fill(model, recipe, prefix, table["model_keys"])
    images = torch.from_numpy(recipe.uniform(prefix + "images", (8, 3, *table["image_size"])))
    return SimpleNamespace(config=config, model=model, images=images, table=table, arrays=data.arrays)


def test_rn50(rn50):
    model, images, arrays = rn50.model, rn50.images, rn50.arrays
    stages = [getattr(model.image_encoder, f"layer{stage}") for stage in (1, 2, 3, 4)]
    assert [len(stage) for stage in stages] == rn50.table["layers"]
    own = {name: list(value.shape) for name, value in model.state_dict().items()}
    published = rn50.table["model_keys"].items()
    assert own == {name: shape for name, shape in published if not name.startswith(("image_mlp.", "text_mlp."))}
    model.eval()
    with torch.no_grad():
        near(model.embed(images, normalize=False), arrays["eval/features_before_neck"])
        near(model.encode_image(images).proj, arrays["eval/image_features_stage1"])
    # BatchNorm over 8 images amplifies rounding: in float32 this differs by more than the tolerance from one number of
    # threads to another. In float64 all that is left is the rounding of what was recorded.
    model, images = model.double(), images.double()
    task = build_stage2(rn50.config, model).train()
    near(task.text_features, arrays["eval/text_features"])

    seen = {}
    encode, classify = model.encode_augmented, model.classify
    model.encode_augmented = lambda *args: seen.setdefault("features", encode(*args))
    model.classify = lambda *args: seen.setdefault("scores", classify(*args))
    unknown = torch.full((8,), -1)
    result = task(Batch(images, torch.tensor([0, 0, 2, 2, 5, 5, 7, 7]), unknown, unknown))
    result.loss.backward()
    near(result.loss, arrays["train/loss"])
    near(seen["scores"].final, arrays["train/score"])
    near(seen["scores"].proj, arrays["train/score_proj"])
    for name in ("last", "final", "proj"):
        near(getattr(seen["features"][0], name), arrays[f"train/feature_{name}"])
    gradients = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    check_norms(gradients, rn50.table["grad_norms"])


@pytest.mark.parametrize("name", ["vit_small", "vit_sie", "rn50_small"])
def test_nothing_recorded_is_left_out(golden, request, name):
    if len([item for item in request.session.items if item.path == request.path]) < 15:
        pytest.skip("tells something only after the rest of this file")
    data = load(golden, name)
    assert not data.arrays.unread
    assert not data.table.unread
