"""Write the golden collection of the current format version; run once for each new version, never for an old one.

python tests/collection/golden/make.py
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import numpy as np

from hashret.collection import Collection
from hashret.collection._database import VERSION


def main() -> None:
    """Write v<VERSION>.zip beside this file."""
    name = f"v{VERSION}"
    codes = np.random.default_rng(1).integers(0, 256, (174, 5), np.uint8)
    codes[:, -1] &= 0xF0  # 36 bits
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / name
        with Collection.create(path, 36, fingerprint="golden", model="models/golden") as collection:
            collection.add(codes[:100])
            items = [{"year": 2000 + i, "tags": ["a", i]} for i in range(70)]
            collection.add(codes[100:170], [f"item-{i}" for i in range(70)], items)
            collection.add(codes[170:172], [-5, "-5"])
            collection.add(codes[172:173], ["é🦜"])
            collection.upsert(codes[173:], [7], [{"seven": True}])
            collection.delete([50, 51, "item-9", -5, "-5"])
            collection.create_index("year")
        target = Path(__file__).with_name(f"{name}.zip")
        with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as stored:
            for file in sorted(path.iterdir()):
                stored.write(file, f"{name}/{file.name}")


if __name__ == "__main__":
    main()
