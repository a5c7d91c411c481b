"""`--skip-existing`: whether what stands under an output's name is the finished output of this run."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from lucid_cli.formats import Spec
from lucid_cli.opening import opened
from lucid_cli.provenance import difference, kept_beside
from lucid_cli.volumes import Target
from lucid_core.errors import InputError, LimitError, OutputError


def check_finished(spec: Spec, target: Target, provenance: Callable[[], dict[str, Any] | None]) -> None:
    """Raise `OutputError` where what stands there is damaged, cut short, of another shape or type, or made otherwise.

    It is read to its end where its size does not tell; the values are not computed again. Only an output that holds its
    provenance tells what it was made from.
    """
    try:
        with ExitStack() as stack:
            source = opened(spec, stack)
            found = source.info.shape, source.info.dtype
            wanted = target.file_shape, target.dtype.name
            if found != wanted:
                raise InputError(f"it holds {_described(*found)}, and this run would write {_described(*wanted)}")
            kept = source.provenance or kept_beside(spec)
            made = provenance() if kept else None  # it hashes the input
            other = difference(kept, made) if kept and made else None
            if other is not None:
                raise InputError(f"it was made from {other}")
            source.verify()
    except (InputError, LimitError) as error:
        raise OutputError(
            f"{spec}: exists, but is no finished output of this run: {error}; remove it, or give --overwrite as well: "
            "what is finished is skipped all the same"
        ) from error


def _described(shape: tuple[int, ...], dtype: str) -> str:
    return f"{'x'.join(map(str, shape))} voxels of {dtype}"
