"""`--skip-existing`: whether what stands under an output's name is the finished output of this run."""

from contextlib import closing

from lucid_cli.formats import Spec, format_of
from lucid_cli.output import check_input
from lucid_cli.volumes import Source, Target
from lucid_core.errors import InputError, LimitError, OutputError


def check_finished(spec: Spec, target: Target) -> None:
    """Raise `OutputError` where what stands there is damaged, cut short, or of another shape or type.

    It is read to its end where its size does not tell; the values are not computed again.
    """
    try:
        check_input(spec.path)
        source: Source = format_of(spec).open_source(spec)
        with closing(source):
            found = source.info.shape, source.info.dtype
            wanted = target.file_shape, target.dtype.name
            if found != wanted:
                raise InputError(f"it holds {_described(*found)}, and this run would write {_described(*wanted)}")
            source.verify()
    except (InputError, LimitError) as error:
        raise OutputError(
            f"{spec}: exists, but is no finished output of this run: {error}; remove it, or give --overwrite as well: "
            "what is finished is skipped all the same"
        ) from error


def _described(shape: tuple[int, ...], dtype: str) -> str:
    return f"{'x'.join(map(str, shape))} voxels of {dtype}"
