"""OpenVINO on the CPU: a model of one convolution."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lucid_cli.peers import Array, Peer
from lucid_core.problem import ConvProblem


class OpenVino(Peer):
    """Float32 with zeros around the volume."""

    name = "openvino"
    packages = ("openvino",)

    def refuses(self, problem: ConvProblem) -> str | None:
        """Refuse what it would compute in less precision, and borders it has no operator for."""
        if problem.dtype != "float32":
            return "it convolves float32 only"
        return None if problem.padding_mode == "zeros" else "it pads with zeros only"

    def prepare(
        self, problem: ConvProblem, x: Array, weight: Array, bias: Array | None, threads: int
    ) -> Callable[[], Array]:
        """Compile for one request at a time, in float32: by default it takes bfloat16 where the processor has it."""
        openvino = self.load()
        config = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": str(threads),
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = openvino.Core().compile_model(self._model(problem, weight, bias), "CPU", config)
        request = compiled.create_infer_request()

        def run() -> Array:
            result: Array = request.infer({0: x}, share_inputs=True, share_outputs=True)[0]
            return result

        return run

    def _model(self, problem: ConvProblem, weight: Array, bias: Array | None) -> Any:
        openvino, ops = self.load(), self.load("openvino.opset8")
        entry = ops.parameter(problem.in_shape, np.float32, name="x")
        low, high = ([pads[side] for pads in problem.pads] for side in (0, 1))
        geometry = (list(problem.stride), low, high, list(problem.dilation))
        if problem.groups == 1:
            node = ops.convolution(entry, ops.constant(weight), *geometry)
        else:
            grouped = weight.reshape(problem.groups, -1, *weight.shape[1:])
            node = ops.group_convolution(entry, ops.constant(grouped), *geometry)
        if bias is not None:
            node = ops.add(node, ops.constant(bias.reshape(1, -1, 1, 1, 1)))
        return openvino.Model([node], [entry], "conv")


PEER = OpenVino()
