"""A sparse autoencoder: a vector as the sum of a few out of many directions.

Bricken et al. 2023, "Towards Monosemanticity". Difference: the k largest features are kept (Gao et
al. 2024, section 2.3) instead of a penalty on their sum: k is chosen, and what is kept is not made
smaller.

Shapes: tokens N, width D, features M.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tutorial_kit.device import mixed_seed, seed_everything
from tutorial_kit.training import check_loss


@dataclass(frozen=True)
class AutoencoderSettings:
    """One autoencoder and its training."""

    n_features: int = 512  # directions to choose from, M
    active: int = 8  # of which a token may use, k
    batch_size: int = 1024  # tokens of a minibatch
    max_steps: int = 600  # updates
    lr: float = 2e-3  # Adam's; falls to zero


class SparseAutoencoder(nn.Module):
    """x is about b + the sum of f_i d_i, of which at most k numbers f_i are not zero.

    f = relu(top_k((x - b) E + c)). The directions d_i, rows of ``decoder``, have length 1, or f
    could be made small and d long, and its size would mean nothing.
    """

    mean: Tensor  # (D,), of the stream; a buffer
    scale: Tensor  # (), the stream's root mean square around it; a buffer

    def __init__(self, sample: Tensor, n_features: int, active: int) -> None:
        """Starts with random directions; the encoder starts as their transpose.

        Args:
            sample: (N, D), stream that gives the mean and the scale.
            n_features: M.
            active: k.

        Raises:
            ValueError: k is not between 1 and M.
        """
        super().__init__()
        if not 1 <= active <= n_features:
            raise ValueError(
                f"active={active} of n_features={n_features} cannot be kept: a token uses at least "
                f"one feature and at most all. Use 1 to {n_features}."
            )
        self.active = active
        self.register_buffer("mean", sample.mean(dim=0))
        self.register_buffer("scale", (sample - self.mean).square().mean().sqrt())
        directions = torch.randn(n_features, sample.shape[1])
        self.decoder = nn.Parameter(directions / directions.norm(dim=1, keepdim=True))  # (M, D)
        self.encoder = nn.Parameter(self.decoder.detach().clone().mT.contiguous())  # (D, M)
        self.threshold = nn.Parameter(torch.zeros(n_features))  # c, (M,)
        self.bias = nn.Parameter(torch.zeros(sample.shape[1]))  # b, (D,)

    def normalize(self, stream: Tensor) -> Tensor:
        """Moves the stream to mean 0 and mean square 1, (..., D)."""
        return (stream - self.mean) / self.scale

    def encode(self, stream: Tensor) -> Tensor:
        """Returns the features, (..., M), at most k of them above zero."""
        before = (self.normalize(stream) - self.bias) @ self.encoder + self.threshold  # (..., M)
        values, places = before.topk(self.active, dim=-1)  # (..., k)
        return torch.zeros_like(before).scatter(-1, places, values.relu())

    def decode(self, features: Tensor) -> Tensor:
        """Returns the stream that the features stand for, (..., D)."""
        return (features @ self.decoder + self.bias) * self.scale + self.mean

    def forward(self, stream: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.decode(self.encode(stream))

    @torch.no_grad()
    def shorten(self) -> None:
        """Gives every direction length 1 again; called after each update."""
        self.decoder.div_(self.decoder.norm(dim=1, keepdim=True))


def train_autoencoder(
    stream: Tensor, settings: AutoencoderSettings, seed: int
) -> SparseAutoencoder:
    """Fits an autoencoder to a stream by the squared error alone; sparsity is built in.

    Args:
        stream: (N, D).
        settings: size and training.
        seed: of the directions and the order of the tokens.
    """
    s = settings
    seed_everything(mixed_seed(seed, 4))
    autoencoder = SparseAutoencoder(stream, s.n_features, s.active)
    optimizer = torch.optim.Adam(autoencoder.parameters(), s.lr, fused=True)
    last_used = torch.zeros(s.n_features)  # (M,), step
    for step in range(s.max_steps):
        optimizer.param_groups[0]["lr"] = s.lr * (1 - step / s.max_steps)
        batch = stream[torch.randint(len(stream), (s.batch_size,))]  # (B, D)
        features = autoencoder.encode(batch)  # (B, M)
        error = autoencoder.normalize(autoencoder.decode(features)) - autoencoder.normalize(batch)
        loss = error.square().mean()
        check_loss(loss.item(), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        autoencoder.shorten()
        last_used[(features > 0).any(dim=0)] = step
        if step in (s.max_steps // 4, s.max_steps // 2):
            revive(autoencoder, last_used < step - s.max_steps // 10, batch, error.detach())
    return autoencoder


@torch.no_grad()
def revive(autoencoder: SparseAutoencoder, dead: Tensor, batch: Tensor, error: Tensor) -> None:
    """Points features that no token uses at what is explained worst (Bricken et al. 2023).

    Args:
        autoencoder: changed in place.
        dead: (M,), True for those to move.
        batch: (B, D), stream.
        error: (B, D), reconstruction minus stream, both normalized.
    """
    count = int(dead.sum())
    if not count:
        return
    worst = torch.multinomial(error.square().sum(dim=1), count, replacement=True)  # (count,)
    direction = -error[worst] / error[worst].norm(dim=1, keepdim=True).clamp_min(1e-8)
    autoencoder.decoder[dead] = direction
    autoencoder.encoder[:, dead] = direction.mT
    autoencoder.threshold[dead] = 0.0
