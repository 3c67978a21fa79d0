"""A learned hash head over features of your own: paired float vectors in, nested binary codes out.

    hasher = FeatureHasher(n_bits=256).fit(X, Y)         # X: (N, 512) of pictures, Y: (N, 512) of their texts
    codes = hasher.encode_images(X)                      # (N, 32) uint8

The parts and the loop are those of every trained system (``CrossModalHasher``, ``Trainer``, the loss
``joint_infonce``); this is scikit-learn's way of calling them. Must not know where features come from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from hashret.arrays import matrix_of
from hashret.codes import Codes
from hashret.encoders import EncoderConfig
from hashret.errors import ConfigError, DataError, InputError, VersionError
from hashret.evaluation import evaluate_codes
from hashret.feature_hasher.inputs import Floats, owners_of, pairs_of, shared_labels
from hashret.feature_hasher.parameters import check_parameters, chosen_of, defaults_of
from hashret.feature_hasher.storage import Facts, class_of, facts_file, method_of, read_facts
from hashret.model import CrossModalHasher, HeadConfig, ModelConfig, RoundingConfig, TowerConfig
from hashret.model.devices import pick_device
from hashret.registry import nearest
from hashret.training import RunConfig, Selection, Stage, Trainer
from hashret.training.features import calibrate, fit_adapters
from hashret.training.pairs import steps_of
from hashret.training.trainer import derive_seed

BATCH = 1024  # rows encoded together
PROXIES = {"kind": "proxies", "space": "code", "match": "softmax", "temperature": 0.5}
# of the loss's terms: codes are what is stored, relaxed queries look for them, and a little weight on float vectors
# keeps both from over-fitting. On Flickr8k's validation split rSum at 64 / 256 bits is 192 / 254 with .05 and .25 for
# the second and the third, and 198 / 255 so; of a relaxed query 224 / 266 and 228 / 270
WEIGHTS = {"code_weight": 1.0, "float_weight": 0.1, "cross_weight": 0.5}
# A prefix of this length has a hidden layer of its own, and longer codes leave it as it is. On the same split a model
# of 1,024 bits has at 64 / 256 / 1,024 bits 193 / 253 / 279; with the layer alone 186 / 247 / 278
SETTLED = 256
ROUNDS = 10  # validations of a fit
FEWEST_STEPS, MOST_STEPS, PASSES = 400, 5000, 20  # of a fit that is not told its passes
# items held out, where some are: below, a figure is noise; above, only slower. On the same split codes, relaxed queries
# and floats of 256 bits have 253 / 265 / 276 when all pairs are learned from, and 248 / 261 / 270 less a tenth
FEWEST_HELD, MOST_HELD = 20, 1000


class FeatureHasher:
    """Learns codes of two modalities from paired features.

    Keeps scikit-learn's conventions: parameters are stored as given and checked in ``fit``, fitted attributes end with
    an underscore, ``clone``, pipelines and searches over parameters work. Every prefix in ``code_lengths`` is a code of
    its own, so that one fit serves several sizes of index.

    Args:
        n_bits: length of a whole code.
        code_lengths: prefixes that are trained to be codes, in bits; None: the powers of two from 16 to ``n_bits``.
        hidden: width of the head's hidden layer.
        dropout: behind the hidden layer; None: 0.5, and 0.1 with labels.
        input_dropout: before the hidden layer; None: 0.5, and 0 with labels.
        mix: share of pairs whose text is a random mixture of all texts of its item; nothing where an item has one.
        passes: times that training goes through the items; None: 20, but 400 steps at least and 5,000 at most.
        batch_size: pairs in a step; each is contrasted with all others.
        lr: the peak learning rate; None: 0.0015, and 0.005 with labels.
        weight_decay: AdamW's.
        temperature: of the contrast between pairs; with labels there is none.
        spread: makes the temperature of short codes higher: sqrt(temperature² + spread² / n) at n bits.
        rounding: whether an item's bits are chosen together (``hashret.rounding``); None: yes, but not with labels.
        validation_fraction: share of the items held out to choose the best moment of training, 1,000 items at most.
            0, or a share of fewer than 20 items: none is held out, and training runs to its end. With labels none is
            either: what is searched then are mostly the items that were learned from.
        patience: stop after so many validations (of about 10) without a better figure of items held out; None: never.
        seed: of everything random.
        device: ``cpu``, ``cuda`` (``cuda:1``), or ``auto``: a GPU where there is one.

    Attributes:
        model_: the trained ``CrossModalHasher``.
        n_features_in_: width of the image features.
        n_text_features_in_: width of the text features.
        curves_: a mapping a validation, on items held out or else on some learned from: steps, loss, rSum of signs.

    *Source:* nested prefixes: Kusupati et al., Matryoshka representation learning, NeurIPS 2022; the loss: see
    ``hashret.losses.infonce.JointInfoNCE``.
    """

    needs_labels: ClassVar[bool] = False
    uses_labels: ClassVar[bool] = True

    model_: CrossModalHasher
    n_features_in_: int
    n_text_features_in_: int
    curves_: list[dict[str, Any]]

    def __init__(
        self,
        *,
        n_bits: int = 256,
        code_lengths: tuple[int, ...] | None = None,
        hidden: int = 512,
        dropout: float | None = None,
        input_dropout: float | None = None,
        mix: float = 0.5,
        passes: int | None = None,
        batch_size: int = 512,
        lr: float | None = None,
        weight_decay: float = 0.05,
        temperature: float = 1 / 16,
        spread: float = 0.43,
        rounding: bool | None = None,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.n_bits = n_bits
        self.code_lengths = code_lengths
        self.hidden = hidden
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.mix = mix
        self.passes = passes
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.temperature = temperature
        self.spread = spread
        self.rounding = rounding
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.seed = seed
        self.device = device

    def fit(
        self, X: ArrayLike, Y: ArrayLike, *, owner: ArrayLike | None = None, labels: ArrayLike | None = None
    ) -> Self:
        """Learn from pairs.

        Args:
            X: (N, D_image) features of pictures, any float dtype.
            Y: (M, D_text) features of texts.
            owner: (M,) int, the row of ``X`` that each text belongs to, in any order, at least one a row; None: row i
                of ``Y`` belongs to row i of ``X``.
            labels: (N,) one label a picture, or (N, C) of zeros and ones; items that share one are then what a search
                should find. None: only an item's own texts are.

        Raises:
            DataError: features that are not finite matrices, or pairs that do not fit.
            ConfigError: a parameter that cannot be used.
            TrainingError: the loss is no longer finite.
        """
        if Y is None:
            raise DataError("a feature hasher learns from pairs: it requires y to be passed, but the target y is None")
        images, texts = matrix_of(X, "X", squared=True), matrix_of(Y, "Y", squared=True)
        owners = owners_of(owner, len(images), len(texts))
        order = np.argsort(owners, kind="stable")
        texts, owners = texts[order], owners[order]
        check_parameters(self.get_params())
        where = pick_device(self.device)
        shared = shared_labels(labels, len(images)) if self.uses_labels else None
        model_config = self._model_config(images.shape[1], texts.shape[1], labelled=shared is not None)
        learned, held = self._split(len(images), labelled=shared is not None)
        train = pairs_of(images, texts, owners, learned, where, labels=shared)
        some = learned[:: -(-len(learned) // MOST_HELD)]  # where none are held out, for the curves
        val = pairs_of(images, texts, owners, held if len(held) else some, where)
        config = RunConfig(
            name="feature-hasher",
            model=model_config,
            stages=self._stages(len(learned), rounds=ROUNDS if len(held) else 1, labelled=shared is not None),
            seed=int(self.seed),
            precision="float32",  # whatever the processor, a seed gives one code
            selection=Selection("rSum", n_bits=model_config.code_lengths),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "heads", 0))
            model = CrossModalHasher.build(model_config).to(where)
        fit_adapters(model, train)
        trainer = Trainer(model, config, train=train, val=val, out=None)
        trainer.run()
        calibrate(model, train)
        self.model_, self.curves_ = model, trainer.curves
        self.n_features_in_, self.n_text_features_in_ = images.shape[1], texts.shape[1]
        return self

    def encode_images(self, X: ArrayLike, *, relaxed: bool = False, n_bits: int | None = None) -> NDArray[Any]:
        """Codes of pictures.

        Args:
            X: (N, D_image) features.
            relaxed: give relaxed codes instead.
            n_bits: only the first bits of each code; None: all.

        Returns:
            (N, n_bytes) uint8 codes; with ``relaxed`` (N, n_bits) float32 in (-1, 1), whose signs are the bits.

        Raises:
            DataError: features of another width than in ``fit``, or not finite.
            InputError: ``fit`` was not called, or ``n_bits`` is out of range.
        """
        return self._encode("image", X, relaxed=relaxed, n_bits=n_bits)

    def encode_texts(self, Y: ArrayLike, *, relaxed: bool = False, n_bits: int | None = None) -> NDArray[Any]:
        """Codes of texts, from (M, D_text) features; see ``encode_images``."""
        return self._encode("text", Y, relaxed=relaxed, n_bits=n_bits)

    def encode_floats(self, modality: str, features: ArrayLike, *, n_bits: int | None = None) -> Floats:
        """The float vectors behind the codes: (N, n_bits) float32 of unit length, for rescoring and as a ceiling.

        Args:
            modality: ``image`` or ``text``.
            features: (N, D) of that modality.
            n_bits: only the first coordinates; None: all.
        """
        rows = list(self._checked(features, modality))
        return self._model().encode_floats(modality, rows, n_bits=n_bits, batch_size=BATCH)

    def transform(self, X: ArrayLike) -> Floats:
        """Relaxed codes of pictures, (N, n_bits) float32, for a further step of a pipeline."""
        return self.encode_images(X, relaxed=True)

    def fit_transform(
        self, X: ArrayLike, Y: ArrayLike, *, owner: ArrayLike | None = None, labels: ArrayLike | None = None
    ) -> Floats:
        """``fit``, then ``transform`` of the same pictures."""
        return self.fit(X, Y, owner=owner, labels=labels).transform(X)

    def score(self, X: ArrayLike, Y: ArrayLike, *, owner: ArrayLike | None = None) -> float:
        """rSum of codes against codes, in percent, up to 600; for searches over parameters."""
        codes: tuple[Codes, Codes] = self.encode_images(X), self.encode_texts(Y)
        owners = owners_of(owner, len(codes[0]), len(codes[1]))
        return evaluate_codes(*codes, owners, n_bits=self._model().n_bits).r_sum

    def save(self, directory: str | Path) -> None:
        """Write the fitted hasher into ``directory``; ``CrossModalHasher.load`` reads it too.

        Raises:
            InputError: ``fit`` was not called.
            StorageError: it cannot be written, or something else is there; what was there before is unchanged.
        """
        model = self._model()
        model.save(directory, beside=facts_file(Facts(method_of(type(self)), self.get_params(), self.curves_)))

    @classmethod
    def load(cls, directory: str | Path, *, device: str = "auto") -> Self:
        """The hasher that ``save`` wrote, of the class that it was.

        Raises:
            StorageError: there is none.
            InputError: it is of a class that is not this one or derived from it.
            VersionError: a later version wrote it.
            CorruptError: a file is damaged.
        """
        facts = read_facts(Path(directory))
        kind = cls if facts.method in (None, method_of(cls)) else class_of(facts.method)
        if not issubclass(kind, cls):
            raise InputError(f"{str(directory)!r} holds a {kind.__name__}; load it with {kind.__name__}.load")
        unknown = set(facts.parameters) - set(defaults_of(kind))
        if unknown:
            raise VersionError(f"{str(directory)!r} was saved with {min(unknown)!r}, unknown here; update hashret")
        hasher: Self = kind(**facts.parameters)
        hasher.curves_ = facts.curves
        hasher.model_ = CrossModalHasher.load(directory, device=device)
        hasher.n_features_in_ = hasher.model_.tower("image").encoder.width
        hasher.n_text_features_in_ = hasher.model_.tower("text").encoder.width
        return hasher

    # ---- scikit-learn's conventions

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every parameter by name; ``deep`` changes nothing."""
        return {name: getattr(self, name) for name in defaults_of(type(self))}

    def set_params(self, **parameters: Any) -> Self:
        """Change parameters by name.

        Raises:
            ConfigError: there is no such parameter.
        """
        known = tuple(defaults_of(type(self)))
        for name, value in parameters.items():
            if name not in known:
                raise ConfigError(f"a feature hasher has no parameter {name!r}{nearest(name, known)}")
            setattr(self, name, value)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags, TransformerTags  # only scikit-learn asks

        target = TargetTags(required=True, two_d_labels=True, multi_output=True, single_output=False)
        return Tags(
            estimator_type=None, target_tags=target, transformer_tags=TransformerTags(), non_deterministic=False
        )

    def __repr__(self) -> str:
        changed = (
            f"{name}={getattr(self, name)!r}"
            for name, default in defaults_of(type(self)).items()
            if not np.array_equal(getattr(self, name), default)  # code_lengths may be an array
        )
        return f"{type(self).__name__}({', '.join(changed)})"

    # ---- parts of fit

    def _model_config(self, image_width: int, text_width: int, *, labelled: bool) -> ModelConfig:
        towers = {
            modality: TowerConfig(
                EncoderConfig(kind="features", name="features", width=width, modality=modality),  # type: ignore[arg-type]
                head=self._head(labelled=labelled),
            )
            for modality, width in {"image": image_width, "text": text_width}.items()
        }
        rounding = RoundingConfig() if self._chosen("rounding", labelled=labelled) else None
        return ModelConfig(int(self.n_bits), towers, self._lengths(), rounding)

    def _lengths(self) -> tuple[int, ...]:
        """Every prefix that is a code, ascending."""
        lengths = self.code_lengths
        if lengths is None:
            lengths = tuple(2**power for power in range(4, 32) if 2**power <= self.n_bits)
        return tuple(sorted({*map(int, lengths), int(self.n_bits)}))

    def _settled(self) -> tuple[int, ...]:
        """The prefix that longer codes take as it is, if there are longer ones."""
        return (SETTLED,) if SETTLED in self._lengths()[:-1] else ()

    def _head(self, *, labelled: bool) -> HeadConfig:
        dropout, before = (self._chosen(name, labelled=labelled) for name in ("dropout", "input_dropout"))
        settled = () if labelled else self._settled()
        # a parameter may be a number of numpy, which is not saved as it is
        return HeadConfig(hidden=int(self.hidden), dropout=float(dropout), input_dropout=float(before), own=settled)

    def _chosen(self, name: str, *, labelled: bool) -> Any:
        """A parameter, or what is chosen where it is None."""
        value = getattr(self, name)
        return chosen_of(labelled=labelled)[name] if value is None else value

    def _split(self, n_items: int, *, labelled: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows to learn from and rows held out, each ascending."""
        count = min(round(self.validation_fraction * n_items), MOST_HELD)
        count = 0 if labelled or count < FEWEST_HELD else count
        if self.patience is not None and not count:
            raise ConfigError("patience waits for better figures of items held out, and none are; leave it out")
        if n_items - count < 2:
            raise ConfigError(
                f"validation_fraction={self.validation_fraction} leaves nothing of {n_items} items to learn from"
            )
        order = np.random.default_rng(derive_seed(int(self.seed), "held out", 0)).permutation(n_items)
        return np.sort(order[count:]), np.sort(order[:count])

    def _stages(self, n_items: int, *, rounds: int, labelled: bool) -> tuple[Stage, ...]:
        a_pass = steps_of(n_items, batch_size=self.batch_size, captions=1, passes=1)
        if self.passes is None:
            steps = min(max(PASSES * a_pass, FEWEST_STEPS), MOST_STEPS)
            passes = max(1, round(steps / a_pass))
        else:
            passes = self.passes
        a_round = max(1, round(passes / rounds))
        stage = Stage(
            name="heads",
            epochs=max(1, round(passes / a_round)),
            passes=a_round,
            batch_size=self.batch_size,
            lr=self._chosen("lr", labelled=labelled),
            weight_decay=self.weight_decay,
            mix=self.mix,
            patience=self.patience,
            losses=self._losses(n_items, labelled=labelled),
        )
        return (stage,)

    def _losses(self, n_items: int, *, labelled: bool) -> dict[str, dict[str, Any]]:
        """Label -> loss, as in the configuration of a stage."""
        if labelled:
            return {"proxies": PROXIES}
        loss = {"kind": "joint_infonce", "temperature": self.temperature, "spread": self.spread, **WEIGHTS}
        return {"joint": {**loss, "settled": self._settled()}}

    def _model(self) -> CrossModalHasher:
        if not hasattr(self, "model_"):
            raise InputError("this FeatureHasher has not learned yet: call fit(X, Y) first, or load a saved one")
        return self.model_

    def _encode(self, modality: str, features: ArrayLike, **options: Any) -> NDArray[Any]:
        rows = list(self._checked(features, modality))
        return self._model().encode(modality, rows, batch_size=BATCH, **options)

    def _checked(self, features: ArrayLike, modality: str) -> Floats:
        width = self._model().tower(modality).encoder.width
        values = matrix_of(features, f"{modality} features")
        if values.shape[1] != width:
            raise DataError(
                f"{modality} features are of another kind than in fit: X has {values.shape[1]} features, but "
                f"{type(self).__name__} is expecting {width} features as input"
            )
        return values
