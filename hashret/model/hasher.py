"""The model as a whole: pictures and words in, packed codes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from hashret._lazy import progress
from hashret.arrays import l2_normalised
from hashret.codes import pack
from hashret.encoders import Encoded, Encoder, build_encoder
from hashret.errors import ConfigError, InputError
from hashret.model import storage
from hashret.model.config import MixerConfig, ModelConfig, check_read
from hashret.model.devices import pick_device
from hashret.model.heads import HEADS
from hashret.model.mixers import SelfMixer
from hashret.model.outputs import TowerOutput
from hashret.model.rerankers import RERANKERS, Reranker
from hashret.model.rescoring import evaluating, required, score_pairs
from hashret.model.tower import Tower
from hashret.registry import nearest
from hashret.rounding import Rounding, learn_coupling, relaxed_codes


class CrossModalHasher(nn.Module):
    """Two towers that map images and texts into one space of binary codes, and maybe a re-ranker of pairs.

    An item's code depends on that item alone. Matrix products round differently for batches of different sizes, so an
    item's logits differ between batches by about 1e-6 of their size, and a bit can differ where its logit is that
    close to 0 (one in 160,000 was seen to). With ``batch_size=1`` every bit is the same each time on one machine.

    Args:
        config: the parts.
        encoders: the built encoder of each modality.
    """

    coupling: torch.Tensor

    def __init__(self, config: ModelConfig, encoders: dict[str, Encoder]) -> None:
        super().__init__()
        self.config = config
        self.towers = nn.ModuleDict()
        shared: list[tuple[MixerConfig, SelfMixer]] = []
        for modality in ("image", "text"):
            tower, encoder = config.towers[modality], encoders[modality]
            if encoder.modality != modality:
                raise InputError(f"the {modality} tower was given an encoder of {encoder.modality}s")
            mixers = _mixers(tower.mixers, shared, width=encoder.width)
            self.towers[modality] = Tower(tower, encoder, n_bits=config.n_bits, mixers=mixers)
        self._rounding: Rounding | None = None  # by ``coupling`` as it is now
        if config.rounding is not None:  # signs, until it has learned how bits go together
            self.register_buffer("coupling", torch.eye(config.n_bits))
        self.reranker: Reranker | None = None
        if config.reranker is not None:  # after the towers, so that they start from the same weights with and without
            kind = RERANKERS.load(config.reranker.kind)
            widths = {modality: self.tower(modality).token_width for modality in self.towers}
            self.reranker = kind(config.reranker, widths=widths, n_bits=config.n_bits)
        self.eval()

    @classmethod
    def build(cls, config: ModelConfig) -> CrossModalHasher:
        """An untrained model with pretrained encoders; heads are drawn from torch's global generator.

        Raises:
            ConfigError: parts that are unknown or do not fit.
            WeightsError: an encoder's weights cannot be found.
        """
        # a saved model is taken as it is; a new one should be what its configuration says
        counts = [sum(mixer.shared for mixer in config.towers[modality].mixers) for modality in ("image", "text")]
        if counts[0] != counts[1]:
            raise ConfigError(f"the towers share mixers, and have {counts[0]} and {counts[1]} with shared: true")
        for modality, tower in config.towers.items():
            check_read(HEADS.load(tower.head.kind), tower.head, f"model.towers.{modality}.head")
        if config.reranker is not None:
            check_read(RERANKERS.load(config.reranker.kind), config.reranker, "model.reranker")
        encoders = {modality: build_encoder(tower.encoder) for modality, tower in config.towers.items()}
        for modality, tower in config.towers.items():
            if tower.pooler.startswith("first") and not encoders[modality].has_class_token:
                raise ConfigError(f"the pooler {tower.pooler!r} takes a class token; {tower.encoder.name!r} has none")
        return cls(config, encoders)

    @property
    def n_bits(self) -> int:
        """Length of a whole code."""
        return self.config.n_bits

    @property
    def code_lengths(self) -> tuple[int, ...]:
        """Prefixes that were trained to be codes of their own; always with ``n_bits``, ascending."""
        return tuple(sorted({*self.config.code_lengths, self.n_bits}))

    @property
    def fingerprint(self) -> str:
        """sha256, in hexadecimal, of the weights and configuration that make codes; the re-ranker is not among them.

        It is stored in every collection built with the model, which stays valid when only the re-ranker changes.
        """
        return storage.fingerprint(self)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def tower(self, modality: str) -> Tower:
        """The tower of ``image`` or ``text``.

        Raises:
            InputError: there is no such modality.
        """
        if modality not in self.towers:
            raise InputError(f"there is no modality {modality!r}{nearest(modality, tuple(self.towers))}")
        tower: Tower = self.towers[modality]  # type: ignore[assignment]
        return tower

    def encode_images(
        self, images: Sequence[Any], *, relaxed: bool = False, n_bits: int | None = None, batch_size: int = 64
    ) -> np.ndarray:
        """Codes of pictures (paths, PIL images, arrays).

        Args, Returns and Raises: as in ``encode``: (N, n_bytes) uint8, or with ``relaxed`` (N, n_bits) float32.
        """
        return self.encode("image", images, relaxed=relaxed, n_bits=n_bits, batch_size=batch_size)

    def encode_texts(
        self, texts: Sequence[str], *, relaxed: bool = False, n_bits: int | None = None, batch_size: int = 64
    ) -> np.ndarray:
        """Codes of texts.

        Args, Returns and Raises: as in ``encode``: (N, n_bytes) uint8, or with ``relaxed`` (N, n_bits) float32.
        """
        return self.encode("text", texts, relaxed=relaxed, n_bits=n_bits, batch_size=batch_size)

    def encode(
        self,
        modality: str,
        items: Sequence[Any],
        *,
        relaxed: bool = False,
        n_bits: int | None = None,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Codes of items.

        Args:
            modality: ``image`` or ``text``.
            items: what the encoder of that modality takes.
            relaxed: give relaxed codes instead.
            n_bits: only the first bits of each code; None: all. ``code_lengths`` are the prefixes that were trained.
            batch_size: items encoded together.

        Returns:
            (N, n_bytes) uint8 codes; with ``relaxed`` (N, n_bits) float32 in (-1, 1), whose signs are the bits.

        Raises:
            InputError: an unknown modality, a length or batch size out of range, or one string for a list of them.
            DataError: an item cannot be read.
        """
        if n_bits is not None and not 1 <= n_bits <= self.n_bits:
            raise InputError(f"n_bits must lie between 1 and the model's {self.n_bits}, and is {n_bits}")
        logits = self._logits(modality, items, batch_size=batch_size)
        rounded = self.relaxed_of(modality, logits, n_bits)
        return rounded if relaxed else pack(rounded)

    def encode_floats(
        self, modality: str, items: Sequence[Any], *, n_bits: int | None = None, batch_size: int = 64
    ) -> np.ndarray:
        """The float vectors that codes stand for: their cosines are what the distances of codes approximate.

        Their signs are the bits where the model has no rounding.

        Args:
            modality: ``image`` or ``text``.
            items: what the encoder of that modality takes.
            n_bits: only the first coordinates; None: all.
            batch_size: items encoded together.

        Returns:
            (N, n_bits) float32 of unit length.

        Raises:
            InputError: an unknown modality, a length or batch size out of range, or one string for a list of them.
            DataError: an item cannot be read.
        """
        if n_bits is not None and not 1 <= n_bits <= self.n_bits:
            raise InputError(f"n_bits must lie between 1 and the model's {self.n_bits}, and is {n_bits}")
        logits = self._logits(modality, items, batch_size=batch_size)[:, :n_bits]
        return l2_normalised(logits)

    def relaxed_of(self, modality: str, logits: np.ndarray, n_bits: int | None = None) -> np.ndarray:
        """Relaxed codes, whose signs are the bits.

        Args:
            modality: ``image`` or ``text``.
            logits: (N, n_bits) float32, whole.
            n_bits: only the first bits of each code; None: all.

        Returns:
            (N, n_bits) float32 in (-1, 1).
        """
        rounding = self._rounding
        if rounding is None and self.config.rounding is not None:
            coupling = self.coupling.cpu().numpy().copy()
            rounding = self._rounding = Rounding(coupling, self.config.rounding.size, self.code_lengths)
        return relaxed_codes(logits, beta=float(self.tower(modality).beta), rounding=rounding, n_bits=n_bits)

    def learn_rounding(self, samples: Mapping[str, np.ndarray]) -> None:
        """Learn which bits go together, where the configuration asks for it; ``beta`` is what it will be.

        Args:
            samples: (N, n_bits) float32 logits of training items, by modality.
        """
        rounding = self.config.rounding
        if rounding is None:
            return
        images, texts = (
            relaxed_codes(samples[modality], beta=float(self.tower(modality).beta)) for modality in ("image", "text")
        )
        coupling = learn_coupling(
            images, texts, weight=rounding.weight, size=rounding.size, code_lengths=self.code_lengths
        )
        self.coupling.copy_(torch.from_numpy(coupling))
        self._rounding = None

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        """As of any module; ``coupling`` may have become another."""
        self._rounding = None
        return super().load_state_dict(*args, **options)

    def project(self, modality: str, batches: Iterable[Encoded]) -> Iterator[TowerOutput]:
        """What the tower makes of batches behind its encoder's frozen part, in evaluation mode, without gradients."""
        tower = self.tower(modality)
        with evaluating(self):
            for encoded in batches:
                with torch.no_grad():
                    output = tower(encoded)
                yield output

    def rerank(
        self,
        image: TowerOutput,
        text: TowerOutput,
        image_rows: ArrayLike,
        text_rows: ArrayLike,
        *,
        batch_size: int = 512,
    ) -> np.ndarray:
        """How well pairs of items match, by the re-ranker, in evaluation mode.

        Args:
            image: what the image tower made of some items (see ``project``).
            text: what the text tower made of others.
            image_rows: (P,) int, the row in ``image`` of each pair.
            text_rows: (P,) int, its row in ``text``.
            batch_size: pairs scored together.

        Returns:
            (P,) float32 logits, larger for a better match.

        Raises:
            InputError: the model has no re-ranker, or rows that do not fit.
        """
        reranker = required(self)
        with evaluating(self), torch.no_grad():
            items = (reranker.project("image", image), reranker.project("text", text))
        return score_pairs(self, *items, image_rows, text_rows, batch_size=batch_size)

    def save(self, directory: str | Path, *, beside: Mapping[str, str] | None = None) -> None:
        """Write the whole model, encoders included, into ``directory``; an earlier model there is replaced at once.

        Args:
            directory: where to.
            beside: texts by file name that are written with it, all of it or nothing.

        Raises:
            StorageError: it cannot be written, or files of yours are there; what was there before is unchanged.
        """
        storage.save(self, Path(directory), beside or {})

    @classmethod
    def load(cls, directory: str | Path, *, device: str = "auto") -> CrossModalHasher:
        """The model that ``save`` wrote; needs no hub and no package of weights.

        Args:
            directory: of the model.
            device: ``cpu``, ``cuda`` (``cuda:1``), or ``auto``: a GPU where there is one.

        Raises:
            InputError: there is no such device here.
            StorageError: there is no model.
            CorruptError: a file is missing, damaged or changed.
            VersionError: a later hashret wrote it.
        """
        where = pick_device(device)
        return storage.load(cls, Path(directory)).to(where)

    def _logits(self, modality: str, items: Sequence[Any], *, batch_size: int) -> np.ndarray:
        tower = self.tower(modality)
        if isinstance(items, str | bytes | Path):
            raise InputError(f"items must be a list, and {items!r} is one item; write [{items!r}]")
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, and is {batch_size}")
        # items of one size share a batch: with little padding texts are encoded about twice as fast
        order = sorted(range(len(items)), key=lambda row: tower.encoder.size_of(items[row]))
        logits = np.empty((len(items), self.n_bits), dtype=np.float32)
        starts = range(0, len(items), batch_size)
        for begin in progress(starts, label=f"encoding {modality}s", total=len(starts), unit="batch"):
            rows = order[begin : begin + batch_size]
            inputs = tower.encoder.prepare([items[row] for row in rows])
            encoded = tower.encoder.prefix({name: tensor.to(self.device) for name, tensor in inputs.items()})
            for output in self.project(modality, [encoded]):
                logits[rows] = output.logits.cpu().numpy()
        return logits


def _mixers(
    configs: tuple[MixerConfig, ...], shared: list[tuple[MixerConfig, SelfMixer]], *, width: int
) -> list[SelfMixer]:
    """The mixers of one tower; the n-th shared one of the second tower is the n-th shared one of the first."""
    mixers: list[SelfMixer] = []
    position = 0
    for config in configs:
        width = config.width or width
        if not config.shared:
            mixers.append(SelfMixer(config, width=width))
            continue
        if position == len(shared):
            shared.append((config, SelfMixer(config, width=width)))
        known, mixer = shared[position]
        if known != config:
            raise ConfigError(f"a shared mixer must be configured alike in both towers, and {config} is not {known}")
        mixers.append(mixer)
        width, position = mixer.width, position + 1
    return mixers
