"""Write golden index files of the current format version; run once for each new version, never for an old one.

python tests/index/golden/make.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import hashret
from hashret.index import HNSWIndex, IVFIndex, MIHIndex, ivf, mih_tables
from hashret.index.storage import VERSION

N_BITS = 20


def main() -> None:
    """Write v<VERSION>.<kind> for each kind, and v<VERSION>.json with what they hold and have to answer."""
    mih_tables._FEWEST = ivf._LEAST = 1  # structures over few codes
    hashret.set_num_threads(1)
    rng = np.random.default_rng(1)
    codes, queries = hashret.pack(rng.random((80, N_BITS)) < 0.5), hashret.pack(rng.random((6, N_BITS)) < 0.5)
    answers: dict[str, Any] = {"codes": codes.tolist(), "queries": queries.tolist()}
    for index in (MIHIndex(N_BITS), IVFIndex(N_BITS, lists=4, probes=3), HNSWIndex(N_BITS, links=4, ef_search=70)):
        index.add(codes)
        target = Path(__file__).with_name(f"v{VERSION}.{index.kind}")
        if target.exists():
            raise SystemExit(f"{target} is there already")
        index.save(target)
        hits, within = index.search(queries, 8), index.range_search(queries, 5)
        assert (hits.distances[:, 0] == hashret.hamming(queries, codes).min(axis=1)).all()
        answers[index.kind] = {name: getattr(hits, name).tolist() for name in ("distances", "rows")}
        answers[index.kind]["within 5"] = within.rows.tolist()
    Path(__file__).with_name(f"v{VERSION}.json").write_text(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
