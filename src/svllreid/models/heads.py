"""Heads of the self-supervised losses; their key names are the published ones."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class ProjectionHead(nn.Module):
    """SimCLR's projection: Linear-BN-ReLU, Linear-BN-ReLU, Linear.

    Args:
        in_dim, hidden_dim, out_dim: widths.
    Source: Chen et al. 2020, arXiv:2002.05709.

    >>> import torch
    >>> ProjectionHead(in_dim=6, hidden_dim=8, out_dim=4)(torch.randn(3, 6)).shape
    torch.Size([3, 4])
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(in_dim, hidden_dim)
        self.bn1 = nn.BatchNorm1d(hidden_dim)
        self.layer2 = nn.Linear(hidden_dim, hidden_dim)
        self.bn2 = nn.BatchNorm1d(hidden_dim)
        self.layer3 = nn.Linear(hidden_dim, out_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings (B, out_dim) of (B, in_dim) features."""
        x = F.relu(self.bn1(self.layer1(features)))
        return self.layer3(F.relu(self.bn2(self.layer2(x))))

    def init_weights(self) -> None:
        """Initialise as the published code does for `image_mlp`."""
        for layer in (self.layer1, self.layer2, self.layer3):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in")
        for norm in (self.bn1, self.bn2):
            nn.init.uniform_(norm.weight)
            nn.init.uniform_(norm.bias)


class PredictionHead(nn.Module):
    """SimSiam's predictor: Linear-BN-ReLU, Linear, back to the features' own width.

    Args:
        dim, hidden_dim: widths of the features and of the hidden layer.
    Source: Chen & He 2021, arXiv:2011.10566.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.bn1 = nn.BatchNorm1d(hidden_dim)
        self.layer2 = nn.Linear(hidden_dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        """Predictions (B, dim) of (B, dim) features."""
        return self.layer2(F.relu(self.bn1(self.linear1(features))))
