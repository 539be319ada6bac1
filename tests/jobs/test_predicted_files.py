"""How long training waits for files, computed by hand."""

import pytest
import torch

from svllreid import build_model
from svllreid.errors import OutputError
from svllreid.jobs.predicted_files import RunFiles, StageFiles, written_per_second


@pytest.mark.parametrize(
    ("epoch_seconds", "waited"),
    [
        (20.0, 60 * 0.5 + 2),  # a write takes 2 s: hidden, but for that before the last checkpoint
        (2.0, 60 * 0.5 + 2),
        (1.5, 60 * 0.5 + 2 + 59 * 0.5),
    ],
)
def test_what_an_epoch_hides_is_not_waited_for(epoch_seconds, waited):
    files = StageFiles(epochs=60, state=2000, checkpoints=1)
    assert files.waited(epoch_seconds, copying=4000, writing=1000) == pytest.approx(waited)


def test_checkpoints_are_waited_for(small_config):
    stages = {"stage 1": StageFiles(1, 100, 1), "stage 2": StageFiles(4, 1000, 2)}
    files = RunFiles(stages, checkpoint=500, best=3)
    assert files.written == 100 + 4 * 1000 + (1 + 2 + 3) * 500
    assert files.left == (1 + 2 + 1) * 500 + 1000 + 100
    assert files.largest_state == 1000
    waited = files.waited({"stage 1": 9.0, "stage 2": 9.0}, copying=1000, writing=100)
    assert waited == pytest.approx((0.1 + 1) + (4 * 1 + 2 * 10 + 2 * 1) + 6 * 5)


def test_a_disk_that_takes_nothing_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr("svllreid.jobs.predicted_files.WRITTEN_BYTES", 2 << 20)
    assert written_per_second(tmp_path / "new" / "run") > 0 and not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"measured with 2 MiB in .*file: Not a directory; name another"):
        written_per_second(tmp_path / "file" / "run")


def test_sizes_are_those_of_the_files(small_config):
    settings = {
        "SOLVER.STAGE1.MAX_EPOCHS": 7,
        "SOLVER.STAGE1.CHECKPOINT_PERIOD": 3,
        "SOLVER.STAGE2.MAX_EPOCHS": 6,
        "SOLVER.STAGE2.CHECKPOINT_PERIOD": 3,
        "SOLVER.STAGE2.EVAL_PERIOD": 2,
    }
    config = small_config(settings)
    model = build_model(config, num_classes=4)
    files = RunFiles.of(model, config)
    assert (files.stages["stage 1"].checkpoints, files.stages["stage 2"].checkpoints) == (3, 2)  # 3, 6, 7 and 3, 6
    assert files.stages["stage 1"].state == 3 * 4 * model.prompt_learner.cls_ctx.numel()
    assert files.checkpoint == sum(v.numel() * v.element_size() for v in model.state_dict().values())
    assert files.best == 3
    state, left = files.stages["stage 2"].state, files.left
    kept = RunFiles.of(model, small_config({**settings, "SOLVER.KEEP_LAST": 1, "SOLVER.STAGE2.EVAL_PERIOD": 4}))
    assert kept.left == left - kept.checkpoint and kept.written == files.written - kept.checkpoint
    assert kept.best == 2  # after epochs 4 and 6
    averaged = RunFiles.of(model, small_config({**settings, "SOLVER.STAGE2.EMA_DECAY": 0.9}))
    assert averaged.stages["stage 2"].state == state * 4 // 3
    without = RunFiles.of(model, small_config({**settings, "MODEL.USE_TEXT": False}))
    assert list(without.stages) == ["stage 2"]


def test_copying_is_measured(monkeypatch):
    from svllreid.jobs import predicted_files

    monkeypatch.setattr(predicted_files, "WRITTEN_BYTES", 8 << 20)
    assert predicted_files.copied_per_second(torch.device("cpu")) > 0
