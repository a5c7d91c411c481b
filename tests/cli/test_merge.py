"""Job arrays: shards of a batch, each in a process of its own, and the reports joined to one."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import make_volume, noise, ok, run

KERNEL = ("--kernel", "box", "--size", "3vox", "-q")


@pytest.fixture
def names(folder):
    """Return the inputs of a batch, in order."""
    Path("in").mkdir()
    found = [f"in/{letter}.npy" for letter in "abcde"]
    for seed, name in enumerate(found):
        make_volume(name, noise(4, 5, 6, seed=seed))
    return found


def shards(count, *options):
    """Run every shard; return their reports' names and their exit codes."""
    reports = [f"shard {index}.json" for index in range(1, count + 1)]
    codes = [
        run("apply", "in", "--out-dir", "out", *KERNEL, "--shard", f"{index}/{count}", "--report", name, *options).code
        for index, name in enumerate(reports, start=1)
    ]
    return reports, codes


def stable(report):
    """Return a report without what differs from run to run."""
    changing = ("seconds", "peak_rss_bytes", "plan")
    items = [{key: value for key, value in item.items() if key not in changing} for item in report["items"]]
    return report | {"items": items}


@pytest.mark.parametrize("count", (1, 2, 3, 8))
def test_the_joined_report_is_that_of_one_run(names, count):
    reports, codes = shards(count)
    assert codes == [0] * count
    merged = json.loads(ok("merge", *reversed(reports), "-o", "-").out)
    alone = json.loads(ok("apply", "in", "--out-dir", "out", *KERNEL, "--overwrite", "--report", "-").out)
    assert stable(merged) == stable(alone)
    assert [item["input"]["path"] for item in merged["items"]] == names


def test_each_shard_takes_its_part_only(names):
    ok("apply", "in", "--out-dir", "out", *KERNEL, "--shard", "2/2")
    assert sorted(path.name for path in Path("out").iterdir()) == ["b_conv3d.npy", "d_conv3d.npy"]
    assert ok("apply", names[0], "--out-dir", "none", *KERNEL, "--shard", "2/2").err == ""
    assert not Path("none").exists()


def test_shards_into_the_folder_that_is_read_take_each_input_once(names):
    for index in (1, 2, 3):
        ok("apply", "in", "--out-dir", "in", *KERNEL, "--shard", f"{index}/3")
    wanted = sorted([*names, *(name.replace(".npy", "_conv3d.npy") for name in names)])
    assert sorted(f"in/{path.name}" for path in Path("in").iterdir()) == wanted


def test_a_failed_input_is_told_and_is_the_exit_code(names):
    Path("in/c.npy").write_bytes(b"bad")
    reports, codes = shards(2)
    assert codes == [7, 0]
    result = run("merge", *reports, "-o", "all.json")
    assert result.code == 7
    assert result.err.startswith("Error: in/c.npy: not a .npy file")
    assert json.loads(Path("all.json").read_text())["status"] == "failed"


def test_what_cannot_be_joined(names):
    reports, _ = shards(3)
    other = reports[:1]
    Path("plain.json").write_text("{}")
    ok("apply", "in", "--out-dir", "two", *KERNEL, "--shard", "1/2", "--report", "two.json")
    other_layer = ("--kernel", "identity", "-q", "--shard", "3/3", "--report", "other.json")
    ok("apply", "in", "--out-dir", "three", *other_layer)
    for args, words in (
        (reports[:1], "of 3 shards these are missing: 2, 3"),
        ((*reports, *other), "shard 1.json: is shard 1, as shard 1.json is; give each once"),
        ((*reports[1:], "two.json"), "two.json: is one of 2 shards, shard 2.json one of 3"),
        (("plain.json",), "plain.json: is no report of a shard"),
        ((*reports[:2], "other.json"), "other.json: is of another batch than shard 1.json"),
        (("absent.json",), "absent.json: no such file"),
    ):
        result = run("merge", *args, "-o", "all.json")
        assert (result.code, Path("all.json").exists()) == (3, False)
        assert words in result.err
    assert run("merge", *reports, "-o", reports[0], "--overwrite").code == 4


@pytest.mark.parametrize("text", ("0/2", "3/2", "1", "1/2/3", "a/b", "1/0"))
def test_a_shard_that_is_none(names, text):
    result = run("apply", "in", "--out-dir", "out", *KERNEL, "--shard", text)
    assert result.code == 2
    assert "is not one of n parts, such as 1/8 to 8/8" in result.err
