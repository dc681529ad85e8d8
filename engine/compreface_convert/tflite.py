"""Reads a TensorFlow Lite file of floats without TensorFlow, into TensorFlow's operators."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.flatbuffer import INT8, INT32, UINT8, UINT32, Table
from compreface_convert.graph import MAX_NODES, Array, Graph, Node, Shape

# TensorFlow's operators by the BuiltinOperator number of equal ones in TensorFlow Lite's schema.
_PLAIN = {
    0: "Add", 18: "Mul", 41: "Sub", 42: "RealDiv", 55: "Maximum", 57: "Minimum", 19: "Relu",
    21: "Relu6", 101: "Abs", 59: "Neg", 47: "Exp", 75: "Sqrt", 76: "Rsqrt", 92: "Square",
    14: "Sigmoid", 28: "Tanh", 25: "Softmax", 54: "Prelu", 34: "Pad", 40: "Mean", 74: "Sum",
    82: "Max", 22: "Reshape", 43: "Squeeze",
}  # fmt: skip
_DEQUANTIZE = 6
# The names of these numbers, from 0, for the refusal of other operators.
_NAMES = (
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE "
    "EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D "
    "LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 "
    "RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS "
    "SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER "
    "BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE "
    "UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT "
    "LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG "
    "PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE "
    "EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD "
    "REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV "
    "REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU "
    "SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE "
    "RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE"
).split()
_REDUCE = {"Mean", "Sum", "Max"}
_FUSED = {1: "Relu", 3: "Relu6"}
_DTYPES = {0: "<f4", 1: "<f2", 2: "<i4", 4: "<i8"}
_PADDING = {0: b"SAME", 1: b"VALID"}


def read_tflite(data: bytes | memoryview) -> Graph:
    """The only subgraph of the file. Raises ConvertError for a broken or unsupported file."""
    if bytes(data[4:8]) != b"TFL3":
        raise ConvertError("not a TensorFlow Lite file (its identifier TFL3 is missing)")
    model = Table.root(data)
    subgraphs = model.tables(2)
    if len(subgraphs) != 1:
        raise ConvertError(f"the file must have a single subgraph; it has {len(subgraphs)}")
    return _Reader(model, subgraphs[0]).read()


@dataclass(slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    signature: Shape
    value: Array | None


@dataclass(slots=True)
class _Reader:
    model: Table
    subgraph: Table
    nodes: dict[str, Node] = field(default_factory=dict)
    tensors: list[_Tensor] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    constants: dict[str, Array] = field(default_factory=dict)

    def read(self) -> Graph:
        buffers = self.model.tables(4)
        tables = self.subgraph.tables(0)
        operators = self.subgraph.tables(3)
        if max(len(tables), len(operators)) > MAX_NODES:
            raise ConvertError(f"the file has more than {MAX_NODES} operators or tensors")
        self.tensors = [self._tensor(i, table, buffers) for i, table in enumerate(tables)]
        self.constants.update((t.name, t.value) for t in self.tensors if t.value is not None)
        codes = [
            max(code.scalar(0, INT8), code.scalar(3, INT32))  # the first ends at 127
            for code in self.model.tables(1)
        ]
        for operator in operators:
            index = operator.scalar(0, UINT32)
            if index >= len(codes):
                raise ConvertError(f"broken file: operator code {index} does not exist")
            self._operator(codes[index], operator)
        inputs = [self._at(i) for i in self.subgraph.array(1, INT32).tolist()]
        outputs = [self._at(i) for i in self.subgraph.array(2, INT32).tolist()]
        if len(inputs) != 1 or not outputs:
            raise ConvertError(
                f"the network must have an input and outputs; it has {len(inputs)}, {len(outputs)}"
            )
        return Graph(
            self.nodes,
            self.constants,
            {inputs[0].name: inputs[0].signature},
            tuple(output.name for output in outputs),
        )

    def _at(self, index: int) -> _Tensor:
        if not 0 <= index < len(self.tensors):
            raise ConvertError(f"broken file: tensor {index} does not exist")
        return self.tensors[index]

    def _tensor(self, index: int, table: Table, buffers: list[Table]) -> _Tensor:
        # A colon would mark an output number; the index makes equal names distinct.
        name = table.text(3).replace(":", "_")[:200] or "tensor"
        while name in self.names:
            name = f"{name}#{index}"
        self.names.add(name)
        shape = tuple(int(size) for size in table.array(0, INT32))
        if len(shape) > 8 or any(size < 0 for size in shape):
            raise ConvertError(f"tensor '{name}' has the shape {list(shape)}")
        signature = tuple(None if int(size) < 0 else int(size) for size in table.array(7, INT32))
        number = table.scalar(2, UINT32)
        if number >= len(buffers):
            raise ConvertError(f"broken file: tensor '{name}' has no buffer {number}")
        raw = buffers[number].array(0, UINT8)
        kind = table.scalar(1, INT8)
        if not len(raw):
            return _Tensor(name, shape, signature or shape, None)
        if kind not in _DTYPES:
            raise ConvertError(
                f"tensor '{name}' has the type {kind} (quantised?); float models are supported"
            )
        dtype = np.dtype(_DTYPES[kind])
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise ConvertError(f"tensor '{name}' of shape {list(shape)} has {len(raw)} bytes")
        return _Tensor(name, shape, signature or shape, raw.view(dtype).reshape(shape))

    def _operator(self, code: int, operator: Table) -> None:
        inputs = [self._at(i) for i in operator.array(1, INT32).tolist() if i >= 0]
        outputs = [self._at(i) for i in operator.array(2, INT32).tolist()]
        options = operator.table(4)
        if len(outputs) != 1 or not inputs:
            raise ConvertError(
                f"the operator {_name(code)} with {len(outputs)} outputs is not supported"
            )
        out = outputs[0].name
        names = tuple(tensor.name for tensor in inputs)
        if code in (3, 4):
            self._conv(code, inputs, out, options)
        elif code == 9:
            self._dense(inputs, out, options)
        elif code in (1, 17):
            attrs: dict[str, Any] = {
                "ksize": [1, _int(options, 4, 1), _int(options, 3, 1), 1],
                "strides": [1, _int(options, 2, 1), _int(options, 1, 1), 1],
                "padding": self._padding(options, out),
            }
            op = "AvgPool" if code == 1 else "MaxPool"
            self._put(op, names[:1], out, attrs, _byte(options, 5))
        elif code == 2:
            axis = self._parameter(out, np.array(_int(options, 0, 0), np.int32))
            self._put("ConcatV2", (*names, axis), out, {}, _byte(options, 1))
        elif code in _PLAIN:
            self._plain(_PLAIN[code], names, outputs[0], options)
        elif code == _DEQUANTIZE:
            self._widen(inputs[0], outputs[0])
        else:
            raise ConvertError(f"the operator {_name(code)} (at '{out}') is not supported")

    def _widen(self, given: _Tensor, out: _Tensor) -> None:
        """Widen float16 weights: constants, each with an operator of its own."""
        if given.value is None or given.value.dtype != np.float16:
            raise ConvertError(
                f"the operator DEQUANTIZE (at '{out.name}') does not take a constant of float16; "
                "give the model in float32 or float16"
            )
        if out.name in self.constants or out.name in self.nodes:
            raise ConvertError(f"the tensor '{out.name}' is computed twice")
        out.value = self.constants[out.name] = given.value.astype(np.float32)

    def _plain(self, op: str, names: tuple[str, ...], out: _Tensor, options: Table | None) -> None:
        attrs: dict[str, Any] = {}
        if op in _REDUCE:
            attrs["keep_dims"] = bool(_byte(options, 0))
        if op in ("Reshape", "Squeeze"):
            # The first size is the batch, which becomes dynamic.
            shape = np.array([-1, *out.shape[1:]], np.int32)
            names, op = (names[0], self._parameter(out.name, shape)), "Reshape"
        fused = _byte(options, 0) if op in ("Add", "Mul", "Sub", "RealDiv") else 0
        self._put(op, names, out.name, attrs, fused)

    def _conv(self, code: int, inputs: list[_Tensor], out: str, options: Table | None) -> None:
        depthwise = code == 4
        weights = inputs[1].value if len(inputs) > 1 else None
        if weights is None or weights.ndim != 4:
            raise ConvertError(f"the convolution '{out}' has no constant kernel")
        if depthwise:
            multiplier = max(1, _int(options, 3, 1))
            height, width, channels = weights.shape[1:]
            if weights.shape[0] != 1 or channels % multiplier:
                raise ConvertError(f"the depthwise kernel of '{out}' has a wrong shape")
            kernel = weights.reshape(height, width, channels // multiplier, multiplier)
            dilation = [1, _int(options, 6, 1), _int(options, 5, 1), 1]
        else:
            kernel = weights.transpose(1, 2, 3, 0)
            dilation = [1, _int(options, 5, 1), _int(options, 4, 1), 1]
        attrs: dict[str, Any] = {
            "strides": [1, _int(options, 2, 1), _int(options, 1, 1), 1],
            "dilations": dilation,
            "padding": self._padding(options, out),
        }
        name = f"{out}#kernel"
        self.constants[name] = kernel
        op = "DepthwiseConv2dNative" if depthwise else "Conv2D"
        fused = _byte(options, 4 if depthwise else 3)
        self._biased(op, (inputs[0].name, name), inputs, out, attrs, fused)

    def _dense(self, inputs: list[_Tensor], out: str, options: Table | None) -> None:
        weights = inputs[1].value if len(inputs) > 1 else None
        if weights is None or weights.ndim != 2 or _byte(options, 1):
            raise ConvertError(f"the dense layer '{out}' has no plain constant weights")
        shape = self._parameter(out, np.array([-1, weights.shape[1]], np.int32))
        self._put("Reshape", (inputs[0].name, shape), f"{out}#flat", {}, 0)
        self.constants[f"{out}#kernel"] = weights.T
        names = (f"{out}#flat", f"{out}#kernel")
        self._biased("MatMul", names, inputs, out, {}, _byte(options, 0))

    def _biased(
        self,
        op: str,
        names: tuple[str, ...],
        inputs: list[_Tensor],
        out: str,
        attrs: dict[str, Any],
        fused: int,
    ) -> None:
        if len(inputs) < 3:
            self._put(op, names, out, attrs, fused)
            return
        self._put(op, names, f"{out}#linear", attrs, 0)
        self._put("BiasAdd", (f"{out}#linear", inputs[2].name), out, {}, fused)

    def _padding(self, options: Table | None, out: str) -> bytes:
        code = _byte(options, 0)
        if code not in _PADDING:
            raise ConvertError(f"'{out}' has the unknown padding {code}")
        return _PADDING[code]

    def _parameter(self, out: str, value: Array) -> str:
        self.constants[f"{out}#parameter"] = value
        return f"{out}#parameter"

    def _put(
        self, op: str, inputs: tuple[str, ...], out: str, attrs: dict[str, Any], fused: int
    ) -> None:
        if fused and fused not in _FUSED:
            raise ConvertError(f"'{out}' has the fused activation {fused}; Relu and Relu6 work")
        name = f"{out}#raw" if fused else out
        if out in self.nodes or out in self.constants:
            raise ConvertError(f"the tensor '{out}' is computed twice")
        self.nodes[name] = Node(name, op, inputs, attrs)
        if fused:
            self.nodes[out] = Node(out, _FUSED[fused], (name,))


def _name(code: int) -> str:
    return f"{_NAMES[code]} ({code})" if 0 <= code < len(_NAMES) else str(code)


def _byte(options: Table | None, index: int) -> int:
    return 0 if options is None else options.scalar(index, INT8)


def _int(options: Table | None, index: int, default: int) -> int:
    return default if options is None else options.scalar(index, INT32, default)
