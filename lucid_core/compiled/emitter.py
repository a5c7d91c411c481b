"""Vector instructions of LLVM, emitted through Numba."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from lucid_core.compiled.strips import lanes

INT = ir.IntType(64)
BYTES = ir.IntType(8).as_pointer()
_FLOATS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


class Emitter:
    """Emits vector instructions of one float type."""

    def __init__(self, builder: Any, number: Any) -> None:
        self.builder = builder
        self.scalar = _FLOATS[number]
        self.itemsize = number.bitwidth // 8
        self.lanes = lanes(self.itemsize)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        name = f"llvm.fma.v{self.lanes}f{number.bitwidth}"
        self._fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(self.vector, [self.vector] * 3), name
        )

    def integer(self, address: Any, index: Any, *, every_time: bool = False) -> Any:
        """Load entry `index` of a table of integers; `every_time`, where LLVM may not do so ahead of a loop."""
        at = self.builder.gep(self.builder.inttoptr(address, INT.as_pointer()), [index])
        return self.builder.load_atomic(at, "monotonic", 8) if every_time else self.builder.load(at)

    def spread(self, address: Any) -> Any:
        """Load a number into every lane."""
        value = self.builder.load(self.builder.inttoptr(address, self.scalar.as_pointer()))
        nothing = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, nothing, zeros)

    def load(self, pointer: Any, offset: Any) -> Any:
        """Load a vector `offset` bytes from a pointer."""
        at = self.builder.bitcast(self.builder.gep(pointer, [offset]), self.vector.as_pointer())
        value = self.builder.load(at)
        value.align = self.itemsize
        return value

    def store(self, value: Any, address: Any, past_the_caches: bool = False) -> None:
        """Store a vector; past the caches, to an address that is a multiple of its size."""
        stored = self.builder.store(value, self.builder.inttoptr(address, self.vector.as_pointer()))
        stored.align = self.lanes * self.itemsize if past_the_caches else self.itemsize
        if past_the_caches:
            one = self.builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
            stored.set_metadata("nontemporal", one)

    def alternate(self, low: Any, high: Any, first: int) -> Any:
        """Return every second lane, from `first` on, of two vectors that follow one another."""
        return self._shuffle(low, high, list(range(first, 2 * self.lanes, 2)))

    def interleave(self, even: Any, odd: Any) -> tuple[Any, Any]:
        """Return two vectors that follow one another, with the lanes of two in turn."""
        places = [place for lane in range(self.lanes) for place in (lane, self.lanes + lane)]
        return self._shuffle(even, odd, places[: self.lanes]), self._shuffle(even, odd, places[self.lanes :])

    def _shuffle(self, first: Any, second: Any, places: list[int]) -> Any:
        return self.builder.shuffle_vector(
            first, second, ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), places)
        )

    def add(self, a: Any, b: Any) -> Any:
        """a + b."""
        return self.builder.fadd(a, b)

    def subtract(self, a: Any, b: Any) -> Any:
        """a - b."""
        return self.builder.fsub(a, b)

    def zero(self) -> Any:
        """+0 in every lane."""
        return ir.Constant(self.vector, [0.0] * self.lanes)

    def either(self, condition: Any, values: list[Any], otherwise: Any) -> list[Any]:
        """Return the values where the condition holds, else those that `otherwise()` returns."""
        builder, entry = self.builder, self.builder.block
        other, done = builder.append_basic_block("other"), builder.append_basic_block("either")
        builder.cbranch(condition, done, other)
        builder.position_at_end(other)
        others = otherwise()
        last = builder.block
        builder.branch(done)
        builder.position_at_end(done)
        found = [builder.phi(self.vector) for _ in values]
        for phi, value, replaced in zip(found, values, others, strict=True):
            phi.add_incoming(value, entry)
            phi.add_incoming(replaced, last)
        return found

    def last(self, count: Any) -> Any:
        """Return a mask of the last `count` lanes."""
        small = ir.IntType(32)
        numbers = ir.Constant(ir.VectorType(small, self.lanes), list(range(self.lanes)))
        first = self.builder.trunc(self.builder.sub(INT(self.lanes), count), small)
        start = self.builder.insert_element(
            ir.Constant(ir.VectorType(small, self.lanes), ir.Undefined), first, small(0)
        )
        zeros = ir.Constant(ir.VectorType(small, self.lanes), [0] * self.lanes)
        return self.builder.icmp_signed(">=", numbers, self.builder.shuffle_vector(start, start, zeros))

    def lane_sums(self, vectors: list[Any]) -> list[Any]:
        """Return the sums of the lanes of each vector, in vectors; zeros fill the last one."""
        found = [*vectors, *[self.zero()] * (-len(vectors) % self.lanes)]
        for _ in range(self.lanes.bit_length() - 1):
            pairs = zip(found[::2], found[1::2], strict=True)
            found = [self.add(self.alternate(a, b, 0), self.alternate(a, b, 1)) for a, b in pairs]
        return found

    def wide(self, value: Any) -> Any:
        """Return a vector as one of float64."""
        return value if self.itemsize == 8 else self.builder.fpext(value, ir.VectorType(ir.DoubleType(), self.lanes))

    def accumulate(self, value: Any, address: Any, place: int) -> None:
        """Add a vector to the `place`-th vector of float64 at an address."""
        wide = self.wide(value)
        at = self.builder.add(address, INT(place * self.lanes * 8))
        pointer = self.builder.inttoptr(at, wide.type.as_pointer())
        before = self.builder.load(pointer)
        stored = self.builder.store(self.builder.fadd(before, wide), pointer)
        before.align = stored.align = 8

    def prefetch(self, address: Any) -> None:
        """Ask for the cache line of an address, to be read once from the second level."""
        small = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(ir.VoidType(), [BYTES, small, small, small]), "llvm.prefetch.p0"
        )
        self.builder.call(function, [self.builder.inttoptr(address, BYTES), small(0), small(2), small(1)])

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c in one rounding."""
        return self.builder.call(self._fma, [a, b, c])

    def loop(self, count: Any, sums: list[Any], body: Any) -> list[Any]:
        """Repeat `body(index, sums) -> sums` at least once, `count` times, and return the last sums."""
        builder, entry = self.builder, self.builder.block
        inside, done = builder.append_basic_block("inside"), builder.append_basic_block("done")
        builder.branch(inside)
        builder.position_at_end(inside)
        index = builder.phi(INT)
        before = [builder.phi(total.type) for total in sums]
        after = body(index, before)
        following = builder.add(index, INT(1))
        last = builder.block
        for phi, first, later in zip([index, *before], [INT(0), *sums], [following, *after], strict=True):
            phi.add_incoming(first, entry)
            phi.add_incoming(later, last)
        again = builder.cbranch(builder.icmp_signed("<", following, count), inside, done)
        again.set_metadata("llvm.loop", _as_it_stands(builder.module))
        builder.position_at_end(done)
        return list(after)

    def vectors(self, count: Any, body: Any) -> None:
        """Call `body(at)` for the first lane of each vector of `count` numbers, at least one; the last overlaps."""
        last = self.builder.sub(count, INT(self.lanes))
        whole = self.builder.sdiv(self.builder.add(count, INT(self.lanes - 1)), INT(self.lanes))

        def step(index: Any, _: list[Any]) -> list[Any]:
            at = self.builder.mul(index, INT(self.lanes))
            body(self.builder.select(self.builder.icmp_signed("<", at, last), at, last))
            return []

        self.loop(whole, [], step)

    def at(self, pointer: Any, place: Any) -> Any:
        """Load the vector that begins at a number's place."""
        return self.load(pointer, self.builder.mul(place, INT(self.itemsize)))


def _as_it_stands(module: Any) -> Any:
    """Return the mark of a loop that is not to be unrolled: its sums fill the registers already."""
    disabled = module.add_metadata(["llvm.loop.unroll.disable"])
    mark = ir.values.MDValue(module, (), name=str(len(module.metadata)))
    mark.operands = (mark, disabled)
    return mark
