"""What reading and writing a file is said to take, to the byte: the promise of `--max-memory` is a sum of these."""

import itertools
import math
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_cli.boxes import convert, cut_box
from lucid_cli.formats import format_of, parse_spec
from lucid_cli.rawfile import WatchedFile, _runs
from lucid_cli.volumes import Reading, Target, Writing
from lucid_core.arguments import layer_arguments
from lucid_core.problem import conv_problem
from tests.cli.conftest import SIZE, make_volume, noise, npy_bytes

MIB = 1 << 20


def readings(path, roles):
    spec = parse_spec(path)
    with closing(format_of(spec).open_source(spec)) as source:
        return source.readings(roles)


def test_a_plain_file_is_read_by_planes_of_all_channels(folder):
    make_volume("a.npy", noise(3, 40, 64, 64))
    forward, as_asked = readings("a.npy", "czyx")
    assert forward == Reading(True, 4 * MIB, 3 * 64 * 64 * 4, 42)
    assert as_asked == Reading(False, 32 * MIB)


def test_planes_too_large_to_read_together_are_read_one_by_one(folder):
    make_volume("a.npy", noise(2, 1024, 1024))
    assert readings("a.npy", "zyx")[0].planes_at_once == 1


def test_an_array_whose_planes_do_not_follow_one_another_is_read_as_asked(folder):
    (folder / "a.npy").write_bytes(npy_bytes(np.asfortranarray(noise(*SIZE))))
    assert readings("a.npy", "zyx") == [Reading(False, 32 * MIB)]
    assert [one.forward for one in readings("a.npy", "xyz")] == [True, False]
    make_volume("b.npy", noise(*SIZE))
    assert [one.forward for one in readings("b.npy", "yzx")] == [False]


@pytest.mark.parametrize("suffix", (".nii.gz", ".nii.zst"))
def test_a_stream_is_read_forward_or_spooled(folder, suffix):
    make_volume(f"a{suffix}", noise(*SIZE).astype(np.int16))
    forward, as_asked = readings(f"a{suffix}", "xyz")
    assert forward == Reading(True, 4 * MIB, 6 * 7 * 2)
    assert as_asked == Reading(False, 32 * MIB, spool=5 * 6 * 7 * 2)


def test_a_stream_of_several_channels_is_spooled(folder):
    make_volume("a.nii.gz", noise(3, *SIZE).astype(np.int16))
    forward, as_asked = readings("a.nii.gz", "xyzc")
    size = 3 * 5 * 6 * 7 * 2
    assert forward == Reading(True, 4 * MIB, 3 * 6 * 7 * 2, 2 * MIB // (3 * 6 * 7 * 2), size)
    assert as_asked == Reading(False, 32 * MIB, spool=size)


def make_hdf5(**storage):
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("data", data=noise(2, 40, 60, 80), **storage)


def test_hdf5_is_read_by_rows_of_chunks(folder):
    make_hdf5(chunks=(1, 8, 16, 20))
    forward, as_asked = readings("a.h5", "czyx")
    child = 16 * MIB + 3 * 8 * 16 * 20 * 4
    assert forward == Reading(True, child + 4 * MIB, 2 * 60 * 80 * 4, 8)
    assert as_asked == Reading(False, child + 32 * MIB, grain=(8, 16, 20))


def test_hdf5_of_chunks_larger_than_what_is_read_at_once(folder):
    make_hdf5(chunks=(2, 40, 60, 80))
    chunk = 2 * 40 * 60 * 80 * 4
    with h5py.File("a.h5", "a") as file:
        file.create_dataset("b", shape=(40, 600, 80), dtype="f8", chunks=(20, 600, 80))
    forward, _ = readings("a.h5:b", "zyx")
    assert forward == Reading(True, 16 * MIB + 5 * 20 * 600 * 80 * 8, 600 * 80 * 8, 20)
    assert readings("a.h5:data", "czyx")[0].memory == 16 * MIB + 3 * chunk + 4 * MIB


def test_hdf5_without_chunks_is_read_by_planes(folder):
    make_hdf5()
    forward, as_asked = readings("a.h5", "czyx")
    assert forward == Reading(True, 20 * MIB + 3 * 4, 2 * 60 * 80 * 4, 2 * MIB // (2 * 60 * 80 * 4))
    assert as_asked == Reading(False, 48 * MIB + 3 * 4)


def target_of(axes="zyx", shape=(1, 1, 40, 60, 80), *, dtype="float32", tile=None, **options):
    problem = conv_problem(shape, layer_arguments(shape[1], shape[1], 1, groups=shape[1]))
    wanted = dict.fromkeys(("source", "spacing", "affine", "input_spacing", "compression", "chunks", "shuffle"))
    return Target(shape, axes, np.dtype(dtype), problem, tile=tile or shape[2:], **(wanted | options))


def writing(name, target):
    spec = parse_spec(name)
    return format_of(spec).writing(target, spec)


@pytest.mark.parametrize("name", ("a.nii", "a.img", "a.npy"))
def test_plain_files_are_written_in_place(name):
    assert writing(name, target_of("xyz")) == Writing(0, 2.0, 40 * 60 * 80 * 4, in_place=True)


@pytest.mark.parametrize("name", ("a.nii.gz", "a.nii.zst", "-"))
def test_streams_are_taken_for_a_quarter(name):
    size, planes = 40 * 60 * 80 * 4, 262144 // (60 * 80 * 4)
    expected = Writing(MIB, 2.0, size // 4, grain=(planes, 1, 1), waiting=5 * planes * 60 * 80)
    assert writing(name, target_of("xyz")) == expected
    pieces = Writing(MIB, 2.0, size // 4, spool=size, grain=(planes, 1, 1))
    assert writing(name, target_of("xyz", tile=(40, 60, 40))) == pieces
    assert writing(name, target_of("xyz", voxels=Path("kept"))) == pieces


def test_channels_behind_the_first_are_spooled_packed():
    size = 2 * 3 * 40 * 60 * 80 * 2
    found = writing("a.nii.gz", target_of("xyznc", (2, 3, 40, 60, 80), dtype="int16"))
    assert found == Writing(
        MIB, 2.0, size // 4, spool=size // 4 * 5 // 6, grain=(27, 1, 1), waiting=5 * 3 * 27 * 60 * 80 * 2 // 4
    )
    assert writing("a.nii.gz", target_of("xyzn", (2, 1, 40, 60, 80))).spool == 0


def test_hdf5_takes_memory_for_every_chunk():
    size = 40 * 60 * 80 * 4
    packed = writing("a.h5", target_of(compression="4"))
    chunk = 40 * 60 * 64 * 4
    assert packed == Writing(16 * MIB + 3 * chunk + 2 * 1600, 2.0, size // 4, grain=(40, 60, 64))
    assert writing("a.h5", target_of()) == Writing(16 * MIB + 3 * 4, 2.0, size)
    assert writing("a.h5", target_of(voxels=Path("kept"))).spool == size
    chunked = writing("a.h5", target_of(chunks=(16, 100, 32)))
    assert chunked.grain == (16, 60, 32)
    assert chunked.memory == 16 * MIB + 3 * 16 * 60 * 32 * 4 + 9 * 1600


@given(st.data())
def test_parts_of_a_box_are_all_of_it_and_small(data):
    rank = data.draw(st.integers(1, 5))
    box = tuple(
        slice(start := data.draw(st.integers(0, 9)), start + data.draw(st.integers(1, 12))) for _ in range(rank)
    )
    grain = tuple(data.draw(st.integers(1, 5)) for _ in range(rank))
    most = data.draw(st.integers(1, 500))
    parts = list(cut_box(box, grain, most))
    seen = np.zeros([one.stop for one in box], int)
    for part in parts:
        seen[part] += 1
        sizes = [one.stop - one.start for one in part]
        least = math.prod(min(unit, one.stop - one.start) for unit, one in zip(grain, box, strict=True))
        assert math.prod(sizes) <= max(most, least)
        for one, whole, unit in zip(part, box, grain, strict=True):
            assert one.start == whole.start or one.start % unit == 0
    assert (seen[box] == 1).all()
    assert parts == sorted(parts, key=lambda part: [one.start for one in part])


@pytest.mark.parametrize(
    ("most", "parts"),
    ((4 * 6 * 8, 1), (4 * 6 * 8 - 1, 2), (2 * 6 * 8, 2), (6 * 8, 4), (24, 8), (8, 24), (4, 48), (1, 192)),
)
def test_a_box_is_cut_no_more_than_it_must(most, parts):
    assert len(list(cut_box((slice(0, 4), slice(2, 8), slice(0, 8)), (1, 1, 1), most))) == parts


def test_scaling_is_in_float64():
    stored = np.arange(-3, 9, dtype=np.int16).reshape(1, 2, 2, 3)
    out = np.empty(stored.shape, np.float32)
    convert(stored, (0.1, 1e6), out)
    np.testing.assert_array_equal(out, (stored * 0.1 + 1e6).astype(np.float32))
    convert(stored, None, out)
    np.testing.assert_array_equal(out, stored)


def test_a_watched_file_keeps_its_first_error_and_lets_the_rest_pass(folder):
    with WatchedFile("a", "w+b") as file:
        assert (file.write(np.arange(3)), file.truncate(10), file.error) == (24, 10, None)
        file.check()
    with WatchedFile("/dev/full", "r+b") as file:
        assert (file.write(b"abcd"), file.write(b"ab"), file.truncate(7), file.truncate()) == (4, 2, 7, 0)
        with pytest.raises(OSError, match="No space left"):
            file.check()
    with WatchedFile("/dev/full", "r+b") as file:
        assert (file.truncate(7), file.write(b"ab")) == (7, 2)
        with pytest.raises(OSError, match="Invalid argument"):
            file.check()
    assert Path("a").stat().st_size == 10


@given(st.data())
def test_runs_are_the_values_of_a_box_in_order(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    box = tuple(slice(start := data.draw(st.integers(0, n - 1)), data.draw(st.integers(start + 1, n))) for n in shape)
    expected = np.arange(math.prod(shape)).reshape(shape)[box].ravel()
    runs = list(_runs(shape, box))
    np.testing.assert_array_equal(np.concatenate([np.arange(at, at + count) for at, count in runs]), expected)
    inner = math.prod(
        itertools.takewhile(lambda n: n, (n * (box[axis] == slice(0, n)) for axis, n in rank_down(shape)))
    )
    assert all(count % inner == 0 for _, count in runs)
    assert len(runs) == 1 or len(runs) <= math.prod(one.stop - one.start for one in box[:-1])


def rank_down(shape):
    return [(axis, shape[axis]) for axis in range(len(shape) - 1, 0, -1)]
