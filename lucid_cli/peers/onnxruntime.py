"""ONNX Runtime on the CPU: a model of one `Conv`, built with the package onnx."""

from collections.abc import Callable

from lucid_cli.peers import Array, Peer
from lucid_core.problem import ConvProblem

OPSET, IR = 17, 8
"""Versions of the operators and of the file format, which every ONNX Runtime in use reads."""


class OnnxRuntime(Peer):
    """Float32 with zeros around the volume."""

    name = "onnxruntime"
    packages = ("onnxruntime", "onnx")

    def refuses(self, problem: ConvProblem) -> str | None:
        """Refuse what its `Conv` does not do."""
        if problem.dtype != "float32":
            return "it convolves float32 only"
        return None if problem.padding_mode == "zeros" else "it pads with zeros only"

    def prepare(
        self, problem: ConvProblem, x: Array, weight: Array, bias: Array | None, threads: int
    ) -> Callable[[], Array]:
        """Start a session with its own threads."""
        runtime = self.load()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        model = self._model(problem, weight, bias)
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

        def run() -> Array:
            result: Array = session.run(None, {"x": x})[0]
            return result

        return run

    def _model(self, problem: ConvProblem, weight: Array, bias: Array | None) -> bytes:
        """Return the model as the bytes of its file."""
        onnx = self.load("onnx")
        helper, kind = self.load("onnx.helper"), onnx.TensorProto.FLOAT
        constants = {"w": weight} if bias is None else {"w": weight, "b": bias}
        pads = [pad for side in zip(*problem.pads, strict=True) for pad in side]
        node = helper.make_node(
            "Conv",
            ["x", *constants],
            ["y"],
            strides=problem.stride,
            dilations=problem.dilation,
            pads=pads,
            group=problem.groups,
        )
        ends = [helper.make_tensor_value_info("x", kind, problem.in_shape)]
        ends += [helper.make_tensor_value_info("y", kind, problem.out_shape)]
        held = [self.load("onnx.numpy_helper").from_array(array, name) for name, array in constants.items()]
        graph = helper.make_graph([node], "conv", ends[:1], ends[1:], held)
        opset = helper.make_opsetid("", OPSET)
        model: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=IR).SerializeToString()
        return model


PEER = OnnxRuntime()
