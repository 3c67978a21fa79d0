"""The page in a browser without a screen: asking, more like this, filters, keys, darkness, a telephone."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image

from hashret import Collection
from hashret.server import create_app
from hashret.server.fields import SAMPLE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("chromium and its driver are not installed: apt-get install chromium chromium-driver",
                allow_module_level=True)  # fmt: skip
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'hashret[dev]'")
By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait

SHOTS = os.environ.get("HASHRET_SHOTS")


class Page:
    """What a person does with the page."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address

    def open(self, query="", *, size=(1280, 860), dark=False):
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(self.address + query)
        self.settled()

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def keys(self, *keys):
        self.driver.switch_to.active_element.send_keys(*keys)

    def wait(self, condition):
        return WebDriverWait(self.driver, 60, poll_frequency=0.05).until(lambda _: condition())

    def settled(self):
        self.wait(lambda: self.one("#hits").get_attribute("aria-busy") == "false")

    def status(self, beginning):
        """The status once it begins so."""
        self.wait(lambda: beginning in self.one("#status").text)
        self.settled()
        return self.one("#status").text

    def ids(self):
        return self.driver.execute_script(
            "return [...document.querySelectorAll('.card')].map(c => JSON.parse(c.dataset.id))"
        )

    def focused(self, script):
        return self.driver.execute_script(f"return document.activeElement{script}")

    def shoot(self, name):
        if SHOTS:
            self.wait(
                lambda: self.driver.execute_script("return [...document.images].slice(0, 12).every(i => i.complete)")
            )
            time.sleep(0.3)
            self.driver.save_screenshot(str(Path(SHOTS) / f"{name}.png"))


@pytest.fixture(scope="module")
def page(world, start):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with start(world.collection, "--credits", "Shapes by the tests, CC0") as served:
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            yield Page(driver, served.ready().address)
        finally:
            driver.quit()


def test_words_filters_and_more_like_this(page):
    page.open()
    assert page.one("#name").text == "shapes"
    assert page.one("#credits").text == "Shapes by the tests, CC0"
    assert "48 items" in page.one("#status").text
    page.one("body").send_keys("/")
    assert page.focused(".id") == "words"
    page.keys("a red circle", Keys.ENTER)
    assert "hits for “a red circle”" in page.status("hits for “a red circle”")
    assert page.one("#status").get_attribute("aria-live") == "polite"
    images = page.all(".card img")
    page.wait(lambda: page.driver.execute_script("return arguments[0].naturalWidth > 0", images[0]))
    page.shoot("words")

    page.one("#toggle").click()
    page.one('[data-chip=\'["labels","red"]\']').click()
    page.status("12 hits")
    page.one("[aria-label='year from']").send_keys("2030")
    page.status("4 hits")
    assert len(page.all("#chosen li")) == 2
    page.shoot("filters")
    page.one("#clear").click()
    page.status("48 hits")
    page.one("details summary").click()
    page.one("#where").send_keys("{")
    assert "no JSON" in page.one("#where-problem").text
    page.one("#where").send_keys('"year": 2007}')
    page.status("1 hit for")
    page.one("#where").send_keys(Keys.BACKSPACE, ', "month": {"gtee": 1}}')
    page.wait(lambda: "gtee" in page.one("#problem").text)
    page.one("#clear").click()
    page.status("48 hits")

    wanted = page.ids()[2]
    page.all(".like")[2].click()
    page.status("hits for “")
    page.wait(lambda: page.ids()[0] == wanted or "same code" in page.one(".badge").text)
    assert f"like=%22{wanted}%22" in page.driver.current_url
    page.shoot("like")
    page.driver.back()
    page.status("a red circle")
    assert page.one("#words").get_attribute("value") == "a red circle"
    problems = [entry for entry in page.driver.get_log("browser") if "422" not in entry["message"]]
    assert problems == []  # the strict policy refuses nothing that the page does


def test_keys_walk_the_grid_and_open_a_hit(page):
    page.open("?q=a+blue+bar")
    page.one("#words").send_keys(Keys.ARROW_DOWN)
    card = ".closest('.card')?.dataset.id"
    first = page.focused(card)
    page.keys(Keys.ARROW_RIGHT)
    second = page.focused(card)
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ARROW_LEFT)
    assert page.focused(card) == first != second
    assert len(page.all(".card .open[tabindex='0']")) == 1
    page.keys(Keys.ENTER)
    page.wait(lambda: page.one("#detail").get_attribute("open") is not None)
    assert first.strip('"') in page.one("#detail-facts").text
    assert "year" in page.one("#detail-facts").text
    assert page.one("#detail-image").get_attribute("alt")
    page.shoot("detail")
    page.keys(Keys.ESCAPE)
    page.wait(lambda: page.one("#detail").get_attribute("open") is None)
    page.keys("m")
    page.wait(lambda: not page.one("#sample").get_attribute("hidden"))
    page.settled()
    assert page.focused(card) is not None


def test_a_picture_and_a_radius(page, world):
    page.open()
    page.driver.execute_script("document.getElementById('file').hidden = false")
    page.one("#file").send_keys(str(world.folder / "3.png"))
    page.status("the picture")
    assert page.one(".badge").text == "same code"
    page.driver.execute_script(
        "const r = document.getElementById('radius'); r.value = 0; r.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    page.wait(lambda: "within this distance" in page.one("#status").text or len(page.ids()) < 48)
    page.settled()
    assert {badge.text for badge in page.all(".badge")} == {"same code"}
    assert page.one("#radius").get_attribute("aria-valuetext") == "0 of 32 bits"


def test_what_is_transparent_in_a_large_picture_lies_over_white(page, world, tmp_path):
    picture = np.asarray(Image.open(world.folder / "3.png").resize((1024, 1024)))  # a black circle
    alpha = np.where(picture.max(axis=2, keepdims=True) < 128, 255, 0).astype(np.uint8)
    hidden = np.where(alpha == 0, np.random.default_rng(0).integers(0, 256, picture.shape), picture)
    Image.fromarray(np.concatenate([hidden.astype(np.uint8), alpha], axis=2)).save(tmp_path / "large.png")
    assert (tmp_path / "large.png").stat().st_size > 2 << 20
    page.open()
    page.driver.execute_script("document.getElementById('file').hidden = false")
    page.one("#file").send_keys(str(tmp_path / "large.png"))
    page.status("48 hits for the picture")
    assert page.ids()[0] == "s3"


def test_darkness(page):
    page.open("?q=a+red+circle")
    light = page.one("body").value_of_css_property("background-color")
    page.open("?q=a+red+circle", dark=True)
    dark = page.one("body").value_of_css_property("background-color")
    assert (light, dark) == ("rgba(246, 247, 251, 1)", "rgba(16, 18, 24, 1)")
    page.shoot("dark")


def test_a_telephone(page):
    page.open("?q=a+red+circle", size=(390, 844))
    wide = page.driver.execute_script("return document.documentElement.scrollWidth")
    assert wide <= 390
    columns = page.one("#hits").value_of_css_property("grid-template-columns").split()
    assert len(columns) == 2
    for button in page.all("header button"):
        if button.is_displayed():
            assert button.size["height"] >= 28
    page.shoot("phone")


def test_what_a_screen_reader_hears(page):
    page.open("?q=a+red+circle")
    unnamed = page.driver.execute_script(
        """return [...document.querySelectorAll('button, input:not(#file), textarea')]
        .filter(e => e.offsetParent !== null && !(e.textContent.trim() || e.getAttribute('aria-label')
            || e.labels?.length || e.title)).map(e => e.outerHTML)"""
    )
    assert unnamed == []
    label = page.one(".open").get_attribute("aria-label")
    assert "of 32 bits differ" in label
    assert page.driver.execute_script("return [...document.images].every(i => i.hasAttribute('alt'))")
    assert page.driver.execute_script("return document.documentElement.lang") == "en"


def test_a_day_that_is_none_and_a_collection_that_breaks(page, start, tmp_path):
    path = tmp_path / "days.hashret"
    with Collection.create(path, n_bits=16) as collection:
        days: list[object] = [f"2024-05-{1 + n % 28:02}" for n in range(SAMPLE)]
        collection.add(np.zeros((SAMPLE + 1, 2), np.uint8), metadata=[{"taken": day} for day in [*days, 7]])
    with start(path) as served:
        own = Page(page.driver, served.address)
        own.open("?where=%7B%22taken%22%3A7%7D")
        own.status("1 of ")
        assert own.one(".facts").text == "7"
        (path / "catalogue.sqlite").write_bytes(b"no database" * 10_000)
        own.driver.get(served.address)
        own.wait(lambda: own.one("#problem").text.startswith("The collection or its model cannot be used"))
        assert own.one("#hits").get_attribute("aria-busy") == "false"
    own.driver.get_log("browser")


def test_an_empty_collection_that_fills_while_its_page_is_open(page, start, tmp_path):
    path = tmp_path / "filling.hashret"
    Collection.create(path, n_bits=16).close()
    with start(path) as served:
        own = Page(page.driver, served.address)
        own.open()
        assert own.status("There are no items yet.")
        assert own.one("#words").get_attribute("placeholder").startswith("This collection has no model")
        with Collection.open(path, mode="w") as collection:
            collection.add(np.zeros((60, 2), np.uint8), metadata=[{"half": n % 2} for n in range(60)])
        own.one("#search .main").click()
        own.status("48 of 60 items")
        assert own.one("#count").text == "60 items"
        own.one("#more").click()
        own.status("All 60 items")
        own.one("#toggle").click()
        assert [chip.text for chip in own.all("#fields .pill")] == ["0", "1"]


def test_a_filter_that_is_no_json_is_not_left_out(page):
    page.open("?q=red&where=%7B%22year%22")
    page.wait(lambda: page.one("#problem").text.startswith("This is no JSON yet"))
    assert page.ids() == []
    page.one("#toggle").click()
    page.one("summary").click()
    page.one("#where").send_keys(": 2003}")
    assert page.status("1 hit for “red”")


def test_a_dropped_file_that_is_no_picture_is_told(page):
    page.open()
    page.driver.execute_script(
        "const data = new DataTransfer(); data.items.add(new File(['x'], 'notes.pdf', { type: 'application/pdf' }));"
        "document.dispatchEvent(new DragEvent('drop', { dataTransfer: data }));"
    )
    assert page.one("#problem").text == "The file notes.pdf is no picture that this browser knows."


def test_more_like_an_item_whose_number_a_browser_would_round(page, start, tmp_path):
    path, large = tmp_path / "numbers.hashret", 1 << 53
    with Collection.create(path, n_bits=16) as collection:
        collection.add(np.array([[0, 0], [255, 255]], np.uint8), ids=[large, large + 1])
    with start(path) as served:
        own = Page(page.driver, served.address)
        own.open()
        assert [frame.text for frame in own.all(".frame")] == [str(large), str(large + 1)]
        own.all(".like")[1].click()
        assert f"hits for “{large + 1}”, the nearest at 0" in own.status("2 hits")
        assert own.one(".frame").text == str(large + 1)
        assert own.driver.current_url.endswith(f"?like={large + 1}")
        own.driver.refresh()
        assert f"“{large + 1}”" in own.status("2 hits")
        assert own.one(".badge").text == "same code"
        own.one(".open").click()
        assert str(large + 1) in own.one("#detail-facts").text


def test_pictures_are_shown_behind_a_proxy_that_puts_a_path_before(page, world):
    app = create_app(world.collection)

    async def behind(scope, receive, send):
        if scope["type"] == "http":
            path = scope["path"].removeprefix("/photos")
            scope = {**scope, "path": path if path != scope["path"] else "/nothing"}
        await app(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(behind, port=0, log_config=None, ws="none", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        page.wait(lambda: server.started)
        own = Page(page.driver, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/photos/")
        own.open("?like=%22s1%22")
        own.status("hits for “")
        for image in (own.one(".card img"), own.one("#sample-image")):
            own.wait(lambda image=image: own.driver.execute_script("return arguments[0].naturalWidth > 0", image))
    finally:
        server.should_exit = True
        thread.join()
