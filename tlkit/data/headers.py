"""What the first bytes of an image file say, and whether its last bytes are there; no pixel is decoded here.

Decoders answer a truncated file with a half-grey picture and a bomb with gigabytes, so both are refused beforehand.
"""

import re
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from tlkit.errors import DataError

MAX_PIXELS = 178_000_000  # the largest that common viewers open without asking
MAX_PARTS = 1_000_000  # segments, chunks or blocks of a file; walking over so many takes some seconds
MAX_SCANS = 100  # of a progressive JPEG, each of which may be a few bytes and take a pass over the whole picture

JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # neither a stuffed byte, nor a restart, nor fill
JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers
JPEG_EXIF, JPEG_SCAN = 0xE1, 0xDA

PNG_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"

ORIENTATION = 0x0112
TIFF_WIDTH, TIFF_HEIGHT, TIFF_SAMPLES, TIFF_EXTRA_SAMPLES = 256, 257, 277, 338
TIFF_TILE_WIDTH, TIFF_TILE_HEIGHT = 322, 323
TIFF_DATA = ((273, 279), (324, 325))  # (offsets, byte counts) of strips and of tiles
TIFF_TAGS = frozenset(
    {
        ORIENTATION,
        TIFF_WIDTH,
        TIFF_HEIGHT,
        TIFF_SAMPLES,
        TIFF_EXTRA_SAMPLES,
        TIFF_TILE_WIDTH,
        TIFF_TILE_HEIGHT,
        *(tag for pair in TIFF_DATA for tag in pair),
    }
)
TIFF_TYPES = {1: "u1", 3: "u2", 4: "u4"}


class DecodeError(DataError):
    """Bytes that are no usable image; the message is the problem, to be prefixed with the file's name."""


@dataclass(frozen=True)
class Header:
    """What an image file says about itself.

    Attributes:
        format: `"JPEG"`, `"PNG"`, `"WebP"`, `"GIF"`, `"BMP"` or `"TIFF"`.
        width: Stored width in pixels, before any rotation.
        height: Stored height in pixels.
        alpha: Whether some pixels may be transparent.
        orientation: EXIF orientation, 1 (upright) to 8, of JPEG, PNG and WebP.
        complete: Whether the file reaches its own end.
    """

    format: str
    width: int
    height: int
    alpha: bool = False
    orientation: int = 1
    complete: bool = True


def read_header(data):
    """Read the header of an image file and refuse what is not worth decoding.

    Args:
        data: The bytes of a file.

    Returns:
        `Header`.

    Raises:
        DecodeError: If the bytes are empty, no known image format, truncated, or more than 178 megapixels.
    """
    if not data:
        raise DecodeError("the file is empty")
    read = next((read for magic, read in READERS if magic.match(data)), None)
    if read is None:
        raise DecodeError(f"not an image in a known format (JPEG, PNG, WebP, BMP, TIFF, GIF){_looks_like(data)}")
    try:
        header = read(data)
    except (struct.error, IndexError):
        raise DecodeError("truncated: the file ends too early") from None
    if header.width * header.height > MAX_PIXELS:
        raise DecodeError(
            f"absurdly large: {header.width} x {header.height} pixels, at most {MAX_PIXELS // 10**6} megapixels"
        )
    if header.width < 1 or header.height < 1:
        raise DecodeError(f"damaged: the {header.format} header says {header.width} x {header.height} pixels")
    if not header.complete:
        raise DecodeError(f"truncated: the {header.format} data end too early")
    return header


def _looks_like(data):
    start = data[:64].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "; it is a web page"
    if start.startswith(b"<svg") or start.startswith(b"<?xml"):
        return "; it is XML or SVG"
    if data[4:8] == b"ftyp":
        return "; it looks like HEIC, AVIF or a film: convert it to JPEG"
    return ""


def _jpeg(data):
    """Walk the segments to the end-of-image marker; a thumbnail's own marker lies inside a segment and is skipped."""
    width = height = scans = 0
    orientation, position = None, 2
    for _ in _parts("JPEG"):
        match = JPEG_MARKER.search(data, position)
        if match is None:
            break
        marker = data[match.end() - 1]
        if marker == 0xD9:
            return Header("JPEG", width, height, orientation=orientation or 1)
        scans += marker == JPEG_SCAN
        if scans > MAX_SCANS:
            raise DecodeError(f"damaged: a JPEG of more than {MAX_SCANS} scans")
        (length,) = struct.unpack_from(">H", data, match.end())
        if marker in JPEG_SIZES and not width:
            height, width = struct.unpack_from(">HH", data, match.end() + 3)
        if marker == JPEG_EXIF and not orientation and data.startswith(b"Exif\x00\x00", match.end() + 2):
            orientation = _orientation(data[match.end() + 2 : match.end() + length])
        position = match.end() + length
    if not width:
        raise DecodeError("truncated: the file ends inside its header")
    return Header("JPEG", width, height, complete=False)


def _png(data):
    width, height, _, color_type = struct.unpack_from(">IIBB", data, 16)
    if data[12:16] != b"IHDR":
        raise DecodeError("damaged: the PNG data don't begin with their header")
    alpha, orientation, has_pixels = color_type in (4, 6), None, False
    for kind, start, stop in _png_chunks(data):
        body = memoryview(data)[start + 8 : stop - 4]
        if kind == b"IEND" and not has_pixels:
            raise DecodeError("damaged: the PNG data hold no pixels")
        if kind == b"IEND":
            return Header("PNG", width, height, alpha, orientation or 1)
        has_pixels = has_pixels or kind == b"IDAT"
        if kind in (b"IHDR", b"IDAT") and stop <= len(data):
            (crc,) = struct.unpack_from(">I", data, stop - 4)
            if zlib.crc32(body, zlib.crc32(kind)) != crc:
                raise DecodeError("damaged: the PNG data fail their checksum")
        alpha = alpha or kind == b"tRNS"
        if kind == b"eXIf" and not orientation:
            orientation = _orientation(bytes(body))
    return Header("PNG", width, height, complete=False)


def plain_png(data):
    """Return a PNG without what animates it and what comes after its end: the picture that every viewer shows.

    OpenCV (5.0) ends the process at a damaged frame, even if only the first is asked for, and takes up to 4 GiB for an
    end that is said to hold something.

    Args:
        data: The bytes of a PNG whose header `read_header` has read.
    """
    kept = [data[:8]]
    for kind, start, stop in _png_chunks(data):
        if kind == b"IEND":
            break
        if kind not in PNG_ANIMATION:
            kept.append(data[start:stop])
    return b"".join([*kept, PNG_END])


def _png_chunks(data):
    """Yield what each chunk is, where it starts, and where it should stop, maybe beyond the end of the file."""
    start = 8
    for _ in _parts("PNG"):
        if start + 12 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, start)
        yield kind, start, start + 12 + length
        start += 12 + length


def _webp(data):
    (size,) = struct.unpack_from("<I", data, 4)
    kind = data[12:16]
    complete = len(data) >= size + 8
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", width & 0x3FFF, height & 0x3FFF, complete=complete)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        alpha = bool(bits >> 28 & 1)
        return Header("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, alpha, complete=complete)
    flags = data[20]
    width = int.from_bytes(data[24:27], "little") + 1
    height = int.from_bytes(data[27:30], "little") + 1
    orientation = _orientation(_riff_chunk(data, b"EXIF")) if flags & 0x08 else 1
    return Header("WebP", width, height, bool(flags & 0x10), orientation, complete)


def _riff_chunk(data, wanted):
    position = 12
    for _ in _parts("WebP"):
        if position + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == wanted:
            return data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
    return b""


def _gif(data):
    """Walk over all frames to the trailer: only the first is used, but the decoder wants the others too."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _gif_colors(flags)
    alpha, parts = False, _parts("GIF")
    while position < len(data):
        next(parts)
        kind = data[position]
        if kind == 0x3B:  # the trailer
            return Header("GIF", width, height, alpha)
        if kind == 0x2C:  # an image
            position += 10 + _gif_colors(data[position + 9]) + 1
        elif kind == 0x21:  # an extension; 0xF9 is the one that names the transparent colour
            alpha = alpha or (data[position + 1] == 0xF9 and bool(data[position + 3] & 1))
            position += 2
        else:
            raise DecodeError("damaged: the GIF data hold an unknown block")
        position = _gif_skip(data, position, parts)
    return Header("GIF", width, height, complete=False)


def _gif_colors(flags):
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _gif_skip(data, position, parts):
    while length := data[position]:
        position += 1 + length
        next(parts)
    return position + 1


def _parts(form):
    """Yield as often as a file may have another part, then refuse it."""
    yield from range(MAX_PARTS)
    raise DecodeError(f"damaged: the {form} data have more than {MAX_PARTS:,} parts")


def _bmp(data):
    offset, header_size = struct.unpack_from("<II", data, 10)
    if header_size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)  # negative: stored from the top
    packed = compression in (1, 2, 4, 5)  # run-length, or a JPEG or PNG inside: the header says the size
    size = struct.unpack_from("<I", data, 34)[0] if packed else (width * bits + 31) // 32 * 4 * height
    return Header("BMP", width, height, complete=len(data) >= offset + size)


def _tiff(data):
    tags = _tiff_tags(data)
    width, height, tile_width, tile_height, samples = (
        int(tags[tag][0]) if len(tags.get(tag, ())) else otherwise
        for tag, otherwise in (
            (TIFF_WIDTH, 0),
            (TIFF_HEIGHT, 0),
            (TIFF_TILE_WIDTH, 0),
            (TIFF_TILE_HEIGHT, 0),
            (TIFF_SAMPLES, 1),
        )
    )
    if tile_width * tile_height > MAX_PIXELS:
        raise DecodeError(f"absurdly large: tiles of {tile_width} x {tile_height} pixels")
    alpha = TIFF_EXTRA_SAMPLES in tags and samples == 4
    ends = [0]
    for offsets, counts in ((tags.get(offsets, ()), tags.get(counts, ())) for offsets, counts in TIFF_DATA):
        pieces = min(len(offsets), len(counts))
        if pieces:
            ends.append(int((offsets[:pieces].astype(np.int64) + counts[:pieces]).max()))
    return Header("TIFF", width, height, alpha, complete=0 < max(ends) <= len(data))


def _tiff_tags(data):
    """Read those of `TIFF_TAGS` that a TIFF's first directory has, as arrays; EXIF is stored in the same form.

    Of a tag that is there twice the first counts, as for the decoder, even if we can't read it.
    """
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    magic, directory = struct.unpack_from(order + "HI", data, 2)
    if magic != 42:
        raise DecodeError("a BigTIFF, which isn't supported: save it as an ordinary TIFF or as PNG")
    (entries,) = struct.unpack_from(order + "H", data, directory)
    tags = {}
    for position in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, position)
        if tag not in TIFF_TAGS or tag in tags:
            continue
        dtype = np.dtype(order + TIFF_TYPES.get(kind, "u1"))
        size = count * dtype.itemsize if kind in TIFF_TYPES else 0
        if size > len(data):
            raise DecodeError("damaged: a TIFF tag is longer than the file")
        start = position + 8 if size <= 4 else struct.unpack_from(order + "I", data, position + 8)[0]
        if start + size > len(data):
            raise DecodeError("truncated: the file ends too early")
        tags[tag] = np.frombuffer(data, dtype, size // dtype.itemsize, start)
    return tags


def _orientation(exif):
    exif = exif.removeprefix(b"Exif\x00\x00")
    if exif[:2] not in (b"II", b"MM"):
        return 1
    try:
        values = _tiff_tags(exif).get(ORIENTATION, ())
    except (struct.error, DecodeError):
        return 1  # damaged metadata are no reason to leave out a good picture
    return int(values[0]) if len(values) and values[0] in range(1, 9) else 1


READERS = (
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    (re.compile(rb"GIF8[79]a"), _gif),
    (re.compile(rb"BM"), _bmp),
    (re.compile(rb"II[*+]\x00|MM\x00[*+]"), _tiff),
)


def looks_like_image(start):
    """Say whether a file that starts with these (at least 12) bytes is of a known image format."""
    return any(magic.match(start) for magic, _ in READERS)
