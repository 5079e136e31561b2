"""Fuzz the decoder of image files, the header readers before it and the perceptual hash after it."""

import io
import struct
import zlib

from driver import fuzz


def load():
    from tlkit.data.augment import evaluation_view
    from tlkit.data.decode import check, decode
    from tlkit.data.headers import MAX_PIXELS

    def run(data):
        for content in {data, with_checksums(data)}:
            found = check(content)
            assert found.width * found.height <= MAX_PIXELS
            if found.problem is None and found.width * found.height < 2**20:
                image = decode(content)
                assert image.dtype == "uint8"
                assert image.shape[2] == 3
                evaluation_view(image, 32, "letterbox")

    return run


def with_checksums(data):
    """Return a PNG with right checksums, which no mutation finds; other data as they are."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    parts, position = [data[:8]], 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        body = data[position + 4 : position + 8 + length]
        parts.append(struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body)))
        position += 12 + length
    return b"".join(parts)


def seeds():
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    rgba = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    for image, form, options in (
        (rgba.convert("RGB"), "JPEG", {"exif": exif}),
        (rgba.convert("CMYK"), "JPEG", {"progressive": True}),
        (rgba, "PNG", {"exif": exif}),
        (rgba.convert("P"), "PNG", {"transparency": 3}),
        (Image.fromarray(pixels[..., 0].astype(np.uint16) << 8), "PNG", {}),
        (rgba, "PNG", {"save_all": True, "append_images": [rgba.transpose(Image.Transpose.ROTATE_180)]}),
        (rgba, "WEBP", {"lossless": True, "exif": exif}),
        (rgba.convert("RGB"), "WEBP", {}),
        (rgba, "WEBP", {"save_all": True, "append_images": [rgba.transpose(Image.Transpose.ROTATE_180)]}),
        (rgba.convert("RGB"), "GIF", {"save_all": True, "append_images": [rgba.convert("RGB").rotate(180)]}),
        (rgba.convert("RGB"), "BMP", {}),
        (rgba.convert("P"), "BMP", {}),
        (rgba, "TIFF", {}),
        (rgba.convert("RGB"), "TIFF", {"compression": "tiff_lzw"}),
        (rgba.convert("RGB"), "TIFF", {"compression": "tiff_adobe_deflate", "tiffinfo": {322: 16, 323: 16}}),
        (rgba.convert("1"), "TIFF", {"compression": "group4"}),
        (rgba.convert("F"), "TIFF", {}),
    ):
        file = io.BytesIO()
        image.save(file, form, **options)
        yield file.getvalue()


if __name__ == "__main__":
    watched = ["tlkit.data.headers", "tlkit.data.decode", "tlkit.data.perceptual"]
    fuzz(load, seeds, watched, {"timeout": 60, "max_len": 4096})
