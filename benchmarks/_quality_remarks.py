"""Why some figures of the comparison are what they are: a sentence or two for each method that needs them.

Printed under the tables beside the methods that were run. Holds no figures: those are measured anew every time.
"""

from __future__ import annotations

EVERYWHERE = {
    "random": "Knows nothing of an item; its figure is the base rate, by which a degenerate run can be told.",
    "cca-sign": "One bit a canonical direction, so that longer codes add directions of ever lower correlation that "
    "count as much as the first: it falls with length where a rotation (cca-itq) does not, and refuses lengths above "
    "the number of directions.",
    "cmfh": "Pictures and texts are encoded from what they are, with the linear maps of the paper. Published figures "
    "for texts that search pictures are much higher where the searched codes are those of the factorisation itself, "
    "which knows the text of each picture already; for new pictures there are no such codes. Features are scaled "
    "before the factorisation, without which every code becomes the same and the figure the base rate at all lengths.",
    "djsrh": "The paper trains the image network; here it is its loss on frozen features, in the engine of "
    "feature-hasher, with one nested fit for all lengths. It asks for the similarities of features and never for a "
    "pair to be closer than its neighbours.",
    "ucch": "As djsrh: its loss in the engine of feature-hasher, nested, and with heads as wide as every other. τ, λ "
    "and δ are not known from the paper.",
    "cmdn": "The closest form that this engine has: two stages, without the paper's auto-encoders and restricted "
    "Boltzmann machines, and its floats are cut at 0.",
    "fsh": "The paper's rule of fusion is not known here; 4,000 pairs at most are learned from.",
}

LABELS = {
    "seph": "As cmfh: published figures for texts that search pictures are of codes that fuse both modalities of the "
    "searched items. Here each item is encoded from the one it has.",
    "cmssh": "Hardly grows with length, in publications too: later bits are fitted to pairs that the first ones get "
    "wrong, mostly those that no linear cut gets right.",
    "scm-orth": "Gives at most as many bits as the narrower modality has coordinates.",
    "feature-hasher": "The pictures and texts that are searched are those that were learned from, as in the papers, so "
    "that learning their labels by heart is worth much: t2i gains most, since unseen texts tell the category better "
    "than unseen pictures do. feature-hasher-pairs is the same without labels.",
    "feature-hasher-pairs": "Its loss asks for the one text of each picture and pushes pairs of one category apart as "
    "hard as any others, which is not what AP over categories counts; on so few pairs that costs more than it "
    "brings. Use labels where there are any.",
    "dsph": "A linear head, as in the paper, on frozen features; it cannot learn the searched items by heart.",
}

INSTANCE = {
    "cmfh": "Learned from 6,000 of the pairs, up to 256 bits; its cost grows with pairs times bits.",
    "cmssh": "Learned from 4,000 pairs and as many non-pairs, up to 128 bits; about half a second a bit. Its bits are "
    "thresholds that agree on pairs and, without labels, hardly tell items apart.",
    "fsh": "Up to 256 bits.",
}


def remarks(methods: list[str], relevance: str) -> tuple[str, ...]:
    """A line for each of the methods that there is something to say of, in their order."""
    of_data = LABELS if relevance == "labels" else INSTANCE
    said = {method: " ".join(part[method] for part in (EVERYWHERE, of_data) if method in part) for method in methods}
    return tuple(f"{method}: {text}" for method, text in said.items() if text)
