"""The published models and image sizes on real images with random weights: a step of each stage fits 16 GB.

The batch is 16 (published: 64 in stage 2), three views each.
"""

import resource

import pytest
import torch

from svllreid import build, load_config
from svllreid.data.loader import batches
from svllreid.training.optim import make_optimizer

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(1800)]
LIMIT = 16 * 2**30


@pytest.mark.parametrize("name", ["vit_svllreid", "rn50_svllreid"])
def test_one_step_of_each_stage(name, real_data):
    config = load_config(
        f"person/{name}.yml",
        ["MODEL.PRETRAINED=random", f"DATASETS.ROOT_DIR={real_data / 'pku_reid'}", "DATALOADER.NUM_WORKERS=0",
         "SOLVER.STAGE2.IMS_PER_BATCH=16"],
    )  # fmt: skip
    data = build.TrainingData.of(build.build_splits(config).train)
    model = build.build_model_for(config, data)
    assert config.input.size_train == (256, 128)
    if name == "vit_svllreid":
        assert model.image_encoder.grid == (21, 10)
    batch = next(iter(batches(build.build_train_loader(config, data, build.build_sampler(config, data), cpu(config)))))

    stage1 = build.build_stage1(config, model).train()
    with torch.no_grad():
        features = model.eval().encode_image(batch.images).proj
    step(stage1.train(), config.solver.stage1, features, batch.labels, torch.Generator().manual_seed(0))
    step(build.build_stage2(config, model).train(), config.solver.stage2, batch)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < LIMIT


def cpu(config):
    return build.build_fabric(config, "cpu")


def step(task, stage, *arguments):
    """One step moves what it trains, and every loss is finite."""
    optimizer = make_optimizer(task.trained.items(), lr=stage.base_lr, weight_decay=stage.weight_decay)
    before = {name: p.detach().clone() for name, p in task.trained.items()}
    result = task(*arguments)
    result.loss.backward()
    optimizer.step()
    assert torch.isfinite(result.loss)
    assert {"loss_i2t", "loss_ssl"} <= set(result.terms)
    with_gradient = {name for name, p in task.trained.items() if p.grad is not None and p.grad.abs().sum() > 0}
    moved = {name for name, p in task.trained.items() if not torch.equal(p, before[name])}
    assert with_gradient and with_gradient <= moved
