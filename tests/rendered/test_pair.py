"""The pretrained pair of towers: the same features as open_clip's, and written weights that give the trained model."""

import open_clip
import pytest
import torch
from torch.nn import functional as F

from svllreid.errors import ConfigError
from svllreid.models.architectures import TINY
from svllreid.models.clip import ClipTowers, check_whole, load_clip
from svllreid.models.pretrained import SHIPPED, read_weights
from svllreid.models.towers import ViTEncoder, resize_positions
from svllreid.rendered.pair import ImageTextPair
from svllreid.rendered.task import PretrainTask, make_pretrain_optimizer, warm_cosine_lr

CAPTIONS = ["a person", "a tall woman in a red striped shirt and dark blue trousers, carrying a black backpack"]


@pytest.fixture
def pair() -> ImageTextPair:
    torch.manual_seed(0)
    return ImageTextPair(load_clip("tiny", "random"), (96, 48)).eval()


def test_features_are_those_of_open_clip(pair):
    clip = open_clip.CLIP(**TINY, quick_gelu=True).eval()
    clip.load_state_dict(pair.openai_state(), strict=True)
    token_ids = open_clip.SimpleTokenizer()(CAPTIONS)
    with torch.inference_mode():
        torch.testing.assert_close(pair.encode_text(token_ids), clip.encode_text(token_ids), rtol=1e-5, atol=1e-5)
        square = ImageTextPair(load_clip("tiny", pair.openai_state()), (96, 96)).eval()
        images = torch.randn(2, 3, 96, 96)
        torch.testing.assert_close(square.encode_image(images), clip.encode_image(images), rtol=1e-4, atol=1e-5)


def test_positions_come_back_exactly(pair):
    state = pair.openai_state()
    assert state["visual.positional_embedding"].shape == (37, 256)
    back = resize_positions(state["visual.positional_embedding"], (6, 3))
    torch.testing.assert_close(back, pair.image_encoder.positional_embedding, rtol=0, atol=1e-6)
    check_whole(state, "what was trained")


def test_balance_keeps_cosines_and_makes_products_logits(pair):
    images, token_ids = torch.randn(6, 3, 96, 48), open_clip.SimpleTokenizer()([f"{n} people" for n in range(6)])

    def features():
        with torch.inference_mode():
            return pair.encode_image(images), pair.encode_text(token_ids)

    before = features()
    pair.balance(*before)
    after = features()
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(F.normalize(one), F.normalize(other), rtol=1e-4, atol=1e-5)
        assert other.norm(dim=1).mean() == pytest.approx(float(pair.scale.detach()) ** 0.5, rel=1e-4)


def test_a_resnet_and_a_grid_that_is_no_multiple_are_refused(pair):
    with pytest.raises(ConfigError, match="pretraining takes a ViT"):
        ImageTextPair(ClipTowers(torch.nn.Identity(), None, 1, 1, 1), (96, 48))
    with pytest.raises(ConfigError, match="6 x 4 patches"):
        ImageTextPair(load_clip("tiny", "random"), (96, 64))


def test_steps_lower_the_loss_and_reach_every_parameter(pair):
    task = PretrainTask(pair.train())
    optimizer = make_pretrain_optimizer(pair, 1e-3, 0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert "logit_scale" in optimizer.param_groups[1]["names"]
    images, token_ids = torch.randn(2, 3, 96, 48), open_clip.SimpleTokenizer()(CAPTIONS)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        result = task(images, token_ids)
        result.loss.backward()
        losses.append(result.loss.item())
        optimizer.step()
    assert losses[-1] < losses[0] - 0.1
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pair.parameters())


def test_learning_rate_warms_up_and_falls():
    rates = [warm_cosine_lr(epoch, base_lr=1.0, max_epochs=10, warmup_epochs=2) for epoch in range(1, 11)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[2:] == sorted(rates[2:], reverse=True) and rates[-1] == pytest.approx(0.01)
    assert warm_cosine_lr(1, base_lr=1.0, max_epochs=1, warmup_epochs=0) == 1.0


def test_the_shipped_file_is_whole_small_and_half():
    file = SHIPPED["tiny"]["rendered-people"]
    assert file.stat().st_size < 20e6
    weights = read_weights("tiny", "rendered-people")
    assert weights.path == file and weights.quick_gelu is True
    assert {value.dtype for value in weights.state.values()} == {torch.float16}
    check_whole(weights.state, str(file))
    towers = load_clip("tiny", "rendered-people")
    encoder = ViTEncoder(towers.vision, (96, 48), (16, 16))
    assert 4.5e6 < sum(p.numel() for p in encoder.parameters()) < 5.5e6
