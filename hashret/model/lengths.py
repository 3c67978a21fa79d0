"""Items of similar length together, so that training does not pay for padding.

A batch of captions is as wide as its longest one, and half of it is padding. Encoding stays whole: an item's code must
not depend on its neighbours, not even in the last bit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

GROUPS = 8  # more groups hold less padding, and smaller matrices


def length_groups(mask: Tensor) -> list[tuple[Tensor, int]]:
    """(B_g,) rows of a (B, N) bool ``mask`` and their longest length, a group each; together all rows, once each.

    Where no row has padding there is one group.
    """
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    lengths = (mask * places).amax(dim=1).clamp_min(1)  # up to the last token, should some before it be masked out
    if bool((lengths == mask.shape[1]).all()):
        return [(torch.arange(len(mask), device=mask.device), mask.shape[1])]
    return [(rows, int(lengths[rows].max())) for rows in lengths.argsort().chunk(GROUPS)]


def by_length(apply: Callable[[Tensor, int], Tensor], mask: Tensor) -> Tensor:
    """What ``apply(rows, length)`` gives for each group of ``length_groups``, with the rows in their order again.

    Args:
        apply: gives (B_g, …) for rows that have no token beyond ``length``.
        mask: (B, N) bool.
    """
    groups = length_groups(mask)
    order = torch.cat([rows for rows, _ in groups])
    return torch.cat([apply(rows, length) for rows, length in groups])[order.argsort()]
