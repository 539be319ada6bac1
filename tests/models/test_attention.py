"""The fused attention and the shortcut through the last block give what CLIP's own blocks give."""

import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock

from svllreid.models.attention import FusedAttention, causal_mask, fuse, one_token


@pytest.fixture
def blocks():
    """The same block twice, one of them fused."""
    torch.manual_seed(0)
    plain, fused = ResidualAttentionBlock(32, 4), ResidualAttentionBlock(32, 4)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    fused.load_state_dict(plain.state_dict())
    fuse([fused])
    return plain, fused


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_fused_blocks_equal_plain_ones(blocks, causal, training):
    plain, fused = (block.train(training) for block in blocks)
    assert isinstance(fused.attn, FusedAttention)
    assert list(fused.state_dict()) == list(plain.state_dict())
    mask = causal_mask(7, torch.device("cpu")) if causal else None
    inputs = [torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    results = [block(x, attn_mask=mask) for block, x in zip(blocks, inputs, strict=True)]
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-4)
    for result in results:
        result.square().sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, atol=1e-3, rtol=1e-4)
    gradients = [{name: parameter.grad for name, parameter in block.named_parameters()} for block in blocks]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=2e-3, rtol=1e-3, msg=name)


@pytest.mark.parametrize("position", [0, -1])
def test_one_token_is_that_token_of_the_whole_block(blocks, position):
    _, fused = blocks
    x = torch.randn(3, 7, 32)
    torch.testing.assert_close(one_token(fused, x, position), fused(x)[:, position], atol=1e-5, rtol=1e-4)
