"""Wrong pairs on purpose: which caption each place of the training set shows, drawn with a seed and saved.

Knows rows only, no captions, pictures or models.

The repositories that inject noise disagree, and it matters. NCR (Huang et al., NeurIPS 2021) shuffles the image of a
random part of the *captions*: an image may keep some of its right captions, and a shuffled caption may come back to
its own image, so that the true share of wrong pairs is a little below the ratio. DECL (Qin et al., ACM MM 2022) lets a
random part of the *images* exchange all of their captions. RCAR speaks of partial and complete noise; that "partial"
is the first (``caption``) and "complete" the second (``image``) is our reading, its text was not at hand.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hashret._files import write_whole
from hashret.config import build
from hashret.errors import ConfigError, CorruptError, TrainingError

_FORMAT = "hashret noise"


@dataclass(frozen=True)
class NoiseConfig:
    """Noise to be put between images and captions.

    Args:
        kind: ``caption``: single captions change places; ``image``: images exchange all their captions.
        ratio: share of the captions, or of the images, from 0 to 1.
        derange: no chosen caption stays with its own image, so that the ratio is the share of wrong pairs; false: as
            the shuffle falls.
        seed: of the choice and the exchange, and of nothing else.
    """

    kind: Literal["caption", "image"] = "caption"
    ratio: float = 0.0
    derange: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("caption", "image"):
            raise ConfigError(f"the kind of noise is 'caption' or 'image', and not {self.kind!r}")
        if not 0 <= self.ratio <= 1:
            raise ConfigError(f"the ratio of noise is a share from 0 to 1, and not {self.ratio}")
        if self.seed < 0:
            raise ConfigError(f"a seed is 0 or more, and not {self.seed}")


@dataclass(frozen=True, eq=False)
class Corruption:
    """Which caption each slot shows. The slots are the places of the captions in the clean data.

    Args:
        owner: (M,) int64, the image row of each slot, ascending: the same as without noise.
        caption: (M,) int64, the caption row that slot m shows; without noise, m.
        config: what it was drawn with.
    """

    owner: np.ndarray
    caption: np.ndarray
    config: NoiseConfig

    @cached_property
    def noisy(self) -> np.ndarray:
        """(M,) bool: whether the caption of a slot belongs to another image."""
        noisy: np.ndarray = self.owner[self.caption] != self.owner
        return noisy

    def save(self, path: str | Path) -> None:
        """Write it as JSON: another version of numpy may draw otherwise, the file stays.

        Raises:
            StorageError: it cannot be written.
        """
        content = {"format": _FORMAT, "version": 1, **asdict(self.config)}
        content |= {"owner": self.owner.tolist(), "caption": self.caption.tolist()}
        write_whole(path, json.dumps(content))

    @classmethod
    def load(cls, path: str | Path) -> Corruption:
        """Read what ``save`` wrote.

        Raises:
            CorruptError: the file is missing, damaged, or no file of noise.
        """
        try:
            content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.pop("format") != _FORMAT or content.pop("version") != 1:
                raise ValueError("it is of another format")
            owner, caption = (np.array(content.pop(name), dtype=np.int64) for name in ("owner", "caption"))
            if owner.ndim != 1 or owner.shape != caption.shape:
                raise ValueError(f"{caption.size} captions do not fit {owner.size} slots")
            if owner.size and not 0 <= caption.min() <= caption.max() < owner.size:
                raise ValueError("it names captions that do not exist")
            return cls(owner, caption, build(NoiseConfig, content))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptError(f"the noise in {str(path)!r} cannot be used: {error}; draw it again") from error


def corrupt(owner: np.ndarray, config: NoiseConfig) -> Corruption:
    """Draw which caption each slot shows.

    With kind ``caption`` the result is a permutation. With kind ``image``, too, where all images have equally many
    captions; else a slot shows the caption at the same place in the list of the image exchanged with, counted from the
    start again where that list is shorter, so that some captions come twice and some not at all. Every image has as
    many slots as before either way.

    Args:
        owner: (M,) int64, the image row of each caption, ascending from 0, captions of an image side by side.
        config: the noise.

    Raises:
        TrainingError: ``owner`` is of another form, or the ratio leaves nothing to exchange.

    *Source:* the two protocols as the module describes them; the derangement is ours.
    """
    owner = np.asarray(owner, dtype=np.int64)
    if owner.ndim != 1 or not owner.size or owner[0] != 0 or not np.isin(np.diff(owner), (0, 1)).all():
        raise TrainingError("noise needs the image row of each caption, ascending from 0, with every image named")
    caption = np.arange(len(owner))
    if config.ratio == 0:
        return Corruption(owner, caption, config)
    rng = np.random.default_rng(config.seed)
    if config.kind == "caption":
        chosen = _choose(owner, config, rng)
        caption[chosen] = chosen[_exchange(owner[chosen], rng, derange=config.derange)]
        return Corruption(owner, caption, config)
    counts = np.bincount(owner)
    starts = np.cumsum(counts) - counts
    source = np.arange(len(counts))
    chosen = _choose(source, config, rng)
    source[chosen] = chosen[_exchange(chosen, rng, derange=config.derange)]
    place = caption - starts[owner]
    return Corruption(owner, starts[source[owner]] + place % counts[source[owner]], config)


def _choose(owner: np.ndarray, config: NoiseConfig, rng: np.random.Generator) -> np.ndarray:
    """Sorted rows of a random ``ratio`` of ``owner``, so many of one image at most that a derangement exists."""
    wanted = round(config.ratio * len(owner))
    order = rng.permutation(len(owner))
    if config.derange:
        by_owner = order[np.argsort(owner[order], kind="stable")]
        turn = np.empty(len(owner), dtype=np.int64)  # of the rows of its image, how early this one comes
        counts = np.bincount(owner)
        turn[by_owner] = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        order = order[turn[order] < wanted // 2]
    if wanted < 2 or len(order) < wanted:
        raise TrainingError(
            f"{config.kind} noise of ratio {config.ratio} is to move {wanted} of {len(owner)} {config.kind}s, and "
            f"that many cannot change places; take another ratio or more data"
        )
    return np.sort(order[:wanted])


def _exchange(owner: np.ndarray, rng: np.random.Generator, *, derange: bool) -> np.ndarray:
    """A random permutation of (n,) places; with ``derange``, ``owner[permutation]`` equals ``owner`` nowhere."""
    taken = rng.permutation(len(owner))
    if derange:
        for place in np.flatnonzero(owner[taken] == owner):
            mine = owner[place]
            if owner[taken[place]] != mine:
                continue  # an earlier swap has settled it
            # c rows of this image rule out at most 2c - 1 partners, and 2c is at most n: one is left
            partners = np.flatnonzero((owner != mine) & (owner[taken] != mine))
            partner = rng.choice(partners)
            taken[[place, partner]] = taken[[partner, place]]
    return taken
