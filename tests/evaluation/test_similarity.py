"""How alike prompts are: by hand, and against every pair."""

import pytest
import torch

from svllreid.evaluation.similarity import mean_similarity


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ([[1.0, 0.0], [1.0, 0.0]], 1.0),
        ([[1.0, 0.0], [0.0, 3.0]], 0.0),
        ([[1.0, 0.0], [-2.0, 0.0]], -1.0),
        ([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], (0.5**0.5 + 0 + 0.5**0.5) / 3),
        ([[1.0, 2.0]], 0.0),
    ],
)
def test_by_hand(features, expected):
    assert mean_similarity(torch.tensor(features)) == pytest.approx(expected, abs=1e-12)


def test_it_is_the_mean_over_all_pairs_of_different_identities():
    features = torch.randn(9, 5, generator=torch.Generator().manual_seed(0)) + 1
    pairs = [
        torch.cosine_similarity(features[i].double(), features[j].double(), dim=0).item()
        for i in range(9)
        for j in range(9)
        if i != j
    ]
    assert mean_similarity(features) == pytest.approx(sum(pairs) / len(pairs), abs=1e-7)
    assert mean_similarity(features * torch.arange(1, 10)[:, None]) == pytest.approx(mean_similarity(features))


def test_half_precision_is_summed_in_double():
    features = torch.ones(5000, 8, dtype=torch.float16)
    assert mean_similarity(features) == pytest.approx(1.0, abs=1e-9)
