"""`apply --report report.html`: a page that holds everything, is harmless whatever a file is named, and is shown."""

import base64
import json
import os
import pickle
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import contents, finished, make_nifti, make_volume, noise, ok, program, run, save_weights

pytest.importorskip("matplotlib")

from lucid_cli.formats import parse_spec
from lucid_cli.options import Settings
from lucid_cli.pictures.histogram import BARS, Histogram
from lucid_cli.pictures.page import page
from lucid_cli.pictures.rows import pictured
from lucid_cli.pictures.take import Pictures, take
from lucid_cli.report import bare_item
from lucid_core.units import Length

EVIL = "a<script>alert(1)<b>&\"'x"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = ("meta", "img", "br", "path")
ASK = """<script>
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(one => one.open = true);
  const fetched = performance.getEntriesByType("resource").map(one => one.name).filter(one => !one.startsWith("data:"));
  const wide = document.documentElement.scrollWidth - innerWidth;
  const images = [...document.images].map(one => [one.naturalWidth, one.alt]);
  const title = document.title;
  document.documentElement.textContent = "<<" + btoa(unescape(encodeURIComponent(JSON.stringify(
    {images, fetched, wide, title})))) + ">>";
});
</script>"""


class Reading(HTMLParser):
    """What a page holds: its elements, each with its attributes, and the text in each."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag):
        return [attributes for one, attributes in self.elements if one == tag]

    def words(self, *tags):
        return [text for tag, text in self.texts if not tags or tag in tags]


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Return the text of a page of four scans, of which one is broken and one is skipped, and the run's result."""
    folder = tmp_path_factory.mktemp("batch")
    make_nifti(folder / "first.nii.gz", noise(9, 8, 7, dtype=np.int16), sform=np.diag([1, 2, 3, 1]))
    (folder / f"{EVIL}.nii").write_bytes(b"no scan")
    make_nifti(folder / "time.nii", noise(5, 6, 7, 3), sform=np.diag([1, 2, 3, 1]))
    make_volume(folder / "done.npy", noise(5, 6, 7))
    (folder / "out").mkdir()
    words = ["--kernel", "gaussian", "--sigma", "1vox"]
    ok("apply", folder / "done.npy", "-o", folder / "out", *words)
    names = [folder / name for name in ("first.nii.gz", f"{EVIL}.nii", "time.nii", "done.npy")]
    report = folder / "r.html"
    result = run("apply", *names, "-o", folder / "out", *words, "--skip-existing", "--report", report)
    return report.read_text(), result


def test_a_page_holds_all_it_needs_and_runs_nothing(batch):
    text, result = batch
    assert result.code == 7
    read = Reading(text)
    assert not read.of("script") + read.of("link") + read.of("iframe")
    assert "http" not in text.replace("http-equiv", "")
    assert all("on" not in name[:2] for _, attributes in read.elements for name in attributes)
    assert read.of("meta")[1]["content"].startswith("default-src 'none'; img-src data:;")
    for attributes in read.of("img"):
        kind, data = attributes["src"].split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
        assert attributes["alt"]
    assert len(text) < 4 * 60_000


def test_names_are_shown_as_they_are_and_make_no_markup(batch):
    text, _ = batch
    read = Reading(text)
    assert any(word.endswith(f"{EVIL}.nii") for word in read.words("a"))
    assert not [tag for tag, _ in read.elements if tag in ("b", "script")]


def test_the_index_has_a_row_a_file_and_failures_first(batch):
    text, result = batch
    read = Reading(text)
    names = [Path(word).name for word in read.words("a")]
    assert names == [f"{EVIL}.nii", "first.nii.gz", "time.nii", "done.npy"]
    links, places = read.of("a"), [one["id"] for one in read.of("div") if "id" in one]
    assert [one["href"].lstrip("#") for one in links] == places == ["file-2", "file-1", "file-3", "file-4"]
    assert [word for word in read.words("span") if word] == ["failed"] * 2
    assert "lucid-conv3d apply: 1 failed, 2 ok, 1 skipped" in read.words("h1")
    error = result.err.split("Error: ")[1].splitlines()[0]
    assert sum(word == error for word in read.words()) == 2
    assert "1x1x7x8x9 to" in read.words("td")
    assert "3x1x7x6x5 to" in read.words("td")
    thumbs = [one["alt"] for one in read.of("img") if "thumb" in one["alt"] or one["alt"].startswith("axial plane of")]
    assert len(thumbs) == 2
    assert len(read.of("details")) == 4


def test_a_kernel_is_drawn_once_for_all_that_share_it(batch):
    drawn = [one["alt"] for one in Reading(batch[0]).of("img") if "frequency response" in one["alt"]]
    assert drawn == ["mid-planes and frequency response of gaussian"]


def test_what_a_section_says(folder):
    make_nifti(
        "a.nii", noise(9, 8, 7), sform=np.diag([1, 2, 3, 1]), edit=lambda header: header.__setitem__("bitpix", 16)
    )
    words = (
        "apply",
        "a.nii",
        "-o",
        "b.nii",
        "--kernel",
        "box",
        "--size",
        "3vox",
        "--report",
        "r.html",
        "--progress",
        "none",
    )
    result = ok(*words)
    text = Path("r.html").read_text()
    read = Reading(text)
    cells = read.words("td")
    for line in result.err.splitlines():
        if line.startswith("Warning: "):
            assert line.removeprefix("Warning: ") in read.words("p")
        else:
            assert line[12:] in cells
    assert any("bitpix is 16" in word for word in read.words("p"))
    assert read.words("pre")[0] == " ".join(("lucid-conv3d", *words))
    values = read.words("figcaption")
    volume = noise(9, 8, 7)
    assert values[0] == f"before: {volume.min():.6g} to {volume.max():.6g}, 504 values"
    assert values[1].startswith("after: ")
    assert [one["role"] for one in read.of("svg")] == ["img", "img"]
    assert "separable (chosen)" in cells or "direct (chosen)" in cells
    assert any(word.startswith("refused: its error is bounded normwise only") for word in cells)
    assert {"read", "compute", "write", "total"} <= set(read.words("th"))
    assert "   along D  0.03704 0.03704 0.03704" in "".join(read.words("pre"))
    assert not read.of("details")
    assert contents(folder).keys() == {"a.nii", "b.nii", "r.html"}


def test_the_same_run_makes_the_same_pictures(folder):
    make_nifti("a.nii", noise(9, 8, 7), sform=np.eye(4))
    found = []
    for _ in range(2):
        ok("apply", "a.nii", "-o", "b.nii", "--kernel", "central", "--axis", "z", "--report", "r.html", "--overwrite")
        found.append([one["src"] for one in Reading(Path("r.html").read_text()).of("img")])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "words",
    (
        ("--weights", "w.npz", "--stride", "2"),
        ("--layers", "[{weights: w.npz, padding: 1}, relu, {leaky_relu: 0.1}]"),
        ("--kernel", "sphere", "--radius", "2vox", "--mask", "m.npy", "--normalize", "zscore"),
    ),
)
def test_pages_of_other_layers(folder, words):
    make_volume("a.npy", noise(7, 8, 9))
    make_volume("m.npy", np.ones((7, 8, 9), np.uint8))
    save_weights("w.npz", noise(2, 1, 3, 3, 3), noise(2))
    ok("apply", "a.npy", "-o", "b.h5", *words, "--report", "r.html")
    read = Reading(Path("r.html").read_text())
    assert len(read.of("img")) == 2
    assert len(read.of("svg")) == 2
    if "--layers" in words:
        assert {"relu", "leaky_relu"} <= set(read.words("td", "th"))


@pytest.fixture
def shown(monkeypatch):
    """Return the list of the pictures that are drawn of scans from here on."""
    pictures = []

    def noted(*scans, **options):
        pictures.append(pictured(*scans, **options))
        return pictures[-1]

    monkeypatch.setattr("lucid_cli.pictures.take.pictured", noted)
    return pictures


def test_an_output_without_a_header_lies_as_its_input_does(folder, shown):
    make_nifti("a.nii", noise(9, 8, 7), sform=np.diag([-1, 2, 3, 1]))
    kernel = ("--kernel", "box", "--size", "2vox", "--stride", "2", "--padding", "valid")
    ok("apply", "a.nii", "-o", "b.npy", *kernel, "--report", "r.html")
    before, after = shown[0].rows
    assert [panel.edges for panel in before.panels] == [panel.edges for panel in after.panels]
    assert before.panels[0].edges == ("R", "L", "A", "P")
    np.testing.assert_array_equal(after.panels[0].values, np.load("b.npy")[1][::-1])
    assert after.panels[0].size == (4 * 4, 4 * 2)
    assert shown[0].titles[1] == "b.npy   3x4x4 (zyx) float32, 6x4x2 mm"


def test_axes_and_spacing_are_those_of_the_run(folder, shown):
    volume = noise(7, 6, 5, 2)
    make_volume("a.npy", volume)
    words = ("--axes", "DHWN", "--spacing", "3,2,1mm", "--kernel", "box", "--size", "3vox")
    ok("apply", "a.npy", "-o", "b.npy", *words, "--report", "r.html")
    before, after, _ = shown[0].rows
    np.testing.assert_array_equal(before.panels[1].values, volume[:, 3, :, 0])
    np.testing.assert_array_equal(after.panels[1].values, np.load("b.npy")[:, 3, :, 0])
    assert before.panels[1].size == after.panels[1].size == (21, 5)
    assert shown[0].titles[0].endswith("7x6x5x2 (zyxn) float32, 3x2x1 mm, volume 0 (of 0 to 1)")


def test_a_named_kernel_is_drawn_once_for_all_channels(folder):
    make_volume("a.npy", noise(3, 7, 8, 9))
    ok("apply", "a.npy", "-o", "b.npy", "--kernel", "box", "--size", "3vox", "--report", "r.html")
    assert "   filters  1 of 1 channels, float32\n" in Path("r.html").read_text()


def test_what_goes_through_a_pipe_is_not_drawn(folder):
    make_nifti("a.nii", noise(9, 8, 7), sform=np.eye(4))
    with Path("a.nii").open("rb") as file:
        words = ("apply", "-", "-o", "b.nii", "--kernel", "sobel", "--report", "r.html")
        assert finished(program(*words, stdin=file)).code == 0
    read = Reading(Path("r.html").read_text())
    assert read.of("img")[0]["alt"] == "axial, coronal and sagittal planes of stdin, after"
    assert [one.split(":")[0] for one in read.words("figcaption")] == ["after"]


def test_a_name_that_is_no_text_is_shown(folder):
    name = os.fsdecode(b"a\xff.npy")
    make_volume(name, noise(5, 6, 7))
    ok("apply", name, "-o", "b.npy", "--kernel", "box", "--size", "3vox", "--report", "r.html")
    assert "a\\udcff.npy" in Path("r.html").read_text()


def test_pictures_that_cannot_be_taken_spoil_nothing(folder, monkeypatch):
    monkeypatch.setattr("lucid_cli.pictures.take.pictured", lambda *_, **__: 1 / 0)
    make_volume("a.npy", noise(5, 6, 7))
    ok("apply", "a.npy", "-o", "b.npy", "--kernel", "box", "--size", "3vox", "--report", "r.html")
    words = Reading(Path("r.html").read_text()).words("p")
    assert any(word.startswith("No pictures: ZeroDivisionError") for word in words)


def test_pictures_go_from_process_to_process(folder):
    from contextlib import ExitStack

    from lucid_cli.job import item, prepare
    from lucid_cli.layers import any_recipe

    make_volume("a.npy", noise(5, 6, 7))
    ok("apply", "a.npy", "-o", "b.npy", "--kernel", "box", "--size", "3vox")
    recipe = any_recipe(Settings(kernel="box", size=Length.parse("3vox")))
    with ExitStack() as stack:
        job = prepare(parse_spec("a.npy"), parse_spec("b.npy"), recipe, stack)
        done = item(job, "ok", None, dict.fromkeys(("read", "compute", "write", "total"), 1.0))
        taken = take(parse_spec("a.npy"), parse_spec("b.npy"), done, job.layer)
    again, sent = pickle.loads(pickle.dumps((taken, done)))
    assert page([sent], [again], "x") == page([done], [taken], "x")


def test_a_page_of_two_hundred_failures_and_of_nothing(folder):
    items = [bare_item(f"{number}.nii", "failed", 0, f"broken {number}") for number in range(200)]
    read = Reading(page(items, [None] * 200, "lucid-conv3d apply"))
    assert len(read.of("a")) == len(read.of("details")) == 200
    read = Reading(page([bare_item("a.nii", "failed", 0, "no such file")], [Pictures(lacking="none")], ""))
    assert "no such file" in read.words("p")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    (
        ("--report r.txt", 2, "--report r.txt: the suffix says no form of report; legal: FILE.json, FILE.html, or -"),
        ("--report r.html --dry-run", 2, "a plan writes nothing"),
        ("--report no/r.html", 4, "its folder no does not exist"),
        ("--report there.html", 4, "there.html: exists"),
    ),
)
def test_a_page_that_cannot_be_written_stops_before_any_work(scan, words, code, said):
    Path("there.html").write_text("mine")
    before = contents(".")
    result = run("apply", "scan.npy", "-o", "b.npy", "--kernel", "box", "--size", "3vox", *words.split())
    assert (result.code, said in result.err) == (code, True)
    assert contents(".") == before


def test_without_matplotlib_nothing_begins(scan, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = ("apply", "scan.npy", "-o", "b.npy", "--kernel", "box", "--size", "3vox", "--report")
    result = run(*words, "r.html")
    assert (result.code, "pip install 'lucid-conv3d[viz]'" in result.err) == (2, True)
    assert contents(".").keys() == {"scan.npy"}
    ok(*words, "r.json")
    assert json.loads(Path("r.json").read_text())["status"] == "ok"


def test_a_histogram_counts_like_numpy_in_any_order():
    values = np.concatenate([noise(5000, seed=1), 1e3 + noise(100)]).astype(np.float32)
    values[::97] = np.nan
    known = values[np.isfinite(values)].astype(np.float64)
    pieces = np.array_split(values, 7)
    found, other = Histogram.of(pieces), Histogram.of(pieces[::-1])
    assert (found.least, found.most, found.finite) == (known.min(), known.max(), known.size)
    assert found.not_finite == values.size - known.size
    assert (found.exponent, found.first, found.counts.tolist()) == (other.exponent, other.first, other.counts.tolist())
    edges = (found.first + np.arange(len(found.counts) + 1)) * 2.0**found.exponent
    np.testing.assert_array_equal(found.counts, np.histogram(known, edges)[0])
    bars = found.bars()
    assert len(bars) <= BARS
    assert sum(count for *_, count in bars) >= 0.999 * known.size - 1
    for low, high, count in bars[:-1]:
        assert count == ((known >= low) & (known < high)).sum()


@pytest.mark.parametrize(
    ("values", "whole", "bars"),
    (
        ([1, 2, 2, 5], True, [(1, 2, 1), (2, 3, 2), (3, 4, 0), (4, 5, 0), (5, 6, 1)]),
        ([0.0, 0.0], False, [(0, 5e-324, 2)]),
        ([np.nan, -np.inf], False, []),
    ),
)
def test_histograms_of_few_values(values, whole, bars):
    assert Histogram.of([np.array(values, float)], whole=whole).bars() == bars


def test_a_histogram_of_extreme_values_holds_them_all():
    found = Histogram.of([np.zeros(3), np.array([1e-300]), np.array([-1.7e308, 1.7e308]), np.zeros(2)])
    assert (found.finite, found.least, found.most) == (8, -1.7e308, 1.7e308)
    assert sum(count for *_, count in found.bars()) == 8


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize("width", (1200, 500))
def test_a_browser_shows_all_pictures_and_fetches_nothing(batch, tmp_path, width):
    text, _ = batch
    copy = tmp_path / "copy.html"
    copy.write_text(text.replace('http-equiv="Content-Security-Policy"', "").replace("</body>", f"{ASK}</body>"))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run(
        [*command, f"--window-size={width},900", "--dump-dom", copy.as_uri()],
        capture_output=True,
        check=True,
        timeout=60,
    )
    told = done.stdout.decode().split("&lt;&lt;")[1].split("&gt;&gt;")[0]
    found = json.loads(base64.b64decode(told))
    assert found["title"] == "lucid-conv3d apply: 1 failed, 2 ok, 1 skipped"
    assert [alt for wide, alt in found["images"] if not wide] == []
    assert len(found["images"]) == 5
    assert found["fetched"] == []
    assert found["wide"] <= 0
