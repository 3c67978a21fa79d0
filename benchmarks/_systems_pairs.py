"""The backbones that systems are compared on: overrides that put a configuration on one of two pairs.

The frozen pair is EfficientNet-lite0 at its own 224 pixels + MiniLM, of which only the heads' side learns. On the ViT
pair, ViT-S + MiniLM, the ViT's last three blocks learn along with the heads.
"""

from __future__ import annotations

from hashret.training import read_config

FROZEN = {  # systems that have other backbones as they are, or larger pictures
    "hashret": ("model.towers.image.encoder.image_size=null",),
    "vit2cmh": (
        "model.towers.image.encoder={kind: image, name: tf_efficientnet_lite0}",
        "stages.blocks.train=[heads]",
        "stages.blocks.lr=1.0e-3",
        "stages.blocks.passes=3",  # without blocks to go through, as cheap as those that warm up
    ),
    "cmhr_drn": ("model.towers.text.encoder={kind: text, name: all-MiniLM-L6-v2, pool: mean}",),
}
AS_IT_IS = {"hashret": "288 pixels", "cmhr_drn": "own pair"}  # configurations that are on neither pair, for tables
VIT_CONFIGS = {"hashret": "hashret_vit"}  # systems that have a configuration of their own for the ViT pair
_VIT = "kind: image, name: vit_small_patch14_dinov2, image_size: 168, train_blocks: 3, token_grid: 6"
_BLOCKS_RATE = 1e-4


def vit_pair(system: str) -> tuple[str, tuple[str, ...]]:
    """The configuration that stands for ``system`` on the ViT pair, and the overrides that put it there.

    Wherever heads learn, the blocks do, at a rate of 1e-4; an epoch goes through the pictures once, since each goes
    through the blocks anew.
    """
    if system in VIT_CONFIGS:
        return VIT_CONFIGS[system], ()
    config = read_config(system)
    if config.model.towers["image"].encoder.train_blocks:
        return system, ()
    tokens = config.model.towers["image"].encoder.output == "tokens"
    encoder = f"{{{_VIT}, {'output: tokens' if tokens else 'pool: first+mean'}}}"
    overrides = [*FROZEN.get(system, ()), f"model.towers.image.encoder={encoder}"]
    for stage in config.stages:
        if "heads" not in stage.train:
            continue
        rates = dict(stage.lr) if isinstance(stage.lr, dict) else dict.fromkeys(stage.train, stage.lr)
        rates["image.encoder"] = _BLOCKS_RATE
        where = f"stages.{stage.name}"
        overrides += [
            f"{where}.train=[{', '.join(rates)}]",
            f"{where}.lr={{{', '.join(f'{group}: {rate:.1e}' for group, rate in rates.items())}}}",
            f"{where}.passes=1",
        ]
        if stage.alternate:
            turns = [[*turn, "image.encoder"] if "heads" in turn else turn for turn in stage.alternate]
            overrides.append(f"{where}.alternate=[{', '.join('[' + ', '.join(turn) + ']' for turn in turns)}]")
    return system, tuple(overrides)
