"""`.onnx`: the initialisers of a model's graph (extra `onnx`). Tensors that lie in other files are not read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lucid_cli.weight_files import Array, ArrayFile, check_size
from lucid_core.errors import InputError
from lucid_core.optional import require


@contextmanager
def opened(path: Path) -> Iterator[ArrayFile]:
    """Parse the model; nothing of it is run."""
    onnx = require("onnx", "onnx")
    check_size(path, "the model", path.stat().st_size)
    model = onnx.load_model(path, load_external_data=False)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def read(name: str) -> Array:
        if tensors[name].data_location == onnx.TensorProto.EXTERNAL:
            raise InputError(f"weights {path}: the values of {name!r} lie in another file: not read")
        array: Array = onnx.numpy_helper.to_array(tensors[name])
        return array

    yield ArrayFile(path, tensors, lambda name: tuple(tensors[name].dims), read)
