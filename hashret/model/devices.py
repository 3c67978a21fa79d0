"""Where a model runs."""

from __future__ import annotations

import torch

from hashret.errors import InputError


def pick_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is a GPU where there is one.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the device {name!r} cannot be used here ({reason}); try cpu or auto") from error
    return device
