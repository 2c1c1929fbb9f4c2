"""Writes H.264 whose fields are pictures of their own (PAFF), as many camcorders do and no free encoder does.

Every macroblock is stored uncompressed (I_PCM), so that the stream needs no encoder. Numbers: ITU-T H.264, 7.3.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet

from services.analyzer.arrays import Pixels
from testing.data.clips import HEIGHT, WIDTH, picture, write_clip

FIELDS_PER_SECOND = 60
DELIMITER, SEQUENCE, PICTURES, FIRST_SLICE, SLICE = 9, 7, 8, 5, 1
UNCOMPRESSED = 25


class Bits:
    """A sequence of bits."""

    def __init__(self) -> None:
        self._bits = ""

    def fixed(self, width: int, value: int) -> "Bits":
        self._bits += format(value, f"0{width}b")
        return self

    def golomb(self, *values: int) -> "Bits":
        """Exponential Golomb codes."""
        for value in values:
            bits = format(value + 1, "b")
            self._bits += "0" * (len(bits) - 1) + bits
        return self

    def aligned(self) -> bytes:
        bits = self._bits + "0" * (-len(self._bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")


def write_fields(path: Path, frames: int, template: Path) -> Path:
    """Each frame is two packets, one of each field, the upper one first; field k shows picture(k).

    template: a path for a film of the same size, from which the new one takes its stream's format.
    """
    clock = Fraction(1, FIELDS_PER_SECOND)
    with av.open(str(write_clip(template, [0.0], options={"bf": "0"}))) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        stream.codec_context.extradata = _headers()
        for number in range(2 * frames):
            packet = Packet(_field(number))
            packet.stream, packet.time_base = stream, clock
            packet.pts, packet.dts, packet.duration = number, number, 1
            packet.is_keyframe = number % 2 == 0
            out.mux(packet)
    return path


def _unit(kind: int, payload: bytes) -> bytes:
    """A NAL unit with its start code and the bytes that prevent false ones."""
    escaped, zeros = bytearray(), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = 0 if byte else zeros + 1
    return b"\0\0\0\1" + bytes([(0 if kind == DELIMITER else 3) << 5 | kind]) + bytes(escaped)


def _headers() -> bytes:
    sequence = Bits().fixed(24, 0x4D001E).golomb(0, 0, 0, 4, 1).fixed(1, 0).golomb(WIDTH // 16 - 1, HEIGHT // 32 - 1)
    sequence.fixed(6, 0b001001)  # fields, 8x8 inference, no cropping, no further parameters, the stop bit
    pictures = Bits().golomb(0, 0).fixed(2, 0).golomb(0, 0, 0).fixed(3, 0).golomb(0, 0, 0).fixed(4, 0b1001)
    return _unit(SEQUENCE, sequence.aligned()) + _unit(PICTURES, pictures.aligned())


def _field(number: int) -> bytes:
    lower = number % 2
    header = Bits().golomb(0, 7, 0).fixed(4, 0).fixed(2, 2 + lower)
    if not lower:
        header.golomb(number // 2 % 2)
    header.fixed(8, lower).fixed(1 if lower else 2, 0).golomb(0, 1, UNCOMPRESSED)
    luma, chroma = _planes(number, lower)
    blocks = [
        luma[y : y + 16, x : x + 16].tobytes() + chroma[:, y // 2 : y // 2 + 8, x // 2 : x // 2 + 8].tobytes()
        for y in range(0, HEIGHT // 2, 16)
        for x in range(0, WIDTH, 16)
    ]
    payload = header.aligned() + Bits().golomb(UNCOMPRESSED).aligned().join(blocks) + b"\x80"
    start = _unit(DELIMITER, b"\x10") + (b"" if lower else _headers())
    return start + _unit(SLICE if lower else FIRST_SLICE, payload)


def _planes(number: int, lower: int) -> tuple[Pixels, Pixels]:
    """The lines of one field: luma, and both planes of chroma."""
    frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24").reformat(format="yuv420p").to_ndarray()
    chroma = frame[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    return np.ascontiguousarray(frame[lower:HEIGHT:2]), np.ascontiguousarray(chroma[:, lower::2])
