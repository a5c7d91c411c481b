"""Padded blocks: every region of a padded volume is what padding the whole volume gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_core.boundary import Window, axis_pieces, fill, planes_read, voxels_read
from lucid_core.errors import ArgumentError, ArgumentTypeError
from lucid_core.padding import PADDING_MODES, pad_fits, padding_mode, source_index
from lucid_core.regions import Region
from lucid_core.scratch import Scratch
from tests.reference import voxel

modes = st.sampled_from(list(PADDING_MODES))


@st.composite
def axes(draw):
    """Draw a mode and, per axis, a size, a pad that fits and an interval of the padded axis."""
    mode = draw(modes)
    sizes, starts, stops = [], [], []
    for _ in range(3):
        size = draw(st.integers(1, 6))
        pad = draw(st.integers(0, {"reflect": size - 1, "circular": size, "symmetric": size}.get(mode, 7)))
        start = draw(st.integers(-pad, size + pad - 1))
        sizes.append(size)
        starts.append(start)
        stops.append(draw(st.integers(start + 1, size + pad)))
    return mode, tuple(sizes), Region(tuple(starts), tuple(stops))


@given(axes())
def test_a_block_is_a_part_of_the_padded_volume(drawn):
    mode, size, region = drawn
    x = np.random.default_rng(0).normal(size=(2, *size))
    pads = [(max(0, -start), max(0, stop - n)) for start, stop, n in zip(region.start, region.stop, size, strict=True)]
    padded = np.pad(x, [(0, 0), *pads], mode=PADDING_MODES[mode].numpy)
    starts = [start + low for start, (low, _) in zip(region.start, pads, strict=True)]
    taken = tuple(slice(start, start + count) for start, count in zip(starts, region.shape, strict=True))
    seen = []

    def read(part, out):
        assert all(0 <= start < stop <= n for start, stop, n in zip(part.start, part.stop, size, strict=True))
        seen.append(part)
        out[...] = x[(slice(None), *part.slices)]

    block = np.full((2, *region.shape), np.nan)
    fill(block, region, size, mode, read)
    np.testing.assert_array_equal(block, padded[(slice(None), *taken)])
    first, stop = planes_read(region, size, mode)
    planes = {plane for part in seen for plane in range(part.start[0], part.stop[0])}
    if seen:
        assert (first, stop) == (min(planes), max(planes) + 1)
    assert sum(part.voxels for part in seen) <= np.prod(size), "no voxel is read twice"


@given(axes(), axes())
def test_the_box_that_is_read_has_every_voxel_of_a_region_at_its_place(drawn, other):
    """As a stack reads: one box for several regions, each a window on it alone."""
    mode, size, region = drawn
    box = voxels_read(region, size, mode)
    assert all(0 <= start < stop <= n for start, stop, n in zip(box.start, box.stop, size, strict=True))
    x = np.random.default_rng(0).normal(size=(2, *size))
    starts = [low + seed % (high - low) for low, high, seed in zip(region.start, region.stop, other[1], strict=True)]
    part = Region(tuple(starts), region.stop)
    wanted = Window(x, part, mode).block(Scratch())
    ends = [
        tuple(place - first for place, first in zip(end, box.start, strict=True)) for end in (part.start, part.stop)
    ]
    found = Window(x[(slice(None), *box.slices)], Region(*ends), mode).block(Scratch())
    np.testing.assert_array_equal(found, wanted)


def test_a_region_of_padding_only_reads_nothing_and_is_zero():
    block = np.full((1, 2, 2, 2), np.nan)
    fill(block, Region((-2, 0, 0), (0, 2, 2)), (3, 3, 3), "zeros", lambda part, out: pytest.fail("read"))
    assert not block.any()
    assert planes_read(Region((-2, 0, 0), (0, 2, 2)), (3, 3, 3), "zeros") == (0, 0)


def test_an_interior_region_is_one_read():
    pieces = axis_pieces(2, 7, 9, "reflect")
    assert [(run.start, run.stop, run.reverse) for run in pieces.runs] == [(2, 7, False)]
    assert not pieces.copies
    assert not pieces.zeros


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("size", (1, 2, 5))
def test_the_voxel_at_every_position(mode, size):
    widest = {"reflect": size - 1, "circular": size, "symmetric": size}.get(mode, 9)
    for position in range(-widest, size + widest):
        assert source_index(position, size, mode) == voxel(position, size, mode)


@pytest.mark.parametrize(
    ("mode", "pad", "fits"),
    (
        ("reflect", 4, True),
        ("reflect", 5, False),
        ("circular", 5, True),
        ("circular", 6, False),
        ("symmetric", 5, True),
        ("symmetric", 6, False),
        ("zeros", 99, True),
        ("replicate", 99, True),
    ),
)
def test_the_widest_pad_of_an_axis_of_five(mode, pad, fits):
    assert pad_fits(mode, pad, 5) is fits


@pytest.mark.parametrize("name", PADDING_MODES)
def test_a_name_of_another_library_names_the_mode_meant(name):
    mode = PADDING_MODES[name]
    assert padding_mode(name) == name == mode.name
    for other in {mode.numpy, mode.scipy, mode.scipy_grid, mode.torch, mode.name} - {""} - set(PADDING_MODES):
        with pytest.raises(
            ArgumentError, match=f"padding_mode {other!r} is called {name!r} here; legal: zeros, reflect"
        ):
            padding_mode(other)


@pytest.mark.parametrize("name", (None, 3, ["zeros"]))
def test_what_is_no_name(name):
    with pytest.raises(ArgumentTypeError, match=r"padding_mode must be a name, not .*; legal: zeros, reflect"):
        padding_mode(name)


def test_no_name_is_no_name():
    with pytest.raises(ArgumentError, match="unknown padding_mode ''"):
        padding_mode("")


def test_an_unknown_name():
    with pytest.raises(ArgumentError, match=r"unknown padding_mode 'replicated'; legal: .*Did you mean 'replicate'"):
        padding_mode("replicated")
