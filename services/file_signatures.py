"""Recognises a file by its first bytes: a video container that the analyzer reads, or another known format.

Signatures: ISO/IEC 14496-12 and the QuickTime File Format (a box's type after its length), RFC 8794 (EBML), Microsoft's
RIFF, ISO/IEC 13818-1 (pack header; a packet every 188 bytes, 192 on Blu-ray).
"""

# A transport stream is recognised by its third packet.
HEAD_BYTES = 600

_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
# Still pictures and sound in the same container as MP4.
_NO_VIDEOS = frozenset({b"heic", b"heix", b"mif1", b"avif", b"M4A "})
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
    b"#!": "a script",
    b"\x7fELF": "a program",
    b"MZ": "a program",
}


def is_video(head: bytes) -> bool:
    """Whether the first bytes are those of a video container: ISO-BMFF, QuickTime, Matroska, WebM, AVI or MPEG."""
    return (
        (head[4:8] in _BOXES and not (head[4:8] == b"ftyp" and head[8:12] in _NO_VIDEOS))
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
        or head.startswith((b"\x1a\x45\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3"))
        or _is_transport_stream(head)
    )


def _is_transport_stream(head: bytes) -> bool:
    return any(
        len(head) > start + 2 * packet and all(head[start + n * packet] == 0x47 for n in range(3))
        for start, packet in ((0, 188), (4, 192))
    )


def describe(head: bytes) -> str:
    """The format of a file that is no video, with its article."""
    for signature, name in _OTHERS.items():
        if head.startswith(signature):
            return name
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if text.startswith(b"<"):
        return "an XML or HTML file"
    if head and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "a text"
    return "no known video container"
