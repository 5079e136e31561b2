import io
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from tlkit.data.decode import check, decode
from tlkit.data.headers import DecodeError


@pytest.fixture(scope="module")
def photo():
    """A soft, colourful picture: what a lossy format keeps within a few levels."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def veiled(photo):
    """The picture behind an alpha ramp."""
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 96).astype(np.uint8), (72, 1)))
    image = photo.copy()
    image.putalpha(ramp)
    return image


def encode(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def by_pillow(data):
    """Decode independently: upright, on white, RGB."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def assert_alike(received, expected, mean=1.0):
    assert received.shape == expected.shape
    assert received.dtype == np.uint8
    assert received.flags.c_contiguous
    assert np.abs(received.astype(int) - expected).mean() <= mean


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        ("RGB", "JPEG", {"quality": 95}),
        ("RGB", "JPEG", {"progressive": True}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {"quality": 95}),
        ("RGB", "PNG", {}),
        ("L", "PNG", {}),
        ("1", "PNG", {}),
        ("P", "PNG", {}),
        ("P", "PNG", {"transparency": 3}),
        ("RGB", "WEBP", {}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGB", "BMP", {}),
        ("P", "BMP", {}),
        ("L", "BMP", {}),
        ("RGB", "TIFF", {}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "TIFF", {"compression": "jpeg"}),
        ("CMYK", "TIFF", {}),
        ("P", "TIFF", {}),
        ("1", "TIFF", {"compression": "group4"}),
        ("P", "GIF", {}),
        ("P", "GIF", {"transparency": 3}),
    ],
)
def test_pixels_are_those_that_pillow_sees(photo, mode, form, options):
    data = encode(photo.quantize(32) if mode == "P" else photo.convert(mode), form, **options)
    assert check(data)[:3] == (None, 96, 72)
    assert_alike(decode(data), by_pillow(data))


@pytest.mark.parametrize(
    ("form", "options"), [("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})]
)
def test_alpha_is_laid_on_white(veiled, form, options):
    data = encode(veiled, form, **options)
    assert check(data).problem is None
    assert_alike(decode(data), by_pillow(data))
    assert (decode(data)[:, 0] == 255).all()  # there the veil is complete


def test_gray_with_alpha_is_laid_on_white(veiled):
    data = encode(veiled.convert("LA"), "PNG")
    assert_alike(decode(data), by_pillow(data))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(photo, veiled, form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {274: orientation}} if form == "TIFF" else {"exif": exif}
    for image in (photo,) if form == "JPEG" else (photo, veiled):
        data = encode(image, form, **options)
        assert_alike(decode(data), by_pillow(data))


@pytest.mark.parametrize(("suffix", "channels"), [(".png", 1), (".png", 3), (".png", 4), (".tiff", 1), (".tiff", 3)])
def test_16_bits_are_reduced_to_8(suffix, channels):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    stack = np.dstack([ramp] * min(channels, 3) + [np.full_like(ramp, 65535)] * (channels == 4))
    data = cv2.imencode(suffix, stack)[1].tobytes()
    expected = np.repeat((ramp / 257)[..., None], 3, axis=2)
    assert np.abs(decode(data) - expected).max() <= 1


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_stands_for_an_animation(form):
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue")]
    data = encode(frames[0], form, save_all=True, append_images=frames[1:])
    assert check(data).problem is None
    assert np.abs(decode(data)[15, 20].astype(int) - [255, 0, 0]).max() <= 3


def test_damaged_pixels_are_refused_and_keep_stderr_clean(tmp_path):
    bad = bytearray(encode(Image.new("RGB", (64, 64)), "WEBP"))
    bad[20:] = bytes(len(bad) - 20)
    (tmp_path / "bad.webp").write_bytes(bad)
    with pytest.raises(DecodeError):
        decode(bytes(bad))
    code = (
        f"from tlkit.data.decode import check; print(check(open({str(tmp_path / 'bad.webp')!r}, 'rb').read()).problem)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() != "None"
    assert done.stderr == ""


def test_float_tiff_is_refused():
    data = encode(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF")
    assert "variant of TIFF" in check(data).problem


def test_real_photos_pass(shared_data):
    photos = sorted((shared_data / "clothing").rglob("*.jpg"))[::20]
    for photo in photos:
        data = photo.read_bytes()
        assert check(data).problem is None
        assert_alike(decode(data), by_pillow(data), mean=1.5)


@pytest.fixture(scope="module")
def large(photo):
    return photo.resize((384, 288), Image.Resampling.BICUBIC)


def averaged(image, factor):
    """Average squares of pixels: what a reduced decode should come close to."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    return image.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))


@pytest.mark.parametrize(
    ("at_least", "factor"),
    [(None, 1), (1000, 1), (289, 1), (145, 1), (144, 2), (73, 2), (72, 4), (37, 4), (36, 8), (1, 8)],
)
@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {}), ("RGB", {"progressive": True}), ("L", {}), ("CMYK", {}), ("RGB", {"subsampling": 0})],
)
def test_a_large_jpeg_is_reduced_to_what_is_needed(large, mode, options, at_least, factor):
    data = encode(large.convert(mode), "JPEG", quality=95, **options)
    assert_alike(decode(data, at_least), averaged(decode(data), factor), mean=0.5)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (63, 64), (64, 63), (127, 129), (401, 299), (1023, 520)])
def test_a_reduced_jpeg_is_never_smaller_than_needed(large, size):
    data = encode(large.resize(size), "JPEG")
    width, height = size
    for at_least in range(1, 140):
        rows, columns, _ = decode(data, at_least).shape
        factor = max(f for f in (1, 2, 4, 8) if f == 1 or min(size) // f >= at_least)
        assert (rows, columns) == (-(-height // factor), -(-width // factor))  # parts of a pixel are kept
        assert min(rows, columns) >= min(at_least, *size)


@pytest.mark.parametrize("at_least", [36, 72, 144])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_a_reduced_jpeg(large, orientation, at_least):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(large, "JPEG", exif=exif, quality=95)
    assert_alike(decode(data, at_least), averaged(by_pillow(data), 288 // at_least), mean=1.0)


def test_a_reduced_progressive_jpeg_has_the_same_pixels(large):
    baseline, progressive = (encode(large, "JPEG", progressive=choice) for choice in (False, True))
    assert baseline != progressive
    for at_least in (36, 72, 144):
        assert np.array_equal(decode(baseline, at_least), decode(progressive, at_least))


def test_a_reduced_gray_jpeg_stays_gray(large):
    image = decode(encode(large.convert("L"), "JPEG"), 72)
    assert (image == image[..., :1]).all()


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_only_a_jpeg_is_reduced(large, form):
    data = encode(large, form)
    assert np.array_equal(decode(data, 8), decode(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_refused_at_any_size(large, progressive):
    data = encode(large, "JPEG", progressive=progressive)
    for length in (0, 20, len(data) // 2, len(data) - 2):
        with pytest.raises(DecodeError):
            decode(data[:length], 8)
