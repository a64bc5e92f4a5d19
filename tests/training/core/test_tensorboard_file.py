"""TensorBoard's file, byte by byte: against the messages and the reader of the tensorboard package, and a loop of its own
for the checksum."""

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convoscope.training.core.tensorboard_file import (
    RecordFile,
    bytes_field,
    event_bytes,
    first_events,
    image,
    number_field,
    plugin_value,
    scalar,
)


def crc32c(content: bytes) -> int:
    """Bit by bit, with the polynomial the right way round: no table."""
    crc = 0xFFFFFFFF
    for byte in content:
        for bit in range(8):
            top = crc >> 31 ^ byte >> bit & 1
            crc = crc << 1 & 0xFFFFFFFF ^ (0x1EDC6F41 if top else 0)
    return int(f"{crc ^ 0xFFFFFFFF:032b}"[::-1], 2)


def test_the_loop_knows_the_standards_examples() -> None:
    """RFC 3720, appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@given(st.binary(max_size=200))
def test_a_record_is_length_checksum_content_checksum(content: bytes) -> None:
    file = io.BytesIO()
    RecordFile(file).write(content)
    length, of_length, written, of_content = struct.unpack(f"<QI{len(content)}sI", file.getvalue())
    assert (length, written) == (len(content), content)
    for part, masked in ((struct.pack("<Q", length), of_length), (content, of_content)):
        turned = (masked - 0xA282EAD8) % 2**32
        assert (turned >> 17 | turned << 15) % 2**32 == crc32c(part)


@given(
    st.floats(0, 4e9), st.integers(-(2**63), 2**63 - 1),
    st.dictionaries(st.text(max_size=20), st.floats(width=32, allow_nan=False), max_size=4),
)  # fmt: skip
def test_scalars_are_the_messages_of_the_tensorboard_package(
    wall_time: float, step: int, values: dict[str, float]
) -> None:
    from tensorboard.compat.proto.event_pb2 import Event

    event = Event.FromString(event_bytes(wall_time, step, *(scalar(tag, value) for tag, value in values.items())))
    assert (event.wall_time, event.step) == (wall_time, step)
    assert [(value.tag, value.simple_value) for value in event.summary.value] == list(values.items())
    assert event.WhichOneof("what") == "summary"


def test_what_is_not_a_number_is_written_as_such() -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary

    read = [
        Summary.Value.FromString(scalar("loss", value)).simple_value for value in (float("nan"), float("inf"), 1e300)
    ]
    assert read[0] != read[0] and read[1:] == [float("inf")] * 2


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1])
def test_integers_and_bytes_of_any_length(value: int) -> None:
    from tensorboard.compat.proto.event_pb2 import Event

    assert Event.FromString(number_field(2, value)).step == value
    content = bytes(value % 70_000)
    assert Event.FromString(bytes_field(4, content)).graph_def == content


def test_tensorboards_own_reader_finds_images_hparams_and_scalars(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    png = io.BytesIO()
    Image.new("RGB", (5, 3), "red").save(png, "PNG")
    hparams = HParamsPluginData()
    hparams.session_start_info.hparams["epochs"].number_value = 3
    path = tmp_path / "events.out.tfevents.1.1"
    with path.open("wb") as file:
        records = RecordFile(file)
        for event in first_events(10.0, 7):
            records.write(event)
        records.write(event_bytes(11.0, 8, scalar("step/loss", 0.5), image("samples", png.getvalue(), 3, 5, 3)))
        start = plugin_value("_hparams_/session_start_info", "hparams", hparams.SerializeToString())
        records.write(event_bytes(12.0, 0, start))
    version, begin, values, settings = EventFileLoader(str(path)).Load()
    assert (version.file_version, version.wall_time) == ("brain.Event:2", 10.0)
    assert (begin.step, begin.session_log.status) == (7, begin.session_log.START)
    loss, picture = values.summary.value
    assert (values.step, loss.tag, loss.tensor.float_val[0]) == (8, "step/loss", 0.5)
    assert picture.tag == "samples" and list(picture.tensor.string_val) == [b"5", b"3", png.getvalue()]
    found = settings.summary.value[0].metadata.plugin_data
    assert found.plugin_name == "hparams" and HParamsPluginData.FromString(found.content) == hparams
