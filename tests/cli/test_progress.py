"""Progress: what is shown while no tile is finished, and what a line says."""

import json
import re
import time

import pytest

from lucid_cli import progress
from lucid_cli.progress import Reporter
from lucid_core.events import Progress


@pytest.fixture
def quick(monkeypatch):
    """Let the clock be looked at every hundredth of a second."""
    monkeypatch.setattr(progress, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.03)


def wait_for(capsys, pattern):
    """Return what was said until a pattern is in it."""
    said, end = "", time.monotonic() + 20
    while not re.search(pattern, said):
        assert time.monotonic() < end, said
        time.sleep(0.005)
        said += capsys.readouterr().err
    return said


def test_a_line_comes_although_no_tile_is_finished(quick, capsys):
    with Reporter("log", "a.nii") as observe:
        observe(Progress(0, 1000))
        assert wait_for(capsys, "a.nii") == "a.nii: 0 % of 1000 voxels, 0.0 Mvoxel/s, time left not known yet\n"
        time.sleep(0.1)
        assert capsys.readouterr().err == ""


def test_rate_and_time_left_follow_from_what_this_run_did(monkeypatch, capsys):
    clock = iter([100.0, 100.0] + [110.0] * 9)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    observe = Reporter("log", "a.nii")
    observe(Progress(50_000_000, 200_000_000))
    observe(Progress(100_000_000, 200_000_000))
    assert capsys.readouterr().err.splitlines()[-1] == "a.nii: 50 % of 200000000 voxels, 5.0 Mvoxel/s, 20 s left"


def test_json_has_the_same(capsys):
    with Reporter("json", "a.nii") as observe:
        observe(Progress(0, 100))
        observe(Progress(100, 100))
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (last["done"], last["total"], last["seconds_left"]) == (100, 100, 0)
    assert last["rate"] > 0


def test_the_end_is_said_once(quick, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_SECONDS", 60)
    with Reporter("log", "a.nii") as observe:
        for done in range(0, 101, 50):
            observe(Progress(done, 100))
        time.sleep(0.1)
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["50", "100"]


def test_a_second_pass_is_counted_anew(capsys):
    with Reporter("log", "a.nii") as observe:
        for done in (0, 100, 0, 50, 100):
            observe(Progress(done, 100))
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["100", "50", "100"]


def test_a_bar_shows_the_time_while_nothing_happens(quick, capsys):
    with Reporter("bar", "a.nii") as observe:
        observe(Progress(0, 1000))
        shown = wait_for(capsys, r"a\.nii.*\r.*a\.nii")
    assert "0.00/1.00k" in shown


@pytest.mark.parametrize("kind", ("log", "bar", "json", "none"))
def test_an_error_ends_the_clock(kind):
    reporter = Reporter(kind, "a.nii")
    with pytest.raises(OSError, match="gone"), reporter as observe:
        observe(Progress(0, 10))
        raise OSError("gone")
    assert not reporter._clock.is_alive()
