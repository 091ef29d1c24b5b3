"""Attention without a softmax: a memory of fixed size instead of a growing cache.

Take the exponential out of attention, and the sum over past tokens becomes a matrix that is updated
token by token (Katharopoulos et al. 2020, section 3.4). Two rules of writing into that matrix S:

- "linear": S_t = S_{t-1} + v_t k_t'. Each pair is added; two similar keys add up in the same place.
- "delta": S_t = S_{t-1} + b_t (v_t - S_{t-1} k_t) k_t'. What is stored under the key is replaced
  (Schlag et al. 2021, section 4; Yang et al. 2024 for its parallel form).

Both are a state-space model with a matrix for a state, and both have two forms that give the same
numbers: a loop over tokens, for generation, and a few matrix products, for training.

Shapes: batch B, heads H, length T, head width K.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6


def positive_features(x: Tensor) -> Tensor:
    """elu(x) + 1: a feature map whose dot products are positive (Katharopoulos et al. 2020, eq. 7).

    Args:
        x: any shape.

    Returns:
        The same shape, all above 0.
    """
    return F.elu(x) + 1.0


def linear_parallel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """sum_s (q_t . k_s) v_s / sum_s (q_t . k_s) over s <= t, as matrix products.

    Args:
        q: (B, H, T, K), features.
        k: (B, H, T, K), features.
        v: (B, H, T, K).

    Returns:
        (B, H, T, K).
    """
    scores = (q @ k.mT).tril()  # (B, H, T, T), causal
    return scores @ v / (scores.sum(dim=-1, keepdim=True) + EPS)


def linear_recurrent(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same token by token, with a state of K x K and K numbers a head whatever T is.

    Args and Returns: as ``linear_parallel``.
    """
    state = q.new_zeros(*q.shape[:2], q.shape[3], v.shape[3])  # (B, H, K, K), sum of k v'
    total = q.new_zeros(*q.shape[:2], q.shape[3])  # (B, H, K), sum of k
    outputs = []
    for t in range(q.shape[2]):
        state = state + k[:, :, t, :, None] * v[:, :, t, None, :]
        total = total + k[:, :, t]
        read = (q[:, :, t, None, :] @ state)[:, :, 0]  # (B, H, K)
        outputs.append(read / ((q[:, :, t] * total).sum(-1, keepdim=True) + EPS))
    return torch.stack(outputs, dim=2)


def delta_parallel(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """The delta rule for all tokens at once.

    What token t writes is u_t = b_t (v_t - sum_{s<t} (k_t . k_s) u_s): a triangular system, (I + A)
    U = diag(b) V with A_ts = b_t k_t . k_s below the diagonal. Then reading is plain causal linear
    attention over U (Yang et al. 2024, section 3.1, for chunks of a sequence; here one chunk).

    Args:
        q: (B, H, T, K).
        k: (B, H, T, K), of length 1: then b = 1 replaces exactly what is stored under the key.
        v: (B, H, T, K).
        beta: (B, H, T), how much of the old value is replaced, 0 to 1.

    Returns:
        (B, H, T, K).
    """
    overlap = (beta[..., None] * (k @ k.mT)).tril(-1)  # (B, H, T, T), A
    identity = torch.eye(q.shape[2], dtype=q.dtype, device=q.device)
    written = torch.linalg.solve_triangular(
        identity + overlap, beta[..., None] * v, upper=False, unitriangular=True
    )  # (B, H, T, K), U
    return (q @ k.mT).tril() @ written


def delta_recurrent(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """The same token by token: read what the key holds, write the difference.

    Args and Returns: as ``delta_parallel``.
    """
    state = q.new_zeros(*q.shape[:2], q.shape[3], v.shape[3])  # (B, H, K, K)
    outputs = []
    for t in range(q.shape[2]):
        stored = (k[:, :, t, None, :] @ state)[:, :, 0]  # (B, H, K), what this key holds now
        change = beta[:, :, t, None] * (v[:, :, t] - stored)
        state = state + k[:, :, t, :, None] * change[:, :, None, :]
        outputs.append((q[:, :, t, None, :] @ state)[:, :, 0])
    return torch.stack(outputs, dim=2)


def state_numbers(mixer: str, n_heads: int, d_head: int, length: int) -> int:
    """Numbers that one layer keeps of ``length`` tokens while it generates.

    >>> [state_numbers(mixer, 2, 32, 1000) for mixer in ("softmax", "linear", "delta")]
    [128000, 2112, 2048]
    """
    if mixer == "softmax":
        return 2 * length * n_heads * d_head
    return n_heads * d_head * (d_head + (mixer == "linear"))
