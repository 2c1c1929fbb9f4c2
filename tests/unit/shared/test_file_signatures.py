"""Recognition of files by their first bytes."""

import pytest

from services.file_signatures import HEAD_BYTES, content_type, describe, is_video
from services.upload.validation import VIDEO_TYPES

TRANSPORT = (b"\x47" + bytes(187)) * 8
BLU_RAY = (bytes(4) + b"\x47" + bytes(187)) * 8
CORRECTED = (b"\x47" + bytes(203)) * 8
VIDEOS = {
    "mp4": b"\0\0\0\x18ftypmp42",
    "quicktime": b"\0\0\0\x14ftypqt  ",
    "old quicktime": b"\0\0\x10\0moov",
    "camera": b"\0\0\0\x08wide\0\0\0\0mdat",
    "matroska": b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska",
    "avi": b"RIFF\x10\0\0\0AVI LIST",
    "mpeg program stream": b"\0\0\1\xba\x44",
    "mpeg video": b"\0\0\1\xb3\x14",
    "mpeg transport stream": TRANSPORT[:HEAD_BYTES],
    "blu-ray": BLU_RAY[:HEAD_BYTES],
    "transport stream with error correction": CORRECTED[:HEAD_BYTES],
    "transport stream cut in a packet": TRANSPORT[100 : 100 + HEAD_BYTES],
    "old phone": b"\0\0\0\x18ftyp3gp4",
    "fragment": b"\0\0\0\x18stypmsdh",
}
OTHERS = {
    b"": "no known video container",
    b"<!DOCTYPE html><html>": "an HTML page",
    b"\n  <HTML>": "an HTML page",
    b"<?xml version='1.0'?>": "an XML or HTML file",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b\x08": "a gzip archive",
    b"%PDF-1.7": "a PDF",
    b"\xff\xd8\xff\xe0": "a JPEG picture",
    b"\0\0\0\x18ftypheic": "a HEIC picture",
    b"\0\0\0\x18ftypM4A ": "sound without pictures",
    b"RIFF\x10\0\0\0WAVE": "sound without pictures",
    b"RIFF\x10\0\0\0WEBP": "a WebP picture",
    b"RIFF\x10\0\0\0ACON": "no known video container",
    b"#!/bin/sh": "a script",
    b"hello": "a text",
    b"\0\0\0\1\x67": "a bare H.264 or HEVC stream without times",
    bytes(600): "no known video container",
    b"\x47" * 100: "a text",
}


@pytest.mark.parametrize("head", VIDEOS.values(), ids=VIDEOS.keys())
def test_the_containers_that_an_analysis_reads_are_videos(head: bytes) -> None:
    """By the signatures of their standards; the service accepts the type of each."""
    assert is_video(head)
    assert content_type(head) in VIDEO_TYPES


@pytest.mark.parametrize("head", OTHERS)
def test_another_format_is_named(head: bytes) -> None:
    """The error names it."""
    assert not is_video(head)
    assert describe(head) == OTHERS[head]
