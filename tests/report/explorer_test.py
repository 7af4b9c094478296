"""The page of attributions: its pictures read back, and what a browser makes of it."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from dlcore.report.explorer import Page, attributions, sheet
from dlcore.report.panel import draw, load, panel, save

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(2, 4, 6, 1))
CLASSES = ("a<b", "</script>", "c")
MAPS = {
    "saliency": {"": RNG.uniform(size=(2, 3, 4, 6))},
    "occlusion": {"": RNG.normal(size=(2, 3, 4, 6))},
    "grad_cam": {"stage_1": RNG.uniform(size=(2, 3, 4, 6)), "stage_2": RNG.uniform(size=(2, 3, 4, 6))},
}
ANSWERS = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])


def made(**changes):
    arguments = {"images": IMAGES, "maps": MAPS, "probabilities": ANSWERS, "classes": CLASSES} | changes
    return attributions(**arguments, signed=("occlusion",))


class Scripts(HTMLParser):
    """The texts of scripts by their id, and all addresses."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.addresses, self._open = {}, [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.addresses += [told[name] for name in ("src", "href") if name in told]
        self._open = told.get("id", "") if tag == "script" else None

    def handle_data(self, data):
        if self._open is not None:
            self.texts[self._open] = self.texts.get(self._open, "") + data


def pixels(address):
    kind, _, data = address.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_the_page_holds_every_image_and_map():
    scripts = Scripts(made().html)
    told = json.loads(scripts.texts["data"])
    assert told["classes"] == list(CLASSES) and told["probabilities"] == ANSWERS.tolist()
    assert (told["height"], told["width"]) == (4, 6)
    for address, image in zip(told["images"], IMAGES, strict=True):
        np.testing.assert_array_equal(pixels(address), np.round(255 * image[..., 0]))
    assert {method: list(layers) for method, layers in told["maps"].items()} == {
        "saliency": [""],
        "occlusion": [""],
        "grad_cam": ["stage_1", "stage_2"],
    }
    for method, layers in MAPS.items():
        for layer, found in layers.items():
            for address, one in zip(told["maps"][method][layer], found, strict=True):
                shown = pixels(address)
                assert shown.shape == (4, 3 * 6, 3)
                # Class k lies at columns 6 k … 6 k + 5: magma brightens with the number, red and blue are signs.
                for k in range(3):
                    part = shown[:, 6 * k : 6 * k + 6].astype(int)
                    if method == "occlusion":
                        clear = np.abs(one[k]) > 0.1 * np.abs(one[k]).max()
                        assert (np.sign(part[..., 0] - part[..., 2]) == np.sign(one[k]))[clear].all()
                    else:
                        assert (np.diff(part.sum(-1).ravel()[np.argsort(one[k].ravel())]) >= 0).all()


def test_signed_maps_are_white_at_zero_and_coloured_by_sign():
    shown = sheet(np.array([[[0.0, 2.0, -1.0]], [[0.0, 0.0, 0.0]]]), signed=True).astype(int)
    assert shown.shape == (1, 6, 3)
    assert shown[0, 0].min() > 240 and (shown[0, 3:] == shown[0, 0]).all()
    assert shown[0, 1, 0] > shown[0, 1, 2] and shown[0, 2, 0] < shown[0, 2, 2]
    # On the scale of the magnitudes 2 is stronger than −1.
    assert shown[0, 1].min() < shown[0, 2].min()
    assert (sheet(np.full((1, 2, 2), 0.3), signed=False) == sheet(np.zeros((1, 2, 2)), signed=False)).all()


def test_nothing_comes_from_elsewhere_and_names_stay_texts():
    page = made(title="<i>&").html
    scripts = Scripts(page)
    assert not scripts.addresses
    assert not re.search(r"https?://|@[A-Z]+@|<i>&", page)
    assert len(re.findall(r"</script>", page)) == 2, "a class's name ends the script"


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"maps of saliency '' are \(2, 2, 4, 6\), expected \(2, 3, 4, 6\)"):
        made(maps={"saliency": {"": np.zeros((2, 2, 4, 6))}})
    with pytest.raises(ValueError, match="not by image and class"):
        made(probabilities=ANSWERS[:1])


def test_a_page_is_a_panel_like_a_figure(tmp_path):
    save({"explorer": panel("explorer.attributions", IMAGES, MAPS, ANSWERS, CLASSES, ("occlusion",))}, tmp_path)
    drawn = draw(load(tmp_path)["explorer"])
    assert isinstance(drawn, Page) and drawn == made()
    drawn.save(tmp_path / "figures" / "page.html")
    assert (tmp_path / "figures" / "page.html").read_text(encoding="utf-8") == drawn.html


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def browse(path, view, folder, *options):
    """Open the page at a view in a headless browser."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--virtual-time-budget=5000"]
    address = path.as_uri() + view
    return subprocess.run([BROWSER, *flags, *options, address], capture_output=True, check=True, timeout=300)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_browser_shows_the_view_of_the_address(tmp_path):
    # In class k of image i, the map of saliency is one bright column at k + i; a layer's number is its column.
    columns = np.zeros((2, 3, 4, 6))
    for i in range(2):
        for k in range(3):
            columns[i, k, :, k + i] = 1
    layers = {f"stage_{j}": np.broadcast_to(np.eye(6)[j], (2, 3, 4, 6)) for j in range(3)}
    page = made(maps={"saliency": {"": columns}, "grad_cam": layers})
    path = tmp_path / "page.html"
    page.save(path)

    def seen(view):
        text = browse(path, view, tmp_path / "browser", "--dump-dom").stdout.decode()
        caption = re.search(r'<figcaption id="caption">(.*?)</figcaption>', text).group(1)
        browse(path, view, tmp_path / "browser", f"--screenshot={tmp_path}/view.png", "--window-size=1000,900")
        screen = np.asarray(Image.open(tmp_path / "view.png").convert("RGB")).astype(int)
        # The left canvas is 6 × 56 pixels wide; its bright column is the end of magma, which nothing else has.
        bright = (np.abs(screen - (252, 253, 191)).max(-1) < 12).sum(0)
        return caption, np.flatnonzero(bright > 150)

    def column(found):
        left = column.first if hasattr(column, "first") else found.min()
        column.first = left
        return round((found.min() - left) / 56)

    # Of the first image class 0 is the likeliest: column 0 of the map.
    caption, found = seen("")
    assert caption == "saliency, for a&lt;b" and column(found) == 0
    caption, found = seen("#image=1&class=2&method=saliency&layer=")
    assert caption == "saliency, for c" and column(found) == 3
    caption, found = seen("#image=1&method=grad_cam&layer=stage_1")
    assert caption == "grad cam at stage_1, for c" and column(found) == 1
    # What is not there falls back: the last layer, the likeliest class.
    caption, found = seen("#image=7&class=9&method=grad_cam&layer=none")
    assert caption == "grad cam at stage_2, for a&lt;b" and column(found) == 2
