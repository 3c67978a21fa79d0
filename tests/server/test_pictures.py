"""Pictures of items: only files that the collection lists, drawn anew."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest

from hashret import Collection
from hashret.errors import DataError
from hashret.server.pictures import Thumbnails, query_picture


@pytest.fixture
def listing(tmp_path, serve):
    """A collection that lists what a test puts into it."""
    path = tmp_path / "c.hashret"

    def make(**files):
        with Collection.create(path, n_bits=8) as collection:
            collection.add(
                np.zeros((len(files), 1), np.uint8),
                ids=list(files),
                metadata=[{"image": str(f)} for f in files.values()],
            )
        return serve(path)

    return make


def picture(size=(400, 300), kind="PNG"):
    from PIL import Image

    content = io.BytesIO()
    Image.new("RGB", size, (200, 40, 40)).save(content, kind)
    return content.getvalue()


def test_a_thumbnail_is_a_small_jpeg_with_a_tag(api):
    from PIL import Image

    answer = api.get("/api/thumbnail", params={"id": "s1", "side": 160})
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, max(image.size)) == ("JPEG", 64)  # never larger than it was
    again = api.get(
        "/api/thumbnail", params={"id": "s1", "side": 160}, headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


def test_sides(api, tmp_path):
    from PIL import Image

    (tmp_path / "large.png").write_bytes(picture((900, 600)))
    thumbnails = Thumbnails(max_bytes=1 << 20, max_pixels=1 << 20)
    sizes = [
        Image.open(io.BytesIO(thumbnails.draw(str(tmp_path / "large.png"), side).content)).size for side in (160, 320)
    ]
    assert sizes == [(160, 107), (320, 213)]
    assert api.get("/api/thumbnail", params={"id": "s1", "side": 161}).status_code == 422


def test_what_carries_no_position_or_name(tmp_path):
    """What a camera wrote beside the pixels stays on the server."""
    from PIL import Image

    image = Image.new("RGB", (50, 50))
    exif = image.getexif()
    exif[0x010E] = "where I live"
    image.save(tmp_path / "x.jpg", exif=exif)
    drawn = Thumbnails(max_bytes=1 << 20, max_pixels=1 << 20).draw(str(tmp_path / "x.jpg"), 160)
    assert b"where I live" not in drawn.content


def test_a_changed_file_is_drawn_again_and_memory_is_bounded(tmp_path):
    thumbnails = Thumbnails(max_bytes=6_000, max_pixels=1 << 20)
    files = [tmp_path / f"{number}.png" for number in range(8)]
    for number, file in enumerate(files):
        file.write_bytes(picture((300 + number, 300)))
        thumbnails.draw(str(file), 320)
        assert thumbnails.kept_bytes <= 6_000
    before = thumbnails.draw(str(files[0]), 320)
    files[0].write_bytes(picture((111, 222)))
    assert thumbnails.draw(str(files[0]), 320).tag != before.tag


def test_links_folders_devices_pipes_and_texts_are_no_pictures(tmp_path, listing):
    (tmp_path / "real.png").write_bytes(picture())
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    (tmp_path / "text.png").write_text("root:x:0:0")
    (tmp_path / "empty.png").touch()
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    os.mkfifo(tmp_path / "pipe")
    files = {
        name: tmp_path / file
        for name, file in (
            ("link", "link.png"), ("folder", "."), ("gone", "gone.png"), ("text", "text.png"), ("empty", "empty.png"),
            ("svg", "drawing.svg"), ("pipe", "pipe"),
        )
    }  # fmt: skip
    with listing(real=tmp_path / "real.png", device="/dev/zero", passwd="/etc/passwd", **files) as client:
        assert client.get("/api/thumbnail", params={"id": "real"}).status_code == 200
        for name in ("device", "passwd", *files):
            answer = client.get("/api/thumbnail", params={"id": name})
            assert answer.status_code == 404, name
            assert str(tmp_path) not in answer.text
            assert "root:" not in answer.text


def test_an_item_without_a_picture_is_told(plain):
    assert plain.client.get("/api/thumbnail", params={"id": "1"}).status_code == 404
    assert plain.client.get("/api/thumbnail", params={"id": "nobody"}).status_code == 404


def test_a_large_jpeg_is_decoded_smaller_and_a_large_png_refused(tmp_path):
    content = picture((4800, 3200), "JPEG")
    assert max(query_picture(content, max_pixels=4_000_000).size) <= 1024
    with pytest.raises(DataError, match="3000 x 2000"):
        query_picture(picture((3000, 2000)), max_pixels=1_000_000)
