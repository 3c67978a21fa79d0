"""Reports, plots and contact sheets: self-contained, safe against their content, and nothing lost by a bad picture."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hashret.errors import DataError, InputError, StorageError
from hashret.evaluation import plots
from hashret.evaluation.contact_sheet import contact_sheet
from hashret.evaluation.report import (
    Commands,
    Credits,
    Fact,
    Facts,
    Gallery,
    Hit,
    Plot,
    Plots,
    Query,
    Report,
    Series,
    Table,
    Text,
    render,
    write_report,
)

CURVES = [
    {
        "stage": "heads",
        "epoch": e,
        "loss": 3 / (e + 1),
        "loss.joint": 3 / (e + 1),
        "val.t2i.R@1": 2.0 * e,
        "val.rSum@64": e,
    }
    for e in range(5)
]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 255, (90, 120, 3), dtype=np.uint8))
    drawing = Image.new("RGB", (64, 64), "gold")
    paths = [tmp_path / "photo.jpg", tmp_path / "drawing.png", tmp_path / "broken.jpg", tmp_path / "none.jpg"]
    photo.save(paths[0])
    drawing.save(paths[1])
    paths[2].write_bytes(paths[0].read_bytes()[:200])
    return paths


def _everything(pictures: list[Path]) -> Report:
    hits = tuple(Hit(path, path.stem, 10 + i, correct=i == 0) for i, path in enumerate(pictures))
    curves = plots.curves(CURVES)
    size = plots.quality_against_bytes(
        "Quality", {"ours": [(4, 1.0), (8, 2.0)]}, measure="rSum", ceiling=("float32", 3.0), chance=0.1
    )
    table = Table(
        "R@K",
        ("", "bytes", "R@1", "what"),
        (("64 bits", 8, 10.04, "codes"), ("256 bits", 32, 20.0, "codes"), ("chance", None, 99.0, "random")),
        best={"R@1": "higher"},
        aside=("chance",),
    )
    return Report(
        "Cats & <dogs>",
        (
            Facts((Fact("58 %", "R@10", "chance 1 %"),)),
            Text("What", ("<script>alert(1)</script>",)),
            table,
            size,
            curves,
            Gallery("Words", ((Query('a "dog"'), hits),)),
            Gallery("Pictures", ((Query(image=pictures[0]), (Hit(caption="only words", distance=3, correct=True),)),)),
            Commands("Again", ("hashret demo --out 'x y'",)),
            Credits(("OpenMoji, CC BY-SA 4.0, https://openmoji.org",)),
        ),
    )


class _Page(HTMLParser):
    """Tags that do not close, and everything that could load something."""

    void = frozenset({"meta", "img", "br", "path", "use", "rect", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert tag not in ("script", "link", "iframe", "object")
        self.sources += [str(values[name]) for name in ("src", "srcset", "data", "poster") if name in values]
        self.targets += [str(values["href"])] if tag == "a" else []
        self.ids += [str(values["id"])] if tag == "section" and "id" in values else []
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag


def test_a_report_is_one_file_that_loads_nothing(tmp_path: Path, pictures: list[Path]) -> None:
    path = write_report(tmp_path / "out" / "report.html", _everything(pictures))
    text = path.read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert len(page.sources) == 3
    assert all(source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in page.sources)
    assert not re.findall(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in text
    assert {target.removeprefix("#") for target in page.targets} == set(page.ids)
    assert len(set(page.ids)) == len(page.ids) == 8


def test_content_is_escaped_and_best_cells_stand_out(pictures: list[Path]) -> None:
    text = render(_everything(pictures))
    assert "<script" not in text
    assert "Cats &amp; &lt;dogs&gt;" in text
    assert "<b>20.0</b>" in text
    assert "<b>99.0</b>" not in text
    assert text.count('class="hit right"') == 1
    assert text.count("cannot be read") == 2
    assert '<li class="right"><b>3</b><span>only words</span></li>' in text


def test_equal_titles_still_have_their_own_anchor() -> None:
    text = render(Report("x", tuple(Text("Same", (str(i),)) for i in range(3))))
    page = _Page()
    page.feed(text)
    assert len(set(page.ids)) == 3


def test_plots_follow_the_colours_of_the_page_and_are_reproducible() -> None:
    plot = Plot("A", (Series("a", (1, 2, 4), (1, float("nan"), 3)), Series("top", (), (4,), "reference")), log_x=True)
    element = plots.svg(plot)
    assert element == plots.svg(plot)
    assert "var(--s1)" in element
    assert "var(--ink)" in element
    assert not re.search(r"#2f6fd0|#24221f", element)
    assert ">top</text>" in element


def test_curves_come_from_a_run(tmp_path: Path) -> None:
    names = list(CURVES[0])
    lines = [",".join(names), *(",".join(str(row[name]) for name in names) for row in CURVES), "all,1,0.1,0.1,,"]
    (tmp_path / "curves.csv").write_text("\n".join(lines))
    drawn = plots.curves(tmp_path / "curves.csv")
    assert [plot.title for plot in drawn.plots] == ["Loss", "Validation R@K", "Validation rSum"]
    assert isinstance(drawn, Plots)
    assert drawn.plots[0].series == (Series("loss", (1, 2, 3, 4, 5, 6), (3, 1.5, 1, 0.75, 0.6, 0.1)),)
    assert drawn.plots[2].series[0].label == "rSum@64"
    assert np.isnan(drawn.plots[2].series[0].y[-1])
    with pytest.raises(DataError, match="cannot be read"):
        plots.curves(tmp_path / "none.csv")
    with pytest.raises(DataError, match="no epoch"):
        plots.curves([])


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_plots_are_saved_for_papers(tmp_path: Path, ending: str, magic: bytes) -> None:
    plot = Plot("A", (Series("a", (1, 2), (1, 3)),))
    assert plots.save(plot, tmp_path / f"a.{ending}").read_bytes().startswith(magic)
    with pytest.raises(DataError, match=r"\.png, \.pdf or \.svg"):
        plots.save(plot, tmp_path / "a.gif")


def test_a_contact_sheet_marks_the_correct_hits(tmp_path: Path, pictures: list[Path]) -> None:
    hits = [Hit(path, "words " * 30, i, correct=i == 1) for i, path in enumerate(pictures)] + [Hit(caption="text only")]
    queries = [Query("a very long question " * 20), Query(image=pictures[1], text="both"), Query(image=pictures[3])]
    path = contact_sheet(tmp_path / "sheet.png", queries, [hits, hits[:1], []], title="Title")
    with Image.open(path) as sheet:
        colours = sheet.convert("RGB").getcolors(1 << 24)
        assert any(colour == (0x15, 0x87, 0x5F) and count > 1000 for count, colour in colours)
    plain = [Hit(path, "words", i) for i, path in enumerate(pictures)]
    with Image.open(contact_sheet(tmp_path / "plain.png", queries[:1], [plain])) as sheet:
        assert not any(colour == (0x15, 0x87, 0x5F) for _, colour in sheet.convert("RGB").getcolors(1 << 24))
    with pytest.raises(InputError, match="hits for each query"):
        contact_sheet(tmp_path / "x.png", queries, [hits])


def test_a_report_that_cannot_be_written_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.html", Report("x", ()))
    with pytest.raises(InputError, match="and not of str"):
        render(Report("x", ("text",)))  # type: ignore[arg-type]
