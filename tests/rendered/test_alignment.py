"""Scores of matching images with texts, on features made by hand."""

import pytest
import torch

from svllreid.rendered.alignment import probe, retrieval_rank1


def test_retrieval_looks_within_groups_only():
    texts = torch.eye(4).repeat(2, 1)
    assert retrieval_rank1(7 * texts, texts, among=4) == 1.0
    assert retrieval_rank1(texts, texts, among=8) == 0.5  # of two equal texts the first one is taken
    images = texts[[1, 0, 2, 3, 0, 1, 2, 3]]
    assert retrieval_rank1(images, texts, among=4) == 0.75
    assert retrieval_rank1(torch.cat([images, -texts[:3]]), torch.cat([texts, texts[:3]]), among=4) == 0.75
    with pytest.raises(ValueError, match="8 rows are fewer than a group of 9"):
        retrieval_rank1(texts, texts, among=9)


def test_probe_weighs_classes_alike():
    texts = torch.eye(3)
    images = texts[[0, 0, 0, 1, 2, 2]]
    found = probe(images, 5 * texts, torch.tensor([0, 0, 0, 1, 1, 2]))  # the fifth answers 2
    assert found == (pytest.approx((1 + 0.5 + 1) / 3), 1 / 3, 6)
    fewer = probe(images, texts, torch.tensor([0, 1, -1, 1, 2, -1]))
    assert fewer == (pytest.approx((1 + 0.5 + 1) / 3), 1 / 3, 4)
    with pytest.raises(ValueError, match="no image of class 1"):
        probe(images, texts, torch.tensor([0, 0, 0, -1, 2, 2]))
