"""Where a model runs, and what that place computes in fast."""

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


def has_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` has instructions for bfloat16, without which it is slower than float32."""
    if device.type == "cuda":  # is_bf16_supported() would count emulation in
        return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # an old torch, which does not tell
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
