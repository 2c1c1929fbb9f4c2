"""The limits of one film, and the sentence for a film beyond each: clients and the analyzer say the same."""

MAX_VIDEO_BYTES = 5 * 1024**3
# The largest picture of H.264's and HEVC's level 6.2: 8K.
MAX_VIDEO_PIXELS = 8192 * 4352
MAX_VIDEO_SECONDS = 1800.0
MAX_VIDEO_FRAMES = 432_000
# The profile of Dolby Vision whose base layer is in colours of its own. The base layers of phones are HLG or PQ.
ONLY_DOLBY = 5

GB, MEGAPIXEL, MINUTE = 1e9, 1e6, 60


def too_large(name: str, size_bytes: int, most: int) -> str:
    """The sentence for a file with too many bytes."""
    return f"{name} has {_bytes(size_bytes)}; at most {_bytes(most)} are accepted"


def too_long(name: str, seconds: float, most: float) -> str:
    """The sentence for a film that lasts too long."""
    return f"{name} lasts {_duration(seconds)}; at most {_duration(most)} are analysed"


def too_many_pixels(name: str, width: int, height: int, most: int) -> str:
    """The sentence for too large pictures, with the size to use instead."""
    shrink = min(1.0, (most / (width * height)) ** 0.5)
    fitting = "x".join(str(int(side * shrink) // 2 * 2) for side in (width, height))
    return (
        f"{name} has pictures of {width}x{height}, {width * height / MEGAPIXEL:.0f} megapixels; "
        f"at most {most / MEGAPIXEL:.0f} are analysed, such as {fitting}"
    )


def too_many_frames(name: str, most: int) -> str:
    """The sentence for too many frames."""
    return f"{name} has over {most} frames, which is the limit"


def only_dolby(name: str) -> str:
    """The sentence for a film whose pictures only a decoder of Dolby shows in their colours."""
    return f"{name} is not usable: it is in Dolby Vision profile {ONLY_DOLBY}, whose colours need a decoder of Dolby"


def no_pictures(name: str) -> str:
    """The sentence for a file of sound, or of still pictures."""
    return f"{name} has no moving pictures, only sound or still pictures"


def no_index(name: str) -> str:
    """The sentence for an MP4 whose end is missing, as after a broken copy: its index tells where the pictures are."""
    return f"{name} is incomplete: it has no index, which a camera writes last; copy or download it again"


def _bytes(count: int) -> str:
    return f"{count / GB:.1f} GB" if count >= GB else f"{count} bytes"


def _duration(seconds: float) -> str:
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} seconds"
    return f"{seconds / MINUTE:.0f} minutes" if seconds >= 10 * MINUTE else f"{seconds / MINUTE:.1f} minutes"
