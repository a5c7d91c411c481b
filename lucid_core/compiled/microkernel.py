"""The micro-kernels: sums of many output voxels held in registers (LLVM, emitted through Numba).

`sweep` computes M output channels times R rows times V vectors at once, V vectors of voxels serving all of them. A
table of byte offsets says where each term of a sum reads, so one loop serves every kernel size, stride and dilation.

* R = 1: for each term it loads V vectors, spreads M weights, and does M * V fused multiply-adds.
* M = 1: R neighbouring rows of outputs read mostly the same rows of voxels. For each row of voxels the loaded vectors
  serve every output row that reads it: first one, then two, ... up to R, then fewer again.

(Register blocking: Goto and van de Geijn, ACM TOMS 2008; for convolutions: Georganas et al., SC 2018.)
"""

from typing import Any

from numba import types
from numba.extending import intrinsic

from lucid_core.compiled.emitter import BYTES, INT, Emitter
from lucid_core.compiled.jit import inner


def _channels(emit: Emitter, bases: list[Any], sums: list[Any], made: int, arguments: dict[str, Any]) -> list[Any]:
    """Add to the sums (M, V) of one row the terms of each plane of each channel."""
    builder, width = emit.builder, len(bases)

    def channel(index: Any, before: list[Any]) -> list[Any]:
        begin = builder.mul(index, arguments["channel_terms"])
        return emit.loop(
            arguments["planes"],
            before,
            lambda one, sums: plane(builder.add(begin, builder.mul(one, arguments["plane_terms"])), sums),
        )

    def plane(first: Any, before: list[Any]) -> list[Any]:
        offsets = builder.add(arguments["offsets"], builder.mul(first, INT(8)))
        weights = builder.add(arguments["weights"], builder.mul(first, INT(made * emit.itemsize)))

        def term(index: Any, before: list[Any]) -> list[Any]:
            offset = emit.integer(offsets, index)
            voxels = [emit.load(base, offset) for base in bases]
            at = builder.add(weights, builder.mul(index, INT(made * emit.itemsize)))
            after = []
            for channel in range(made):
                weight = emit.spread(builder.add(at, INT(channel * emit.itemsize)))
                totals = before[channel * width : (channel + 1) * width]
                after += [emit.fma(voxel, weight, total) for voxel, total in zip(voxels, totals, strict=True)]
            return after

        return emit.loop(arguments["terms"], before, term)

    return emit.loop(arguments["channels"], sums, channel)


def _rows(emit: Emitter, bases: list[Any], sums: list[Any], rows: int, arguments: dict[str, Any]) -> list[Any]:
    """Add all terms of `planes` to the sums (R, V) of neighbouring rows: over planes, rows of voxels, and K_W."""
    builder, width = emit.builder, len(bases)
    across, down = arguments["kernel_w"], arguments["kernel_h"]

    def voxel_row(row: Any, active: range, first: Any, before: list[Any]) -> list[Any]:
        """Add the products of one row of voxels to the `active` output rows; `first` is the plane's first term."""
        shift = builder.mul(row, arguments["pitch"])
        offsets = builder.add(arguments["offsets"], builder.mul(first, INT(8)))
        weights = []
        for out_row in active:
            term = builder.add(first, builder.mul(builder.sub(row, INT(out_row)), across))
            weights.append(builder.add(arguments["weights"], builder.mul(term, INT(emit.itemsize))))

        def tap(index: Any, before: list[Any]) -> list[Any]:
            offset = builder.add(emit.integer(offsets, index), shift)
            voxels = [emit.load(base, offset) for base in bases]
            after = list(before)
            for place in range(len(active)):
                weight = emit.spread(builder.add(weights[place], builder.mul(index, INT(emit.itemsize))))
                for column in range(width):
                    at = place * width + column
                    after[at] = emit.fma(voxels[column], weight, before[at])
            return after

        low, high = active.start * width, active.stop * width
        return before[:low] + emit.loop(across, before[low:high], tap) + before[high:]

    def plane(index: Any, before: list[Any]) -> list[Any]:
        first = builder.mul(index, arguments["plane_terms"])
        for row in range(rows - 1):
            before = voxel_row(INT(row), range(row + 1), first, before)
        middle = builder.sub(down, INT(rows - 1))
        before = emit.loop(
            middle, before, lambda row, sums: voxel_row(builder.add(row, INT(rows - 1)), range(rows), first, sums)
        )
        for row in range(rows - 1):
            before = voxel_row(builder.add(down, INT(row)), range(row + 1, rows), first, before)
        return before

    return emit.loop(arguments["planes"], sums, plane)


@intrinsic  # type: ignore[untyped-decorator]
def _tile(
    _: Any,
    number: Any,
    channels: Any,
    rows: Any,
    columns: Any,
    strip: Any,
    starts: Any,
    out: Any,
    targets: Any,
    channel_step: Any,
    row_step: Any,
    streamed: Any,
    offsets: Any,
    channels_read: Any,
    channel_terms: Any,
    planes: Any,
    plane_terms: Any,
    terms: Any,
    kernel_h: Any,
    kernel_w: Any,
    pitch: Any,
    weights: Any,
    bias: Any,
    signed: Any,
) -> Any:
    """Sum terms for M = len(channels), R = len(rows), V = len(columns), M or R being 1, and store the sums.

    Addresses: strip; starts (V,) byte offsets into it; out; targets (V,) byte offsets into it; offsets (terms,) in
    bytes; weights (terms, M); bias (M,). `channel_step` and `row_step` are the bytes from an output channel, and row,
    to the next, `pitch` those from a row of voxels to the next. Where `streamed`, all targets are whole cache lines.

    With R = 1, these terms are summed: `terms` of each of `planes`, which are `plane_terms` apart, of each of
    `channels_read`, which are `channel_terms` apart; and where not `signed`, a zero is stored as +0. With more rows
    all K_H K_W terms of `planes`.
    """
    signature = types.void(
        number,
        channels,
        rows,
        columns,
        *(
            strip,
            starts,
            out,
            targets,
            channel_step,
            row_step,
            streamed,
            offsets,
            channels_read,
            channel_terms,
            planes,
            plane_terms,
            terms,
            kernel_h,
            kernel_w,
            pitch,
            weights,
            bias,
            signed,
        ),
    )
    made, height, width = len(channels), len(rows), len(columns)

    def codegen(context: Any, builder: Any, _: Any, values: Any) -> Any:
        names = "offsets channels channel_terms planes plane_terms terms kernel_h kernel_w pitch weights bias signed"
        strip, starts, out, targets, channel_step, row_step, streamed = values[4:11]
        arguments = dict(zip(names.split(), values[11:], strict=True))
        emit = Emitter(builder, number)
        bases = [
            builder.inttoptr(builder.add(strip, emit.integer(starts, INT(column))), BYTES) for column in range(width)
        ]
        first = [
            emit.spread(builder.add(arguments["bias"], INT(channel * emit.itemsize)))
            for channel in range(made)
            for _ in range(height * width)
        ]
        if height == 1:
            sums = _channels(emit, bases, first, made, arguments)
            zero = emit.zero()
            sums = emit.either(arguments["signed"], sums, lambda: [emit.add(total, zero) for total in sums])
        else:
            sums = _rows(emit, bases, first, height, arguments)
        with builder.if_else(streamed) as (past_the_caches, into_the_caches):
            for path, past in ((past_the_caches, True), (into_the_caches, False)):
                with path:
                    for column in range(width):
                        target = builder.add(out, emit.integer(targets, INT(column)))
                        for at in range(made * height):
                            step = builder.mul(channel_step if height == 1 else row_step, INT(at))
                            emit.store(sums[at * width + column], builder.add(target, step), past)
        return context.get_dummy_value()

    return signature, codegen


@inner
def sweep(
    number: Any,
    channels: Any,
    rows: Any,
    columns: Any,
    strip: Any,
    starts: Any,
    count: Any,
    out: Any,
    targets: Any,
    steps: Any,
    streamed: Any,
    offsets: Any,
    kernel: Any,
    pitch: Any,
    weights: Any,
    bias: Any,
    signed: Any,
) -> None:
    """Compute `count` vectors (a multiple of V) of M channels and R rows.

    As `_tile`, with `steps` (channel_step, row_step) and `kernel` from `channels_read` to `kernel_w`.
    """
    for first in range(0, count, len(columns)):
        _tile(
            number,
            channels,
            rows,
            columns,
            strip,
            starts + 8 * first,
            out,
            targets + 8 * first,
            steps[0],
            steps[1],
            streamed,
            offsets,
            kernel[0],
            kernel[1],
            kernel[2],
            kernel[3],
            kernel[4],
            kernel[5],
            kernel[6],
            pitch,
            weights,
            bias,
            signed,
        )
