"""Tiles and the loop over them: every output voxel once, planes kept as long as needed, errors and events passed on."""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_core.arguments import layer_arguments
from lucid_core.compute import Filters
from lucid_core.cutting import window_planes
from lucid_core.events import Progress
from lucid_core.execute import execute
from lucid_core.planner import plan
from lucid_core.problem import conv_problem
from lucid_core.tiling import tiles
from lucid_core.volume import ArrayReader, ArrayWriter
from tests.reference import voxel


@st.composite
def plans(draw):
    """Draw a plan with any tile."""
    kernel_size, stride = (draw(st.tuples(*[st.integers(1, high)] * 3)) for high in (3, 4))
    layer = layer_arguments(
        1,
        2,
        kernel_size,
        stride,
        draw(st.tuples(*[st.integers(0, 2)] * 3)),
        draw(st.integers(1, 2)),
        1,
        draw(st.sampled_from(("zeros", "reflect", "replicate", "circular", "symmetric"))),
    )
    shape = (draw(st.integers(0, 2)), 1, draw(st.integers(5, 14)), *draw(st.tuples(*[st.integers(5, 8)] * 2)))
    problem = conv_problem(shape, layer)
    tile = draw(st.tuples(*[st.integers(1, 6)] * 3))
    return plan(
        problem, tile=tile, threads=draw(st.integers(1, 3)), algorithm=draw(st.sampled_from(("direct", "gemm")))
    )


def planes(problem, source):
    """Return the D planes of the volume that a block is filled from."""
    positions = range(source.start[0], source.stop[0])
    return {voxel(position, problem.size[0], problem.padding_mode) for position in positions} - {None}


@given(plans())
def test_tiles_cover_the_output_exactly_once(chosen):
    problem = chosen.problem
    count = np.zeros((problem.batch, *problem.out_size), int)
    listed = list(tiles(chosen))
    for tile in listed:
        count[(tile.batch, *tile.out.slices)] += 1
        assert all(size <= most for size, most in zip(tile.out.shape, chosen.tile, strict=True))
        assert tile.source == problem.input_region(tile.out)
    assert (count == 1).all()
    assert len(listed) == chosen.tiles
    assert [(tile.batch, *tile.out.start) for tile in listed] == sorted(
        (tile.batch, *tile.out.start) for tile in listed
    )


@given(plans())
def test_keep_is_the_lowest_plane_still_to_be_read(chosen):
    problem = chosen.problem
    volume = [tile for tile in tiles(chosen) if tile.batch == 0]
    read = [planes(problem, tile.source) for tile in volume]
    most = 0
    for number, tile in enumerate(volume):
        assert tile.keep == min(set().union(*read[number:]), default=problem.size[0])
        top = max(set().union(*read[: number + 1]), default=-1) + 1
        most = max(most, top - tile.keep)
    assert not volume or window_planes(chosen.problem, chosen.tile[0]) == most


class FileReader(ArrayReader):
    """A reader whose voxels are read region by region, as those of a file."""

    def view(self, batch, dtype):
        return None


class StreamReader(FileReader):
    """A reader that holds only planes between those it was told to forget and the highest it came to."""

    random_access = False

    def __init__(self, array):
        super().__init__(array)
        self.reading = threading.Lock()
        self.at = (0, 0)
        self.top = 0
        self.held = 0

    def read(self, batch, region, out):
        assert self.reading.acquire(blocking=False), "two threads read at once"
        assert batch == self.at[0]
        assert region.start[0] >= self.at[1]
        self.top = max(self.top, region.stop[0])
        self.held = max(self.held, self.top - self.at[1])
        super().read(batch, region, out)
        self.reading.release()

    def forget(self, batch, plane):
        assert (batch, plane) >= self.at
        self.top = self.top if batch == self.at[0] else 0
        self.at = (batch, plane)


def data(chosen):
    rng = np.random.default_rng(0)
    problem = chosen.problem
    weight = rng.normal(size=(problem.out_channels, problem.in_channels, *problem.kernel_size)).astype(np.float32)
    return rng.normal(size=problem.in_shape).astype(np.float32), weight


def whole(chosen, x, weight):
    """Return the result of one tile and one thread."""
    single = plan(chosen.problem, tile=chosen.problem.out_size, threads=1, algorithm=chosen.algorithm)
    out = np.empty(chosen.problem.out_shape, np.float32)
    execute(single, [Filters(weight)], ArrayReader(x), ArrayWriter(out))
    return out


@given(plans())
def test_a_stream_is_read_once_forward_within_its_window(chosen):
    x, weight = data(chosen)
    out, reader = np.empty(chosen.problem.out_shape, np.float32), StreamReader(x)
    execute(chosen, [Filters(weight)], reader, ArrayWriter(out))
    assert out.tobytes() == whole(chosen, x, weight).tobytes()
    assert reader.held <= window_planes(chosen.problem, chosen.tile[0])


class OrderedWriter:
    """A writer without memory to compute in: it notes its tiles and keeps copies of the blocks."""

    def __init__(self, shape):
        self.array = np.full(shape, np.nan, np.float32)
        self.order = []

    def view(self, batch, region):
        return None

    def encode(self, batch, region, block):
        return region.start, block.copy()

    def write(self, batch, region, encoded):
        start, block = encoded
        assert start == region.start
        self.order.append((batch, region))
        self.array[(batch, slice(None), *region.slices)] = block


@given(plans())
def test_blocks_are_written_in_the_order_of_the_tiles(chosen):
    x, weight = data(chosen)
    writer = OrderedWriter(chosen.problem.out_shape)
    execute(chosen, [Filters(weight)], ArrayReader(x), writer)
    assert writer.order == [(tile.batch, tile.out) for tile in tiles(chosen)]
    assert writer.array.tobytes() == whole(chosen, x, weight).tobytes()


PLAN = plan(conv_problem((2, 1, 8, 6, 6), layer_arguments(1, 2, 3)), tile=(2, 4, 4), threads=1)


@pytest.mark.parametrize("threads", (1, 3))
def test_events_tell_of_every_voxel(threads):
    chosen = plan(PLAN.problem, tile=PLAN.tile, threads=threads)
    x, weight = data(chosen)
    events = []
    execute(chosen, [Filters(weight)], ArrayReader(x), ArrayWriter(np.empty(PLAN.problem.out_shape)), events.append)
    total = 2 * 2 * 6 * 4 * 4
    assert events == [Progress(done, total) for done in itertools.accumulate([0] + [total // 6] * 6)]


def test_tiles_that_are_finished_are_left_out():
    x, weight = data(PLAN)
    writer, events = OrderedWriter(PLAN.problem.out_shape), []
    execute(PLAN, [Filters(weight)], ArrayReader(x), writer, events.append, finished=4)
    assert writer.order == [(tile.batch, tile.out) for tile in tiles(PLAN)][4:]
    assert [event.done for event in events] == [events[0].total * count // 6 for count in range(4, 7)]


class BrokenReader(FileReader):
    """A reader that fails once, for the second of six tiles."""

    def read(self, batch, region, out):
        if (batch, region.start) == (0, (2, 0, 0)):
            raise OSError("the disk is gone")
        super().read(batch, region, out)


@pytest.mark.parametrize("threads", (1, 2))
def test_an_error_of_a_worker_ends_the_run(threads):
    chosen = plan(PLAN.problem, tile=PLAN.tile, threads=threads)
    x, weight = data(chosen)
    writer = OrderedWriter(PLAN.problem.out_shape)
    before = threading.active_count()
    with pytest.raises(OSError, match="the disk is gone"):
        execute(chosen, [Filters(weight)], BrokenReader(x), writer)
    assert len(writer.order) == 1 or (threads > 1 and not writer.order)  # the first tile may still be in work
    assert threading.active_count() == before


class BatchedReader(FileReader):
    """A reader that sees that the volumes in work are written before the next one is begun."""

    def __init__(self, array, writer, batch_size, tiles_per_volume):
        super().__init__(array)
        self.expected = lambda batch: max(0, batch - batch_size + 1) * tiles_per_volume
        self.writer = writer

    def read(self, batch, region, out):
        assert len(self.writer.order) >= self.expected(batch)
        super().read(batch, region, out)


@pytest.mark.parametrize("batch_size", (1, 2, 5))
@pytest.mark.parametrize("threads", (1, 3))
def test_the_batch_size_bounds_the_volumes_in_work(batch_size, threads):
    problem = conv_problem((5, 1, 6, 6, 6), layer_arguments(1, 2, 3))
    chosen = plan(problem, tile=(4, 4, 2), threads=threads, batch_size=batch_size)
    x, weight = data(chosen)
    writer = OrderedWriter(problem.out_shape)
    execute(chosen, [Filters(weight)], BatchedReader(x, writer, batch_size, 2), writer)
    assert writer.array.tobytes() == whole(chosen, x, weight).tobytes()


def test_an_error_of_the_observer_ends_the_run():
    x, weight = data(PLAN)

    def observe(event):
        if event.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(
            plan(PLAN.problem, tile=PLAN.tile, threads=2),
            [Filters(weight)],
            ArrayReader(x),
            OrderedWriter(PLAN.problem.out_shape),
            observe,
        )
