"""The report of planted studies, as files and in a browser."""

import csv
import json
import os
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from basiscli.errors import BadInput
from basiscli.study import comparison, report, sealed, steps
from basiscli.study import page as pages
from tests.helpers import planted
from tests.helpers.command_line import call

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
browser = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A planted study in which C2 is false and the connectivity step failed, with its report."""
    folder = planted.study(
        tmp_path_factory.mktemp("study"),
        failed="connectivity",
        correlate=planted.correlations({(256, "trained"): 0.95}),
    )
    report.write(folder)
    return folder


@pytest.fixture(scope="module")
def page(folder) -> str:
    return (folder / "report.html").read_text()


def test_verdicts_are_those_of_the_plant(folder):
    outcome = call("report", folder)
    assert [(one["claim"], one["part"], one["verdict"]) for one in outcome.records] == [
        ("C1", None, "shown"), ("C2", None, "refuted"), ("C3", "space", "shown"), ("C3", "axes", "shown"),
        ("C4", None, "undecided"),
    ]  # fmt: skip
    assert outcome.records[-1]["because"] == "records missing: connectivity"
    results = json.loads((folder / "results.json").read_text())
    assert results["claims"] == outcome.records and results["failed"] == ["connectivity"]


def test_results_hold_no_times_and_are_the_same_again(folder, tmp_path):
    before = (folder / "results.json").read_bytes()
    again = planted.study(tmp_path, failed="connectivity", correlate=planted.correlations({(256, "trained"): 0.95}))
    for path in (again / "steps").iterdir():
        path.write_text(path.read_text().replace("1.5", "99"))
    report.write(again)
    assert (again / "results.json").read_bytes() == before
    assert "99.0" in (again / "report.html").read_text()


def test_tables_hold_every_field(folder):
    with (folder / "tables/correlate.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15 * 3 * 6 and float(rows[0]["matched_held_out"]) == pytest.approx(0.5, abs=0.05)
    assert {path.name for path in (folder / "tables").iterdir()} == {"rotate.csv", "correlate.csv", "freeze.csv"}


def test_sections_stand_below_the_claims(tmp_path):
    """With what they say in words, a figure, a table of means over layers, and the full records beside."""
    cells = comparison.steps_of({"optimizer": ["sgd", "adamw"]}, [], {})
    found = [steps.Step("evolve", ("evolve",)), *cells]
    steps.prepare(tmp_path, "planted", "", found)
    pairs = [planted.pair_records({"hidden1": share, "hidden2": share}) for share in (0.3, 0.2)]
    for step, lines in zip(found, (planted.evolved({0: 0.0, 5: 0.2, 10: 0.3}), *pairs), strict=True):
        (tmp_path / step.records).write_text("".join(json.dumps(line) + "\n" for line in lines))
    report.write(tmp_path)
    page = (tmp_path / "report.html").read_text()
    below = page.index("<h2>Over training</h2>"), page.index("<h2>What the basis depends on</h2>")
    assert page.index('id="C4"') < below[0] < below[1] < page.index("<h2>What was done</h2>")
    assert (
        "share, mean over layers: 0.00 (0.00 to 0.00) at epoch 0, 0.30 (0.30 to 0.30) at epoch 10; it rises by" in page
    )
    assert "optimizer adamw instead of sgd: share -0.10 (-0.10 to -0.10)" in page
    for part in ("evolve", "compare"):
        assert {(tmp_path / f"figures/{part}.{kind}").exists() for kind in ("png", "svg")} == {True}
        assert (tmp_path / f"tables/{part}.csv").exists()
    tables = json.loads((tmp_path / "results.json").read_text())["tables"]
    assert len(tables["evolve"]) == 9 and tables["compare"][-1]["share_rise"] == pytest.approx(-0.1)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and "#5b7ba6" not in page  # colours are the page's, also in the dark
    (tmp_path / "records/evolve.jsonl").write_text("{")
    with pytest.raises(BadInput, match=r"evolve\.jsonl: is damaged; remove it"):
        report.write(tmp_path)


def test_figures_are_png_and_svg(folder):
    names = {f"{claim}.{kind}" for claim in ("C1", "C2", "C3") for kind in ("png", "svg")} | {"claims.png"}
    assert {path.name for path in (folder / "figures").iterdir()} == names
    assert "<svg" in (folder / "figures/C1.svg").read_text() and "var(" not in (folder / "figures/C1.svg").read_text()


def test_the_page_needs_no_network_and_escapes_what_it_is_given(page):
    assert not re.findall(r'(?:src|href)="(?!#|data:|tables/)[^"]*"', page)
    assert "url(http" not in page and "@import" not in page and "<script" not in page
    assert "a &lt;bad&gt; day" in page and "&lt;planted&gt;" in page


def test_ids_are_unique_and_tags_are_closed(page):
    class Checker(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.ids = [], []

        def handle_starttag(self, tag, attributes):
            self.ids += [value for name, value in attributes if name == "id"]
            self.open += [] if tag in ("meta", "link") else [tag]

        def handle_startendtag(self, tag, attributes):
            self.ids += [value for name, value in attributes if name == "id"]

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(page)
    assert not checker.open and len(set(checker.ids)) == len(checker.ids)


def test_figures_say_in_words_what_they_show(page):
    labels = re.findall(r'<figure role="img" aria-label="([^"]+)"', page)
    assert len(labels) == 3
    assert "networks, 40 epochs, hidden1: 0.400 (0.390 to 0.410)" in labels[0]
    assert "linear twins, 40 epochs, hidden3: 0.002 (-0.008 to 0.012)" in labels[0]
    assert "width 256 hidden1: 95.0 %" in labels[1] and "2 frozen, rise of the share: 10.0 points" in labels[2]


def test_a_card_says_what_was_asked_and_what_would_have_refuted_it(page):
    """Question, verdict, effect, controls, networks, epochs, accuracy; and below what was done, words, source, date."""
    for words in (
        "Do networks from different seeds find different neurons, even wide ones?", "What would have refuted it",
        "6 networks, 3 donors, 10 epochs, width 64, sgd, test accuracy 94.0 %", "Control, linear twins, 40 epochs",
        "Among all verdicts (Holm)", "What was done", "Ten words", "arXiv 2307.12941", "axes: shown",
    ):  # fmt: skip
        assert words in page, words
    assert "for certain" not in page and re.search(r"; \d{4}-\d\d-\d\d\.", page) and len(pages.GLOSSARY) == 10
    for line in ("refutes below", "far from it: below 50", "one basis: above 80"):  # the thresholds are in the figures
        assert line in page


def test_what_is_missing_is_said_and_decides_nothing(tmp_path):
    """Records that are gone make their claim undecided; records that are not those of the step are refused."""
    folder = planted.study(tmp_path)
    records, state = folder / "records/correlate.jsonl", folder / "steps/correlate.json"
    sealed.write(state, sealed.read(state) | {"files": {"records/correlate.jsonl": steps.describe(records)}})
    assert report.write(folder)[1]["verdict"] == "shown"
    whole = records.read_text()
    records.write_text("".join(line for line in whole.splitlines(keepends=True) if '"width": 256' not in line))
    with pytest.raises(BadInput, match=r"records/correlate.jsonl: is not what its step wrote"):
        report.write(folder)
    records.unlink()
    record = report.write(folder)[1]
    assert (record["verdict"], record["because"]) == ("undecided", "records missing: correlate")
    assert "4 of 5 steps, missing: correlate" in (folder / "report.html").read_text()


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_is_legible(scheme):
    """WCAG 2, level AA: 4.5 for text, 3 for lines of a figure."""
    blocks = re.findall(r":root \{(.*?)\}", pages.STYLE.read_text(), re.S)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[scheme]))
    for name in ("ink", "muted", "link", "red", "blue", "green", "threshold", "shown", "refuted", "undecided"):
        assert contrast(colours[name], colours["card"]) >= 4.5, name
    for name in ("ink", "muted", "link"):
        assert contrast(colours[name], colours["page"]) >= 4.5, name
    assert contrast(colours["grey"], colours["card"]) >= 3


def test_a_study_without_records_has_a_report(tmp_path):
    steps.prepare(tmp_path, "empty", "", [steps.Step("train", ("train",))])
    assert [one["verdict"] for one in report.write(tmp_path)] == ["undecided"] * 5
    assert "Not done: train." in (tmp_path / "report.html").read_text()


def test_a_folder_without_a_study_is_refused(tmp_path):
    call("report", tmp_path).refused("holds no study")


@pytest.mark.parametrize("text", ["{", "3", "epoch 1"])
def test_damaged_records_are_named(tmp_path, text):
    folder = planted.study(tmp_path)
    (folder / "records/freeze.jsonl").write_text(text)
    call("report", folder).refused("freeze.jsonl", "is damaged")


def test_a_study_that_measured_less_has_a_report(tmp_path):
    """Options of a plan can leave out the null, the intervals and whole conditions."""
    pairs = [{k: v for k, v in r.items() if "rotated" not in k} for r in planted.correlations()]
    rows = {name: [{k: v for k, v in r.items() if not k.endswith(("_low", "_high", "_error"))} for r in make()]
            for name, make in planted.TABLES.items()}  # fmt: skip
    rows["rotate"] = [r for r in rows["rotate"] if r["epochs"] == planted.EPOCHS]
    rows["freeze"] = [r for r in rows["freeze"] if r["donor_seed"] != 101]
    train = [{**record, "split": "train"} for record in rows["connectivity"]]
    folder = planted.study(tmp_path, **rows | {"correlate": pairs, "connectivity": train})
    assert [one["verdict"] for one in call("report", folder).records] == ["undecided"] * 5


def look(folder: Path, *options: str) -> str:
    """Open the page in headless Chromium and return what it says."""
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
        f"--user-data-dir={folder}/profile", *options, f"file://{folder}/report.html",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


@browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["1280,800", "390,844"])
def test_a_browser_shows_it(folder, tmp_path, scheme, size):
    """The colours of the scheme are on the first screen, each verdict's among them, and the console is silent."""
    image = tmp_path / "page.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    look(folder, f"--window-size={size}", f"--screenshot={image}", *dark)
    from matplotlib.image import imread

    pixels = (255 * imread(image)[..., :3]).round().astype(int)
    blocks = re.findall(r":root \{(.*?)\}", pages.STYLE.read_text(), re.S)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[scheme == "dark"]))
    wanted = ["page", "card", "shown"] + (["refuted", "undecided", "red", "blue"] if size == "1280,800" else [])
    for name in wanted:
        rgb = [int(colours[name][k : k + 2], 16) for k in (1, 3, 5)]
        assert (pixels == rgb).all(-1).sum() > 20, name


@browser
@pytest.mark.parametrize("width, height", [(1280, 800), (390, 844), (320, 600)], ids=["desk", "phone", "small phone"])
def test_it_fits(page, tmp_path, width, height):
    """Nothing but tables scrolls sideways, and on a desk all verdicts are on the first screen.

    The page is in a frame of that size, since a window has no less than 500 pixels.
    """
    script = (
        "onload = () => {const {document: page, innerWidth: width} = frames[0];"
        " document.title = [width, page.documentElement.scrollWidth <= width,"
        " ...[...page.querySelectorAll('.overview li')].map(card => card.getBoundingClientRect().bottom)]}"
    )
    style = f"border: 0; width: {width}px; height: {height}px"
    frame = f'<script>{script}</script><iframe style="{style}" srcdoc="{escape(page)}"></iframe>'
    (tmp_path / "report.html").write_text(f"<!doctype html><title></title>{frame}")
    shown = look(tmp_path, "--window-size=1400,1000", "--dump-dom")
    told, fits, *bottoms = re.search(r"<title>(.*?)</title>", shown)[1].split(",")
    assert (told, fits) == (str(width), "true") and len(bottoms) == 4
    if width == 1280:
        assert max(map(float, bottoms)) <= height


@browser
def test_it_prints(folder, tmp_path):
    look(folder, f"--print-to-pdf={tmp_path}/page.pdf", "--no-pdf-header-footer")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


AXE = os.environ.get("BASISCLI_AXE", "")  # axe.min.js of the npm package axe-core


@browser
@pytest.mark.skipif(not Path(AXE).is_file(), reason="needs axe-core (BASISCLI_AXE)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(page, tmp_path, scheme):
    script = "onload = () => axe.run().then(found => {document.title = 'axe ' + found.violations.map(v => v.id + ' '"
    script += " + v.nodes.map(n => n.target).join(' ')).join('; ') + '.'})"
    (tmp_path / "axe.js").write_text(Path(AXE).read_text() + "\n" + script)
    (tmp_path / "report.html").write_text(page.replace("</body>", '<script src="axe.js"></script></body>'))
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    shown = look(tmp_path, "--virtual-time-budget=20000", "--dump-dom", *dark)
    assert re.search(r"<title>(.*?)</title>", shown)[1] == "axe ."
