"""Whether bytes begin a video, by their content. What a file is called plays no part."""

from __future__ import annotations

import re

LONGEST_SIGNATURE = 4096
"""Bytes that are enough to tell."""

_STARTS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF: WMV
    b".RMF",  # RealMedia
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02",  # MXF
    b"DKIF",  # IVF
    b"nut/multimedia container",
    b"YUV4MPEG2 ",
    b"\x1f\x07\x00",  # DV
)
_QUICKTIME_ATOMS = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_BRANDS_WITHOUT_VIDEO = frozenset({b"M4A ", b"M4B ", b"M4P ", b"crx "})
"""Of the ISO base media file format: sound, and Canon's raw pictures."""

# Start codes of MPEG-1, MPEG-2 and MPEG-4 part 2 (pack, sequence, object), of H.264 (sequence parameters, delimiter,
# supplement), and of H.265 (parameter sets, delimiter, supplement).
_START_CODE = re.compile(
    rb"\0{2,3}\x01(?:[\xb0\xb3\xb5\xba]|[\0-\x1f]\0\0\x01|[\x06\x09\x27\x47\x67]|[\x40\x42\x44\x46\x4e]\x01)"
)
_PACKETS = (188, 192, 204)
"""Lengths of a packet of an MPEG transport stream: plain, with times (Blu-ray, AVCHD), and with error correction."""

_LEAST_PACKETS = 4


def is_video(data: bytes) -> bool:
    """Whether a file that begins with these bytes, ``LONGEST_SIGNATURE`` of them or all, is a video.

    Pictures of several frames are no videos: ask ``shared.formats`` first.
    """
    if data.startswith(_STARTS) or _START_CODE.match(data):
        return True
    if data[4:8] == b"ftyp":
        return data[8:12] not in _BRANDS_WITHOUT_VIDEO
    if data[4:8] in _QUICKTIME_ATOMS:
        return True
    if data.startswith(b"RIFF"):
        return data[8:12] == b"AVI "
    if data.startswith(b"OggS"):
        return b"theora" in data[:512] or b"OVP80" in data[:512]
    return any(_is_transport_stream(data, length) for length in _PACKETS)


def _is_transport_stream(data: bytes, length: int) -> bool:
    """Recordings may begin in the middle of a packet, so a mark is looked for that comes again and again."""
    marks = min(len(data) // length, 16)
    return marks >= _LEAST_PACKETS and any(
        all(data[start + number * length] == 0x47 for number in range(marks)) for start in range(length)
    )
