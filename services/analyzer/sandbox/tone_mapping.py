"""Converts a picture of high dynamic range to standard range, BT.709. Runs in the sandbox.

    signal ─▶ light, diffuse white at 1 (ITU-R BT.2100) ─▶ primaries of BT.709 ─▶ highlights compressed ─▶ signal

Diffuse white has 203 cd/m², which HLG codes at 75 % (ITU-R BT.2408).
"""

from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from services.analyzer.arrays import Floats

# From BT.2020's primaries to those of BT.709: ITU-R BT.2087, inverted.
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
WHITE_NITS = 203.0
# Light above this share of diffuse white is compressed into the rest.
KNEE = 0.8
# Levels of the converted signal, with the brightest light that they code.
LEVELS, BRIGHTEST = 4096, 12.0
_SCALER = VideoReformatter()


def to_standard_range(frame: VideoFrame, transfer: str) -> VideoFrame:
    """The same picture in the colours of BT.709, yuv420p. transfer: `pq` or `hlg`."""
    rgb: Any = _SCALER.reformat(frame, format="rgb24", threads=1).to_ndarray()
    light = cv2.transform(cv2.LUT(rgb, TO_LIGHT[transfer]), TO_BT709.astype(np.float32))
    index = np.sqrt(np.clip(light, 0, BRIGHTEST) / BRIGHTEST) * (LEVELS - 1)
    converted = VideoFrame.from_ndarray(TO_SIGNAL[transfer][index.astype(np.uint16)], format="rgb24")
    converted = _SCALER.reformat(
        converted,
        format="yuv420p",
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        dst_colorspace=Colorspace.ITU709,
        dst_color_trc=ColorTrc.BT709,
        dst_color_primaries=ColorPrimaries.BT709,
        threads=1,
    )
    converted.pts, converted.time_base = frame.pts, frame.time_base
    return converted


def _hlg_light(signal: Floats) -> Floats:
    """Scene light of an HLG signal, 0 to 1: the inverse OETF of BT.2100, table 5."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _pq_light(signal: Floats) -> Floats:
    """Display light of a PQ signal in cd/m²: the EOTF of BT.2100, table 4."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = signal ** (1 / m2)
    return np.asarray(10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1))


def _compress(light: Floats) -> Floats:
    return np.where(light <= KNEE, light, KNEE + (1 - KNEE) * (1 - np.exp((KNEE - light) / (1 - KNEE))))


def _bt709(light: Floats) -> Floats:
    """The signal of scene light: the OETF of BT.709."""
    return np.where(light < 0.018, 4.5 * light, 1.099 * np.maximum(light, 1e-9) ** 0.45 - 0.099)


def _levels(signal: Floats) -> Any:
    return np.clip(np.round(255 * signal), 0, 255).astype(np.uint8)


_SIGNAL = np.linspace(0, 1, 256)
_LIGHT = BRIGHTEST * np.linspace(0, 1, LEVELS) ** 2
TO_LIGHT = {
    "hlg": (_hlg_light(_SIGNAL) / _hlg_light(np.array(0.75))).astype(np.float32),
    "pq": (_pq_light(_SIGNAL) / WHITE_NITS).astype(np.float32),
}
# HLG codes the light of the scene, PQ that of a display, which undoes a gamma of 2.4 (ITU-R BT.1886).
TO_SIGNAL = {"hlg": _levels(_bt709(_compress(_LIGHT))), "pq": _levels(_compress(_LIGHT) ** (1 / 2.4))}
