import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tlkit.data.headers import DecodeError, read_header


def encode(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8))


FORMS = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
    ("GIF", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
]


@pytest.mark.parametrize(("form", "options"), FORMS)
def test_size_is_the_one_that_was_written(noise, form, options):
    header = read_header(encode(noise, form, **options))
    assert (header.format.upper(), header.width, header.height) == (form, 53, 37)


@pytest.mark.parametrize(("form", "options"), FORMS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_truncated_files_are_refused(noise, form, options, share):
    data = encode(noise, form, **options)
    with pytest.raises(DecodeError, match="truncated: "):
        read_header(data[: int(len(data) * share)])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("end", [10, 20, 40])
def test_files_cut_in_their_header_are_refused(noise, form, end):
    with pytest.raises(DecodeError):
        read_header(encode(noise, form)[:end])


def test_a_thumbnail_does_not_pass_for_the_end_of_the_photo(noise):
    thumbnail = encode(noise.resize((8, 8)), "JPEG")
    exif = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    photo = encode(noise, "JPEG")
    whole = photo[:2] + exif + photo[2:]
    assert (read_header(whole).width, read_header(whole).height) == (53, 37)
    with pytest.raises(DecodeError, match="truncated"):
        read_header(whole[:-200])


def test_bytes_after_the_end_do_no_harm(noise):
    for form, options in FORMS:
        assert read_header(encode(noise, form, **options) + b"more").complete


def test_a_png_with_a_wrong_checksum_is_refused(noise):
    data = bytearray(encode(noise, "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(DecodeError, match="checksum"):
        read_header(bytes(data))


def png_bomb(width, height):
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [ihdr, b"IDAT" + zlib.compress(bytes(100)), b"IEND"]
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_bomb_is_refused_by_its_header():
    with pytest.raises(DecodeError, match="absurdly large: 60000 x 60000 pixels, at most 178 megapixels"):
        read_header(png_bomb(60000, 60000))
    with pytest.raises(DecodeError, match="0 x 5"):
        read_header(png_bomb(0, 5))


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        (b"", "the file is empty"),
        (b"hello world, this is no image", "not an image in a known format"),
        (b"<!DOCTYPE html><html>404", "it is a web page"),
        (b"<svg xmlns=''/>", "SVG"),
        (b"\x00\x00\x00\x18ftypheic", "HEIC"),
        (b"II+\x00\x08\x00\x00\x00" + bytes(8), "BigTIFF"),
        (b"GIF89a" + bytes(7) + b"\x99", "unknown block"),
        (b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHII", 256, 4, 2**31, 8), "longer than the file"),
    ],
)
def test_what_is_no_image_is_named(data, fragment):
    with pytest.raises(DecodeError, match=fragment):
        read_header(data)
