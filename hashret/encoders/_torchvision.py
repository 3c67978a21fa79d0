"""Make ``import torchvision`` work beside a CPU build of torch.

The torchvision wheel on PyPI is built against CUDA torch. Beside CPU torch its compiled operators do not load, and
then ``import torchvision`` raises "operator torchvision::nms does not exist" while it registers Python kernels for
them; timm and transformers import torchvision, so even a text model cannot be loaded. Declaring the two schemas first
lets the import pass. Nobody here calls the operators: only the picture transforms are used. ``ready`` has to run
before anything imports torchvision, timm or transformers.

Knows nothing of encoders.
"""

from __future__ import annotations

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[torch.library.Library] = []  # a schema lives as long as the library object that declared it


def ready() -> None:
    """Declare torchvision's operators where its binary cannot bring them; calling it again does nothing."""
    if _kept or torch.version.cuda is not None:
        return
    try:
        import torchvision  # noqa: F401  (a build that fits this torch needs no help)
    except ModuleNotFoundError:
        return  # texts need none; who does says what is missing
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _kept.append(library)
