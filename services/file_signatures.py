"""Recognises a file by its first bytes: a video container that the analyzer reads, or another known format.

Signatures: ISO/IEC 14496-12 and the QuickTime File Format (a box's type after its length), RFC 8794 (EBML), Microsoft's
RIFF, ISO/IEC 13818-1 (pack header; a packet every 188 bytes, 192 on Blu-ray, 204 with error correction).
"""

from services.containers.matroska import EBML
from services.containers.mp4 import FIRST_BOXES

# MPEG-TS, the M2TS of cameras, TS with error correction.
TS_PACKET_BYTES = (188, 192, 204)
# A transport stream is recognised by five packets, the first of which may be cut.
HEAD_BYTES = 1280
_PACKETS = 5

# Still pictures and sound in the same container as MP4.
_NO_VIDEOS = {
    b"heic": "a HEIC picture",
    b"heix": "a HEIC picture",
    b"mif1": "a HEIC picture",
    b"avif": "an AVIF picture",
    b"M4A ": "sound without pictures",
    b"M4B ": "sound without pictures",
}
_RIFFS = {b"WEBP": "a WebP picture", b"WAVE": "sound without pictures"}
_OTHERS = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"PK\x03\x04": "a ZIP archive",
    b"PK\x05\x06": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"%PDF": "a PDF",
    b"ID3": "an MP3",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "a Windows Media video (WMV)",
    b"FLV\x01": "a Flash video (FLV)",
    b"OggS": "an Ogg file",
    b"\x06\x0e\x2b\x34": "an MXF file",
    b"\0\0\0\1": "a bare H.264 or HEVC stream without times",
    b"#!": "a script",
    b"\x7fELF": "a program",
    b"MZ": "a program",
}


def is_video(head: bytes) -> bool:
    """Whether the first bytes are those of a video container."""
    return bool(content_type(head))


def content_type(head: bytes) -> str:
    """The media type of a video container by its first bytes; empty for any other file. The name does not matter."""
    if head[4:8] in FIRST_BOXES:
        if head[4:8] != b"ftyp":
            return "video/quicktime"
        if head[8:12] in _NO_VIDEOS:
            return ""
        return "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "video/x-msvideo"
    if head.startswith(EBML):
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head.startswith((b"\0\0\1\xba", b"\0\0\1\xb3")) or _is_transport_stream(head):
        return "video/mpeg"
    return ""


def _is_transport_stream(head: bytes) -> bool:
    """Whether every packet begins with the sync byte, and not every byte is one."""
    return any(
        all(head[start + n * packet : start + n * packet + 1] == b"\x47" for n in range(_PACKETS))
        and head[start : start + 2] != b"\x47\x47"
        for packet in TS_PACKET_BYTES
        for start in range(packet)
    )


def describe(head: bytes) -> str:
    """The format of a file that is no video, with its article."""
    for signature, name in _OTHERS.items():
        if head.startswith(signature):
            return name
    if head[4:8] == b"ftyp" and head[8:12] in _NO_VIDEOS:
        return _NO_VIDEOS[head[8:12]]
    if head.startswith(b"RIFF") and head[8:12] in _RIFFS:
        return _RIFFS[head[8:12]]
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if text.startswith(b"<"):
        return "an XML or HTML file"
    if head and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "a text"
    return "no known video container"
