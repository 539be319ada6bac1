"""Texts through CLIP's text tower, and whether a checkpoint was trained with it."""

import open_clip
import pytest
import torch

from svllreid.errors import CheckpointError, DatasetError
from svllreid.models.architectures import TINY
from svllreid.models.captions import PREFIX, CaptionEncoder, tokenize_texts
from svllreid.models.clip import load_clip
from svllreid.models.pretrained import read_weights
from svllreid.models.reid import SVLLReID

TEXTS = ["a man", "a tall woman in a red striped shirt and dark blue trousers, carrying a black backpack"]


@pytest.fixture(scope="module")
def weights():
    return read_weights("tiny", "rendered-people")


@pytest.fixture(scope="module")
def network(weights):
    return CaptionEncoder(load_clip("tiny", weights)).eval()


def reid_state(weights):
    model = SVLLReID(
        load_clip("tiny", weights),
        num_classes=2,
        num_cameras=1,
        num_views=1,
        image_size=(96, 48),
        stride=(16, 16),
        sie_camera=False,
        sie_view=False,
        sie_coe=0.0,
        noun="person",
        use_text=True,
        language_head=False,
        vision_head=None,
        ssl_hidden_dim=8,
        ssl_out_dim=8,
    )
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_features_are_those_of_open_clip(network, weights):
    clip = open_clip.CLIP(**TINY, quick_gelu=True).eval()
    clip.load_state_dict(weights.state, strict=True)
    with torch.inference_mode():
        ours, theirs = network(tokenize_texts(TEXTS)), clip.encode_text(open_clip.tokenize(TEXTS))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_seventy_five_tokens_between_start_and_end_fit_and_one_more_does_not():
    fits = tokenize_texts(["word " * 75])
    assert torch.equal(fits, open_clip.tokenize("word " * 75)) and fits[0, -1] == fits.max()
    with pytest.raises(DatasetError, match=r"text 1 \('word word.*longer than the 77 tokens.*shorten"):
        tokenize_texts(["a man", "word " * 76])


@pytest.mark.parametrize(("text", "told"), [("", "is empty"), (" \n", "is empty"), (7, "is a int"), (None, "NoneType")])
def test_what_is_no_text_is_refused(text, told):
    with pytest.raises(DatasetError, match=f"text 1 {'is a ' * (told == 'NoneType')}{told}"):
        tokenize_texts(["a man", text])


@pytest.mark.parametrize("half", [False, True])
def test_a_checkpoint_trained_with_the_tower_is_accepted(network, weights, half):
    state = reid_state(weights)
    kept = {name: value.half() if half and value.is_floating_point() else value for name, value in state.items()}
    assert network.check_trained_with(kept, "run.pth", "CLIP")


@pytest.mark.parametrize("name", ["text_encoder.ln_final.bias", "text_encoder.text_projection", PREFIX])
def test_a_checkpoint_of_another_tower_is_refused(network, weights, name):
    state = reid_state(weights)
    state[name][..., -1] += 0.01
    with pytest.raises(CheckpointError, match=rf"run.pth was not trained with .* of CLIP: 1 of its \d+ .*{name}"):
        network.check_trained_with(state, "run.pth", "CLIP")


def test_a_tower_of_other_sizes_is_refused(network, weights):
    state = reid_state(weights)
    state["text_encoder.text_projection"] = torch.zeros(64, 99)
    state["text_encoder.transformer.resblocks.9.ln_1.bias"] = torch.zeros(64)
    with pytest.raises(CheckpointError, match=r"2 of its \d+ entries"):
        network.check_trained_with(state, "run.pth", "CLIP")


def test_without_text_tower_nothing_is_compared(network, weights):
    state = {name: value for name, value in reid_state(weights).items() if name.startswith("image_encoder.")}
    assert not network.check_trained_with(state, "run.pth", "CLIP")
