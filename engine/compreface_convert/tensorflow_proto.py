"""TensorFlow's protobuf messages, built from the names and numbers of their public schema."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from compreface_convert.errors import ConvertError

# The fields that are read; protobuf skips all others. `*` marks a repeated field. A map is a
# repeated message of a key and a value, as it is encoded; an enum is its number.
# Numbers: tensorflow/core/framework (graph, node_def, attr_value, tensor, tensor_shape, function,
# op_def) and core/protobuf (saved_model, meta_graph, saver, saved_object_graph,
# trackable_object_graph, tensor_bundle).
_SCHEMA: Final = """
GraphDef: node=1 NodeDef*, library=2 FunctionDefLibrary
NodeDef: name=1 string, op=2 string, input=3 string*, attr=5 Attr*
Attr: key=1 string, value=2 AttrValue
AttrValue: list=1 ListValue, s=2 bytes, i=3 int64, f=4 float, b=5 bool, type=6 int32,
  shape=7 TensorShapeProto, tensor=8 TensorProto, func=10 NameAttrList
ListValue: s=2 bytes*, i=3 int64*, f=4 float*, b=5 bool*, type=6 int32*
NameAttrList: name=1 string
TensorShapeProto: dim=2 Dim*
Dim: size=1 int64
TensorProto: dtype=1 int32, tensor_shape=2 TensorShapeProto, tensor_content=4 bytes,
  float_val=5 float*, double_val=6 double*, int_val=7 int32*, string_val=8 bytes*,
  int64_val=10 int64*, bool_val=11 bool*, half_val=13 int32*
FunctionDefLibrary: function=1 FunctionDef*
FunctionDef: signature=1 OpDef, node_def=3 NodeDef*, ret=4 Ret*
OpDef: name=1 string, input_arg=2 ArgDef*, output_arg=3 ArgDef*
ArgDef: name=1 string
Ret: key=1 string, value=2 string
SavedModel: meta_graphs=2 MetaGraphDef*
MetaGraphDef: meta_info_def=1 MetaInfoDef, graph_def=2 GraphDef, saver_def=3 SaverDef,
  signature_def=5 Signature*, object_graph_def=7 SavedObjectGraph
MetaInfoDef: tags=4 string*
SaverDef: restore_op_name=3 string
Signature: key=1 string, value=2 SignatureDef
SignatureDef: inputs=1 NamedTensor*, outputs=2 NamedTensor*
NamedTensor: key=1 string, value=2 TensorInfo
TensorInfo: name=1 string, dtype=2 int32, tensor_shape=3 TensorShapeProto
SavedObjectGraph: nodes=1 SavedObject*, concrete_functions=2 ConcreteFunction*
SavedObject: children=1 ObjectReference*
ObjectReference: node_id=1 int32, local_name=2 string
ConcreteFunction: key=1 string, value=2 SavedConcreteFunction
SavedConcreteFunction: bound_inputs=2 int32*
TrackableObjectGraph: nodes=1 TrackableObject*
TrackableObject: children=1 ObjectReference*, attributes=2 SerializedTensor*
SerializedTensor: name=1 string, checkpoint_key=3 string
BundleHeaderProto: num_shards=1 int32, endianness=2 int32
BundleEntryProto: dtype=1 int32, shape=2 TensorShapeProto, shard_id=3 int32, offset=4 int64,
  size=5 int64, crc32c=6 fixed32, slices=7 TensorSliceProto*
TensorSliceProto: extent=1 bytes*
"""
_ONE_OF: Final = "AttrValue"  # its fields exclude each other


def parse(kind: str, data: bytes | memoryview) -> Any:
    """The message of that type in `data`. Raises ConvertError if there is no such message."""
    message = _classes()[kind]()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ConvertError(f"broken protobuf: not a {kind}, or cut short") from error
    return message


@cache
def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="compreface_convert/tensorflow.proto", package="compreface_convert", syntax="proto3"
    )
    for name, fields in re.findall(r"^(\w+): ((?:.|\n )+)$", _SCHEMA, re.MULTILINE):
        message = file.message_type.add(name=name)
        if name == _ONE_OF:
            message.oneof_decl.add(name="value")
        for field, number, kind, star in re.findall(r"(\w+)=(\d+) (\w+)(\*?)", fields):
            made = message.field.add(name=field, number=int(number))
            made.label = made.LABEL_REPEATED if star else made.LABEL_OPTIONAL
            if kind[0].isupper():
                made.type, made.type_name = made.TYPE_MESSAGE, f".{file.package}.{kind}"
            else:
                made.type = made.Type.Value(f"TYPE_{kind.upper()}")
            if name == _ONE_OF:
                made.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        message.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{file.package}.{message.name}")
        )
        for message in file.message_type
    }
