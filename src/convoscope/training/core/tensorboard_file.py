"""The file that TensorBoard reads: records of the TFRecord format, each an `Event` in protobuf's wire format.

Only what convoscope writes: scalars, images, and whatever else is given as the bytes of a summary's value. Sources:
TensorFlow's core/lib/io/record_writer.h (records), core/util/event.proto and core/framework/summary.proto (field
numbers), protobuf.dev/programming-guides/encoding (wire format), RFC 3720, appendix B.4 (CRC-32C).
"""

from __future__ import annotations

import ctypes
import struct
from typing import BinaryIO, Final


class RecordFile:
    """Appends records to a file that is open for it.

    A record is its length in 8 bytes, a checksum of these, the content, and a checksum of it; numbers are
    little-endian.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, event: bytes) -> None:
        """Append one event, see `event_bytes`.

        Raises:
            OSError: the disk refuses it.
        """
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))


def event_bytes(wall_time: float, step: int, *values: bytes) -> bytes:
    """An event with a summary: the values of one step.

    Args:
        wall_time: seconds since 1970.
        step: which step or epoch the values belong to.
        values: see `scalar` and `image`.
    """
    return _time_and_step(wall_time, step) + bytes_field(5, b"".join(bytes_field(1, value) for value in values))


def first_events(wall_time: float, step: int) -> tuple[bytes, bytes]:
    """What a file begins with: its version, and that a session starts at this step. TensorBoard then drops what an
    earlier, killed process wrote beyond it.
    """
    version = _time_and_step(wall_time, 0) + bytes_field(3, b"brain.Event:2")
    return version, _time_and_step(wall_time, step) + bytes_field(7, number_field(1, 1))  # SessionLog.START


def scalar(tag: str, value: float) -> bytes:
    """A number, kept as float32, under a name. What is too large for that becomes infinite."""
    return bytes_field(1, tag.encode()) + struct.pack("<Bf", 2 << 3 | 5, ctypes.c_float(value).value)


def image(tag: str, png: bytes, height: int, width: int, channels: int) -> bytes:
    """A picture under a name.

    Args:
        png: the file's content.
        channels: 1 grey, 3 RGB, 4 RGB with opacity.
    """
    size = number_field(1, height) + number_field(2, width) + number_field(3, channels)
    return bytes_field(1, tag.encode()) + bytes_field(4, size + bytes_field(4, png))


def plugin_value(tag: str, plugin: str, content: bytes) -> bytes:
    """A value that one of TensorBoard's plugins reads, such as `hparams`: its message in its metadata."""
    data = bytes_field(1, plugin.encode()) + bytes_field(2, content)
    return bytes_field(1, tag.encode()) + bytes_field(9, bytes_field(1, data))


def number_field(number: int, value: int) -> bytes:
    """A field of an integer, bool or enum type: 7 bits a byte, the lowest first.

    Args:
        number: the field's.
        value: from -2**63 to 2**64 - 1.
    """
    return _varint(number << 3) + _varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """A field of bytes, text in UTF-8 or another message."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _time_and_step(wall_time: float, step: int) -> bytes:
    return struct.pack("<Bd", 1 << 3 | 1, wall_time) + number_field(2, step)


def _varint(value: int) -> bytes:
    value &= 2**64 - 1  # negative numbers as two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _crc_table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()
"""The checksum of each byte: CRC-32C, whose polynomial 0x1EDC6F41 is written backwards here."""


def _checksum(content: bytes) -> bytes:
    """CRC-32C, rotated by 15 bits and shifted by a constant, so that a file within a file is not taken for a record."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
