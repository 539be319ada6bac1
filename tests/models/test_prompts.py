"""Prompts, their augmentations, and the shortened text encoding."""

import pytest
import torch

from svllreid import build_model
from svllreid.errors import ConfigError
from svllreid.models.prompt_augmentations import PromptAugmentation, mask_prompts, mix_prompts, swap_prompts
from svllreid.models.prompts import tokenize


@pytest.fixture(scope="module")
def prompts():
    return torch.randn(6, 77, 8, generator=torch.Generator().manual_seed(0)) + 5


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mask_sets_that_share_to_zero_and_rescales_nothing(prompts):
    for scale in (0.2, 0.5):
        masked = mask_prompts(prompts, scale, generator())
        kept = masked != 0
        assert torch.equal(masked[kept], prompts[kept])
        assert abs((~kept).float().mean().item() - scale) < 0.03
    assert torch.equal(mask_prompts(prompts, 0.0, generator()), prompts)


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0])
def test_swap_permutes_that_many_positions(prompts, scale):
    swapped = swap_prompts(prompts, scale, generator())
    changed = (swapped != prompts).any(dim=2).sum(dim=1)
    assert (changed <= int(77 * scale)).all() and changed.float().mean() > int(77 * scale) - 4
    assert torch.equal(swapped.sort(dim=1).values, prompts.sort(dim=1).values)
    assert not torch.equal((swapped != prompts)[0], (swapped != prompts)[1]), "prompts are drawn independently"


def test_mix_takes_another_prompt_of_the_batch(prompts):
    mixed = mix_prompts(prompts, 0.25, generator())
    partners = (mixed - 0.75 * prompts) / 0.25
    distances = torch.cdist(partners.flatten(1), prompts.flatten(1))
    assert (distances.min(dim=1).values < 1e-2).all()
    assert (distances.argmin(dim=1) != torch.arange(6)).all()
    chosen = {tuple(mix_prompts(prompts, 0.25, generator(seed))[0, 0].tolist()) for seed in range(60)}
    assert len(chosen) == 5
    assert torch.equal(mix_prompts(prompts[:1], 0.25, generator()), prompts[:1])


@pytest.mark.parametrize("method", ["mask", "swap", "mix"])
def test_calls_differ_and_seeds_repeat(prompts, method):
    augment, draws = PromptAugmentation(method, 0.5), generator(1)
    first, second = augment(prompts, draws), augment(prompts, draws)
    assert not torch.equal(first, second)
    assert torch.equal(first, augment(prompts, generator(1)))


def test_noun_moves_the_end_of_text():
    assert tokenize("vehicle")[1] == 12
    assert tokenize("fork lift truck")[1] == 14
    with pytest.raises(ConfigError, match="is not a short one"):
        tokenize(" ")
    with pytest.raises(ConfigError, match="is not a short one"):
        tokenize("person " * 80)


@pytest.mark.parametrize("method", ["mask", "swap", "mix"])
def test_text_up_to_its_end_is_exact(small_config, method):
    """Causal attention: nothing behind the end of text changes its feature, whatever the augmentation put there."""
    model = build_model(small_config(), num_classes=5).eval()
    prompts = model.prompt_learner(torch.arange(5))
    augmented = PromptAugmentation(method, 0.5)(prompts, generator())
    full_length = prompts.shape[1]
    assert model.prompt_learner.length == 12
    with torch.no_grad():
        x = augmented + model.text_encoder.positional_embedding
        mask = torch.full((full_length, full_length), float("-inf")).triu(1)
        for block in model.text_encoder.transformer.resblocks:
            x = block(x, attn_mask=mask)
        full = model.text_encoder.ln_final(x)[:, 11] @ model.text_encoder.text_projection
        torch.testing.assert_close(model.encode_prompts(augmented), full, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model.encode_all_text(batch=2), model.encode_prompts(prompts), rtol=1e-5, atol=1e-6)
