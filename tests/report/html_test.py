"""report.html, read back with a parser."""

import base64
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from dlcore.report import figures
from dlcore.report.html import write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags with attributes, visible text, table rows; checks that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.text, self._open = [], {}, [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] == ["th"]:
            self._name = data
        elif self._open[-1:] == ["td"]:
            self.rows[self._name] = data
        if self._open[-1:] != ["style"]:
            self.text.append(data)


@pytest.fixture
def run(tmp_path):
    config = {
        "experiment": "vae", "data": "<b>&digits", "preset": "smoke", "seed": 3,
        "config": {"train": {"epochs": 2}, "optimizer": {"weight_decay": 5e-5}},
    }  # fmt: skip
    summary = {"steps": 12345, "train_seconds": 1.25, "metrics": {"test/accuracy": 0.9754, "test/loss": 2e-6}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "environment.json").write_text(json.dumps({"packages": {"jax": "0.99"}, "command": ["a", "<i>"]}))
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    for name in ("vae/figures/curves", "vae/figures/a<b", "vae/samples/step_10"):
        figures.save_png(np.zeros((2, 2, 1), np.uint8), tmp_path / f"{name}.png")
    return tmp_path


def read(folder):
    return Page(write_report(folder, stages=("vae",)).read_text(encoding="utf-8"))


def test_says_what_was_run_and_how_it_ended(run):
    text = " ".join(read(run).text)
    for part in ("vae on <b>&digits", "preset smoke", "seed 3", "finished after 12,345 steps"):
        assert part in text


def test_begins_with_the_command(run):
    environment = run / "environment.json"
    assert "./launch" not in write_report(run).read_text(encoding="utf-8")  # no launcher made it
    told = {"command": ["/somewhere/launch/train.py", "--experiment=vae", "--set=a.b=1 <2"]}
    environment.write_text(json.dumps(told))
    text = "".join(Page(write_report(run).read_text(encoding="utf-8")).text)
    assert "./launch/local.sh train --experiment=vae '--set=a.b=1 <2'" in text


def test_numbers_keep_their_leading_digits(run):
    rows = read(run).rows
    assert rows["test/accuracy"] == "0.9754" and float(rows["test/loss"]) == 2e-6
    assert float(rows["config.optimizer.weight_decay"]) == 5e-5
    assert (rows["config.train.epochs"], rows["packages.jax"]) == ("2", "0.99")


def test_every_image_is_inside(run):
    images = [attributes for tag, attributes in read(run).tags if tag == "img"]
    assert [image["alt"] for image in images] == ["a<b", "curves", "step 10"], "the picture, curves, then the rest"
    stored = [run / "vae" / f"{name}.png" for name in ("figures/a<b", "figures/curves", "samples/step_10")]
    for image, path in zip(images, stored, strict=True):
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/png;base64" and base64.b64decode(data, validate=True) == path.read_bytes()


def test_nothing_comes_from_outside(run):
    page = read(run)
    assert "http" not in (run / "report.html").read_text().replace("http-equiv", "")
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "b", "i"}
    assert all(attributes.get("src", "data:").startswith("data:") for _, attributes in page.tags)
    assert not any("href" in attributes for _, attributes in page.tags)


def test_a_page_stands_within_the_report(run):
    page = '<p title="a">1 &lt; 2</p><script>"use strict";</script>'
    (run / "vae" / "figures" / "all_maps.html").write_text(page, encoding="utf-8")
    frames = [attributes for tag, attributes in read(run).tags if tag == "iframe"]
    # A parser gives back what the frame is to show, and it may not reach what is around it.
    assert frames == [{"title": "all maps", "sandbox": "allow-scripts", "srcdoc": page}]
    assert "all maps" in read(run).text


def test_light_and_dark(run):
    write_report(run)
    assert "color-scheme: light dark" in (run / "report.html").read_text()


@pytest.mark.parametrize("name", ["summary.json", "environment.json", "config.json", "vae/figures", "vae/samples"])
def test_an_unfinished_run_has_a_report(run, name):
    path = run / name
    path.rename(run / "hidden")
    text = " ".join(read(run).text)
    assert ("not finished" in text) == (name == "summary.json")
    assert ("Curves" in text) == (name != "vae/figures") and ("Samples" in text) == (name != "vae/samples")


def test_a_torn_file_is_left_out(run):
    (run / "summary.json").write_text('{"steps": 12')
    assert "not finished" in " ".join(read(run).text)


def test_an_empty_folder_has_a_report(tmp_path):
    assert "run on unknown data" in " ".join(read(tmp_path).text)


def test_writing_again_changes_nothing(run):
    first = write_report(run, stages=("vae",)).read_bytes()
    assert write_report(run, stages=("vae",)).read_bytes() == first
    assert b"<h2>Curves</h2>" in first


def test_several_stages_are_told_apart(run):
    figures.save_png(np.zeros((2, 2, 1), np.uint8), run / "gallery" / "figures" / "sheet.png")
    text = " ".join(Page(write_report(run, stages=("vae", "gallery")).read_text(encoding="utf-8")).text)
    assert "Vae: samples" in text and "Gallery: figures" in text


def test_the_command_the_headline_and_the_picture_come_before_curves_and_the_rest(run):
    summary = json.loads((run / "summary.json").read_text())
    summary["metrics"] = {"test/a": 0.5, "test/loss": 3e-7, "test/iou_b": 0.25, "test/iou_a": 0.75}
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "environment.json").write_text(json.dumps({"command": ["launch/train.py", "--experiment=vae"]}))
    figures.save_png(np.zeros((2, 2, 1), np.uint8), run / "gallery" / "figures" / "sheet.png")
    written = write_report(
        run, stages=("vae", "gallery"), headline=("loss", "iou_*", "absent"), picture=("gallery/none", "gallery/sheet")
    )
    page = written.read_text(encoding="utf-8")
    order = ["--experiment=vae", "test/loss", "test/iou_b", "test/iou_a", 'alt="sheet"', "<h2>Curves", 'alt="a&lt;b"']
    places = [page.index(part) for part in [*order, "<h2>Vae: samples", "All metrics", "test/a<"]]
    assert places == sorted(places) and page.count('alt="sheet"') == 1, "shown once, where it stands first"
    assert "3e-07" in page


def test_without_a_headline_the_first_metrics_stand_there(run):
    big = (
        write_report(run, stages=("vae",))
        .read_text(encoding="utf-8")
        .split('<table class="big">')[1]
        .split("</table>")[0]
    )
    assert "test/accuracy" in big and "test/loss" in big
