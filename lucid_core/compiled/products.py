"""The micro-kernels of the weight's gradient: sums of products over a panel, held in registers (LLVM, through Numba).

A panel is some rows of outputs of one plane. For M vectors of the gradient and T terms (channel, K_D, K_H, K_W) of the
voxels, M * T vectors of sums stay in registers over the whole panel; at its end they are added in float64.

* Along voxels: a vector lies along a row of outputs, M are output channels, and a term is a vector of voxels. The
  last vector of a row overlaps the one before it, and counts what is new. At the end the lanes are added.
* Along channels: a vector holds output channels of one output, packed side by side, and a term is one voxel, spread.

A table of byte offsets says where each term reads, so one loop serves every kernel size, stride and dilation.
"""

from typing import Any

from numba import types
from numba.extending import intrinsic

from lucid_core.compiled.emitter import BYTES, INT, Emitter

IN_REGISTERS = 12
"""Offsets that are kept from output to output. LLVM would make as many pointers of more, and move each in memory."""
NAMES = "grad grad_step grad_row voxels voxel_row voxel_along rows width offsets sums"


class _Panel:
    """Emits the loops over a panel."""

    def __init__(self, emit: Emitter, made: int, terms: int, arguments: dict[str, Any], *, channels: bool) -> None:
        self.emit, self.made, self.terms, self.channels = emit, made, terms, channels
        self.arguments = arguments
        self.offsets = [] if terms > IN_REGISTERS else [self._offset(term) for term in range(terms)]

    def run(self) -> None:
        """Sum over all rows, and add the sums to those in memory."""
        emit = self.emit
        sums = emit.loop(self.arguments["rows"], [emit.zero()] * (self.made * self.terms), self._row)
        for place, total in enumerate(sums if self.channels else emit.lane_sums(sums)):
            emit.accumulate(total, self.arguments["sums"], place)

    def _row(self, index: Any, before: list[Any]) -> list[Any]:
        builder, emit = self.emit.builder, self.emit
        grad = builder.add(self.arguments["grad"], builder.mul(index, self.arguments["grad_row"]))
        voxels = builder.add(self.arguments["voxels"], builder.mul(index, self.arguments["voxel_row"]))
        width = self.arguments["width"]

        def step(at: Any, before: list[Any]) -> list[Any]:
            along = self.made if self.channels else 1
            values = builder.add(grad, builder.mul(at, INT(along * emit.lanes * emit.itemsize)))
            return self._add(values, builder.add(voxels, builder.mul(at, self.arguments["voxel_along"])), before)

        if self.channels:
            return emit.loop(width, before, step)
        sums = emit.loop(builder.sdiv(width, INT(emit.lanes)), before, step)
        rest = builder.srem(width, INT(emit.lanes))
        last = builder.mul(builder.sub(width, INT(emit.lanes)), INT(emit.itemsize))
        return emit.either(
            builder.icmp_signed("==", rest, INT(0)),
            sums,
            lambda: self._add(builder.add(grad, last), builder.add(voxels, last), sums, emit.last(rest)),
        )

    def _add(self, grad: Any, voxels: Any, before: list[Any], counted: Any = None) -> list[Any]:
        """Add the products of one vector of outputs, of those lanes that are `counted`."""
        builder, emit = self.emit.builder, self.emit
        step = INT(emit.lanes * emit.itemsize) if self.channels else self.arguments["grad_step"]
        values = [self._vector(builder.add(grad, builder.mul(INT(at), step)), counted) for at in range(self.made)]
        after = []
        for term in range(self.terms):
            at = builder.add(voxels, self.offsets[term] if self.offsets else self._offset(term))
            seen = emit.spread(at) if self.channels else self._vector(at, counted)
            totals = before[term * self.made : (term + 1) * self.made]
            after += [emit.fma(value, seen, total) for value, total in zip(values, totals, strict=True)]
        return after

    def _offset(self, term: int) -> Any:
        return self.emit.integer(self.arguments["offsets"], INT(term), every_time=self.terms > IN_REGISTERS)

    def _vector(self, address: Any, counted: Any) -> Any:
        value = self.emit.load(self.emit.builder.inttoptr(address, BYTES), INT(0))
        return value if counted is None else self.emit.builder.select(counted, value, self.emit.zero())


def _intrinsic(number: Any, made: Any, terms: Any, integers: tuple[Any, ...], *, channels: bool) -> Any:
    """Return the signature and the code of a micro-kernel for M = len(made), T = len(terms)."""

    def codegen(context: Any, builder: Any, _: Any, values: Any) -> Any:
        arguments = dict(zip(NAMES.split(), values[3:], strict=True))
        _Panel(Emitter(builder, number), len(made), len(terms), arguments, channels=channels).run()
        return context.get_dummy_value()

    return types.void(number, made, terms, *integers), codegen


@intrinsic  # type: ignore[untyped-decorator]
def along_voxels(
    _: Any,
    number: Any,
    made: Any,
    terms: Any,
    grad: Any,
    grad_step: Any,
    grad_row: Any,
    voxels: Any,
    voxel_row: Any,
    voxel_along: Any,
    rows: Any,
    width: Any,
    offsets: Any,
    sums: Any,
) -> Any:
    """Add to `sums` (T, M), float64 and as many more as fill a vector, those of `rows` rows of `width` outputs.

    Addresses: grad, of the first of M channels `grad_step` bytes apart, rows `grad_row` apart; voxels, rows
    `voxel_row` apart and vectors `voxel_along`; offsets (T,) in bytes; sums. A row has at least one vector of outputs.
    """
    integers = (grad, grad_step, grad_row, voxels, voxel_row, voxel_along, rows, width, offsets, sums)
    return _intrinsic(number, made, terms, integers, channels=False)


@intrinsic  # type: ignore[untyped-decorator]
def along_channels(
    _: Any,
    number: Any,
    made: Any,
    terms: Any,
    grad: Any,
    grad_step: Any,
    grad_row: Any,
    voxels: Any,
    voxel_row: Any,
    voxel_along: Any,
    rows: Any,
    width: Any,
    offsets: Any,
    sums: Any,
) -> Any:
    """Add to `sums` (T, M vectors), float64, those of `rows` rows of `width` outputs.

    As `along_voxels`, but the M vectors of an output's channels follow one another in `grad` (so `grad_step` is not
    used), then those of the next output; and `voxel_along` is the bytes from an output's voxel to that of the next.
    """
    integers = (grad, grad_step, grad_row, voxels, voxel_row, voxel_along, rows, width, offsets, sums)
    return _intrinsic(number, made, terms, integers, channels=True)


@intrinsic  # type: ignore[untyped-decorator]
def total(_: Any, number: Any, address: Any, vectors: Any) -> Any:
    """Return the sum, in float64, of the numbers of `vectors` vectors at an address, at least one."""

    def codegen(context: Any, builder: Any, _: Any, values: Any) -> Any:
        emit = Emitter(builder, number)
        pointer = builder.inttoptr(values[1], BYTES)
        step = INT(emit.lanes * emit.itemsize)
        zero = emit.wide(emit.zero())
        (sums,) = emit.loop(
            values[2],
            [zero],
            lambda at, before: [emit.add(before[0], emit.wide(emit.load(pointer, builder.mul(at, step))))],
        )
        found = builder.extract_element(sums, INT(0))
        for lane in range(1, emit.lanes):
            found = builder.fadd(found, builder.extract_element(sums, INT(lane)))
        return found

    return types.float64(number, address, vectors), codegen
