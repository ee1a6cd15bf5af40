"""Files that are broken, hostile or odd, made at run time; `docs/bad-inputs.md` is made of them."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import shape_picture
from tests.picturefiles import portrait, saved, write_odd_pictures, write_refused_pictures
from tests.videofiles import face_frames, write_video
from tests.volumefiles import head, write

#: name -> the reason's code
BAD = {
    "empty.jpg": "empty",
    "truncated.jpg": "truncated",
    "truncated.png": "truncated",
    "text.jpg": "not_an_image",
    "zeros.png": "not_an_image",
    "header_only.png": "corrupt",
    "bomb.png": "too_many_pixels",
    "tiny.png": "too_small",
    "folder.jpg": "not_a_file",
    "missing.jpg": "missing",
    "pipe.jpg": "not_a_file",
    "dangling.jpg": "missing",
    "script.eps": "unsupported_format",
    "vector.svg": "unsupported_format",
    "circle.jpg": "unreadable",
    "next.jxl": "unsupported_format",
    "layers.psd": "unsupported_format",
    "camera.dng": "unsupported_format",
    "camera.cr3": "unsupported_format",
    "twelve_bits.jpg": "unsupported_format",
    "pages.pdf": "unsupported_format",
    "pictures.zip": "unsupported_format",
    "glow.exr": "unsupported_format",
    "noise.bin": "not_an_image",
    "film.jpg": "unsupported_kind",
}
#: name -> a word of the note
ODD = {
    "sixteen_bit.png": "16-bit",
    "cmyk.jpg": "CMYK",
    "animated.gif": "animated",
    "rotated.jpg": "EXIF",
    "transparent.png": "transparency",
    "grey.png": "",
    "palette.png": "",
    "wrong_suffix.png": "",
    "float.tiff": "floating-point",
    "one_bit.png": "",
    "phone.heic": "",
    "sequence.heic": "2 pictures in one file",
    "still.avif": "",
    "scan.jp2": "",
    "twelve_bits.png": "fill 12 bits",
    "twelve_bits.tif": "fill 12 bits",
    "twelve_bits_colour.tif": "fill 12 bits",
    "said_range.tif": "that the file says",
    "int32.tif": "stretched",
    "infinite.tif": "infinite",
    "float_colour.tif": "floating-point",
    "pages.tif": "largest of 3 pages",
    "lab.tif": "colours converted",
    "wide_gamut.jpg": "sRGB",
    "broken_profile.jpg": "profile cannot be used",
    "press.jpg": "sRGB",
    "linear_grey.png": "sRGB",
    "gamma.png": "gamma",
    "hdr_pq.png": "HDR",
    "gain_map.jpg": "gain map",
    "burst.mpo": "MPO",
}


def write_bad_files(folder: Path) -> None:
    """Writes every file of `BAD` and `ODD` but the one that is missing."""
    picture = Image.fromarray(shape_picture(0)).resize((96, 80))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95)
    jpeg = buffer.getvalue()
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    png = buffer.getvalue()
    plain = {
        "empty.jpg": b"",
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "truncated.png": png[: len(png) // 2],
        "text.jpg": b"this is no picture\n" * 20,
        "zeros.png": bytes(5000),
        "header_only.png": png[:33],
        "bomb.png": _bomb(),
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\nshowpage\n",
        "vector.svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='99' height='99'/>",
        "wrong_suffix.png": jpeg,
    }
    for name, data in plain.items():
        (folder / name).write_bytes(data)
    picture.resize((20, 20)).save(folder / "tiny.png")
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "noise.bin").write_bytes(np.random.default_rng(0).bytes(3000))
    (folder / "film.jpg").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(100))
    write_refused_pictures(folder)
    write_odd_pictures(folder)
    grey = np.asarray(picture.convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "sixteen_bit.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.save(folder / "animated.gif", save_all=True, append_images=[picture.rotate(90)], duration=50)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "rotated.jpg", exif=exif)
    clear = picture.convert("RGBA")
    clear.putalpha(Image.fromarray((grey > 100).astype(np.uint8) * 255))
    clear.save(folder / "transparent.png")
    picture.convert("L").save(folder / "grey.png")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("1").save(folder / "one_bit.png")
    values = grey.astype(np.float32)
    values[3, 3] = np.nan
    Image.fromarray(values).save(folder / "float.tiff")


def write_everything(folder: Path) -> Path:
    """More than 40 kinds of file, links in circles, a pipe and a socket."""
    write_bad_files(folder)
    # What is made missing there is not found by listing; an empty folder has no file.
    (folder / "folder.jpg").rmdir()
    write_video(folder / "clip.MP4", face_frames(6))
    write_video(folder / "clip.avi", face_frames(6))
    write(folder / "scan.NII.GZ", head(1)[0])
    for name, content in {
        "notes.txt": b"seen\n", "table.csv": b"a,b\n1,2\n", "page.html": b"<html></html>\n", "data.json": b"{}",
        ".DS_Store": b"\0\0\0\1Bud1", "Thumbs.db": b"\xd0\xcf\x11\xe0", ".hidden.jpg": saved(portrait(96), "JPEG"),
        "README": b"read me\n", "song.mp3": b"ID3\3" + bytes(50), "nothing": b"",
        "IMAGE.JPG": saved(portrait(), "JPEG"),
        "no_suffix": saved(portrait(), "PNG"), "letter.docx": b"PK\3\4" + bytes(60), "raw.NEF": bytes(200),
    }.items():  # fmt: skip
        (folder / name).write_bytes(content)
    (folder / "sub").mkdir()
    (folder / "sub/up").symlink_to(folder)
    (folder / "sub/inner.png").write_bytes(saved(portrait(96), "PNG"))
    with socket.socket(socket.AF_UNIX) as made:
        # A socket's path may have 108 characters.
        here = os.getcwd()
        os.chdir(folder)
        made.bind("s.sock")
        os.chdir(here)
    return folder


def _bomb() -> bytes:
    """A PNG of 40,000 x 40,000 pixels in a few hundred bytes."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
