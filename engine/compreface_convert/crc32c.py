"""CRC-32C (Castagnoli) as LevelDB tables and TensorFlow's checkpoints store it."""

from __future__ import annotations

from typing import Final

import numpy as np

from compreface_convert.graph import Array

_POLYNOMIAL: Final = 0x82F63B78  # reversed, RFC 3720
_LANE: Final = 512
"""Bytes that one lane takes when many lanes are computed at once."""
_MASK_DELTA: Final = 0xA282EAD8  # LevelDB's format: a sum stored beside its data is rotated
_ALL: Final = 0xFFFFFFFF


def _byte_table() -> Array:
    table: Array = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ (table & 1) * np.uint32(_POLYNOMIAL)
    return table


_TABLE: Final = _byte_table()
_LIST: Final[list[int]] = _TABLE.tolist()


def _lane_tables() -> list[list[int]]:
    """What `_LANE` zero bytes make of a register, one table for each of its four bytes."""
    tables = []
    for place in range(4):
        register = np.arange(256, dtype=np.uint32) << np.uint32(8 * place)
        for _ in range(_LANE):
            register = _TABLE[register & 255] ^ (register >> 8)
        tables.append(register.tolist())
    return tables


_SHIFT: Final = _lane_tables()


def crc32c(data: bytes | memoryview) -> int:
    """The checksum; long data goes through NumPy, all lanes at once, joined behind each other."""
    register, lanes = _ALL, len(data) // _LANE
    if lanes > 1:
        columns = np.frombuffer(data, np.uint8, lanes * _LANE).reshape(lanes, _LANE).T
        parts = np.zeros(lanes, np.uint32)
        for column in np.ascontiguousarray(columns):
            parts = _TABLE[(parts ^ column) & 255] ^ (parts >> 8)
        first, second, third, fourth = _SHIFT
        for part in parts.tolist():
            register = (
                first[register & 255]
                ^ second[register >> 8 & 255]
                ^ third[register >> 16 & 255]
                ^ fourth[register >> 24]
                ^ part
            )
        data = data[lanes * _LANE :]
    for byte in data:
        register = _LIST[(register ^ byte) & 255] ^ register >> 8
    return register ^ _ALL


def masked(data: bytes | memoryview) -> int:
    """The checksum in the form in which files hold it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & _ALL
