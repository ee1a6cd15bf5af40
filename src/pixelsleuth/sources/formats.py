"""Recognise the format of a file by its first bytes; by its name only where they say nothing.

One table serves every command: what is read, what is refused by its name with what to do, and what is plainly no
picture, video or scan.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["image", "video", "volume", "other"]

#: Bytes that are looked at.
HEAD = 4096


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: for people, "HEIC"; "" where it is not known.
        kind: what it would be judged as; `other`: nothing that could be.
        readable: whether this program reads it.
        advice: of one that it does not read, what to do.
        plain: plainly no picture, video or scan: left out of a folder, and counted.
    """

    name: str
    kind: Kind
    readable: bool = False
    advice: str = ""
    plain: bool = False

    @property
    def refusal(self) -> str:
        """Why it is not read, and what to do."""
        return f"{self.name} is not read; {self.advice or 'convert it to JPEG or PNG'}"


def _picture(name: str) -> Format:
    return Format(name, "image", True)


def _refused(name: str, advice: str = "save it as PNG, TIFF or JPEG") -> Format:
    return Format(name, "image", advice=advice)


def _video(name: str) -> Format:
    return Format(name, "video", True)


def _volume(name: str) -> Format:
    return Format(name, "volume", True)


def _unread_scan(name: str) -> Format:
    """One that is refused by its name."""
    return Format(name, "volume", advice="convert it to NIfTI")


def _plain(name: str) -> Format:
    return Format(name, "other", advice="give a picture, a video or a scan", plain=True)


def _archive(name: str) -> Format:
    return Format(name, "other", advice="unpack it and give the folder")


JPEG, PNG, GIF, WEBP, BMP, TIFF, PNM, HEIC, AVIF, JPEG2000 = map(
    _picture, ("JPEG", "PNG", "GIF", "WebP", "BMP", "TIFF", "PNM", "HEIC", "AVIF", "JPEG 2000")
)
#: For people: what can be read as a picture.
READ = "JPEG, PNG, WebP, HEIC, AVIF, TIFF, JPEG 2000, BMP, GIF or PPM"
#: For people: what can be read at all.
READABLE = f"expected {READ}, a video (MP4, MOV, WebM, MKV, AVI ...) or a scan (NIfTI, DICOM ...)"
_RAW = "develop it in a photo program, or export it, as JPEG or TIFF"
RAW = _refused("camera raw", _RAW)
JXL = _refused("JPEG XL", "convert it to PNG or JPEG, for instance by `djxl IN.jxl OUT.png`")
SVG = _refused("SVG", "draw it as PNG first")
NIFTI, DICOM = _volume("NIfTI"), _volume("DICOM")
MP4 = _video("MP4")
TEXT, SOUND = _plain("text"), _plain("sound")
UNKNOWN = Format("", "other", advice=READABLE)

#: What a file begins with, by its format; the first that fits.
_BEGINNINGS: dict[Format, tuple[bytes, ...]] = {
    JPEG: (b"\xff\xd8\xff",),
    PNG: (b"\x89PNG\r\n\x1a\n",),
    _refused("JNG"): (b"\x8bJNG\r\n\x1a\n",),
    GIF: (b"GIF87a", b"GIF89a"),
    _refused("Canon camera raw (CR2)", _RAW): (b"II*\0\x10\0\0\0CR",),
    TIFF: (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    _refused("JPEG XR"): (b"II\xbc",),
    _refused("Olympus camera raw (ORF)", _RAW): (b"IIRO", b"IIRS"),
    _refused("Panasonic camera raw (RW2)", _RAW): (b"IIU\0",),
    _refused("Fujifilm camera raw (RAF)", _RAW): (b"FUJIFILMCCD-RAW",),
    _refused("Sigma camera raw (X3F)", _RAW): (b"FOVb",),
    JPEG2000: (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    JXL: (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
    _refused("Photoshop (PSD)"): (b"8BPS",),
    _refused("Photoshop (PSB)"): (b"8BPB",),
    _refused("GIMP (XCF)"): (b"gimp xcf",),
    _refused("OpenEXR"): (b"v/1\x01",),
    _refused("Radiance HDR"): (b"#?RADIANCE", b"#?RGBE"),
    _refused("FITS"): (b"SIMPLE  =",),
    _refused("DirectDraw surface (DDS)"): (b"DDS ",),
    _refused("QOI"): (b"qoif",),
    _refused("PFM of colours"): (b"PF\n",),
    _refused("PAM"): (b"P7\n",),
    _refused("SGI"): (b"\x01\xda\0\x01", b"\x01\xda\x01\x01"),
    _refused("BPG"): (b"BPG\xfb",),
    _refused("FLIF"): (b"FLIF",),
    _refused("DjVu", "export its pages as PNG"): (b"AT&TFORM",),
    _refused("icon (ICO)"): (b"\0\0\x01\0",),
    _refused("icon (ICNS)"): (b"icns",),
    _refused("PCX"): (b"\x0a\x05\x01\x08",),
    _refused("Windows metafile (WMF)"): (b"\xd7\xcd\xc6\x9a",),
    _refused("DPX"): (b"SDPX", b"XPDS"),
    _refused("PostScript (EPS)", "draw it as PNG first"): (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    Format("PDF", "other", advice="export its pages or pictures as PNG or JPEG"): (b"%PDF",),
    _video("Matroska or WebM"): (b"\x1aE\xdf\xa3",),
    _video("MPEG"): (b"\0\0\x01\xba", b"\0\0\x01\xb3"),
    _video("Flash video"): (b"FLV\x01",),
    _video("Windows Media"): (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",),
    _video("Ogg"): (b"OggS",),
    _video("RealMedia"): (b".RMF",),
    _video("MXF"): (b"\x06\x0e\x2b\x34\x02\x05\x01\x01",),
    _video("YUV4MPEG"): (b"YUV4MPEG2 ",),
    _video("IVF"): (b"DKIF",),
    _video("NUT"): (b"nut/multimedia",),
    _volume("NRRD"): (b"NRRD0",),
    NIFTI: (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c"),
    _unread_scan("MetaImage"): (b"ObjectType",),
    _unread_scan("MINC or netCDF"): (b"CDF\x01",),
    Format("HDF5", "other", advice="export its pictures as PNG, its scans as NIfTI"): (b"\x89HDF\r\n\x1a\n",),
    Format("NumPy array", "other", advice="save a picture as PNG, a scan as NIfTI"): (b"\x93NUMPY",),
    Format("MATLAB file", "other", advice="save a picture as PNG, a scan as NIfTI"): (b"MATLAB 5",),
    _archive("ZIP archive"): (b"PK\x03\x04", b"PK\x05\x06"),
    _archive("7z archive"): (b"7z\xbc\xaf\x27\x1c",),
    _archive("RAR archive"): (b"Rar!\x1a\x07",),
    _archive("bzip2 file"): (b"BZh",),
    _archive("xz file"): (b"\xfd7zXZ\0",),
    _archive("Zstandard file"): (b"\x28\xb5\x2f\xfd",),
    _archive("LZ4 file"): (b"\x04\x22\x4d\x18",),
    SOUND: (b"ID3", b"fLaC", b"\xff\xfb", b"\xff\xf1", b"MThd"),
    _plain("program"): (b"\x7fELF",),
    _plain("database"): (b"SQLite format 3\0",),
}
#: Brands of ISO media files that hold a still picture.
_STILLS = frozenset({
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1", b"miaf", b"MiHE",
    b"MiHA", b"1pic", b"avci", b"avcs", b"j2ki", b"j2is", b"jpeg", b"jpgs", b"vvic", b"evbi", b"evmi", b"unif",
})  # fmt: skip
_SOUNDS = frozenset({b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B "})
#: Boxes that a QuickTime or MP4 file without a `ftyp` may begin with.
_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_VR = re.compile(
    rb"AE|AS|AT|CS|DA|DS|DT|FD|FL|IS|LO|LT|OB|OD|OF|OL|OV|OW|PN|SH|SL|SQ|SS|ST|SV|TM|UC|UI|UL|UN|UR|US|UT|UV"
)
_PNM = re.compile(rb"P[1-6](?:\s+#[^\n]*)*\s+\d+\s|Pf\n")

_BY_SUFFIX: dict[str, Format] = {
    suffix: found
    for names, found in (
        (".jpg .jpeg .jpe .jfif .mpo .jps", JPEG), (".png .apng", PNG), (".gif", GIF), (".webp", WEBP),
        (".bmp .dib", BMP), (".tif .tiff .btf .tf8", TIFF), (".ppm .pgm .pbm .pnm", PNM),
        (".heic .heif .heics .heifs .hif .avci", HEIC), (".avif .avifs", AVIF),
        (".jp2 .j2k .jpf .jpx .jpm .j2c .jpc", JPEG2000), (".jxl", JXL),
        (".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .raf .orf .rw2 .pef .srw .x3f .3fr .fff .iiq .erf .kdc .dcr "
         ".mef .mos .mrw .rwl", RAW),
        (".psd .psb", _refused("Photoshop (PSD)")), (".xcf", _refused("GIMP (XCF)")), (".exr", _refused("OpenEXR")),
        (".tga", _refused("Targa (TGA)")), (".ico .cur", _refused("icon (ICO)")), (".svg .svgz", SVG),
        (".eps .ps .ai", _refused("PostScript (EPS)", "draw it as PNG first")), (".pcx", _refused("PCX")),
        (".wmf .emf", _refused("Windows metafile (WMF)")), (".jxr .wdp .hdp", _refused("JPEG XR")),
        (".fits .fit .fts", _refused("FITS")), (".dds", _refused("DirectDraw surface (DDS)")),
        (".sgi .rgb .rgba .bw", _refused("SGI")), (".pam", _refused("PAM")), (".pfm", PNM),
        (".qoi", _refused("QOI")), (".dpx", _refused("DPX")), (".bpg", _refused("BPG")),
        (".mp4 .m4v .mov .qt .3gp .3g2 .3gpp .f4v .insv", MP4), (".avi .divx", _video("AVI")),
        (".mkv .webm .mk3d", _video("Matroska or WebM")), (".wmv .asf .wm", _video("Windows Media")),
        (".flv", _video("Flash video")), (".mpg .mpeg .mpe .m2v .m1v .vob .mod", _video("MPEG")),
        (".ts .mts .m2ts .m2t .tod .tp .trp", _video("MPEG transport stream")), (".ogv .ogm", _video("Ogg")),
        (".rm .rmvb", _video("RealMedia")), (".mxf .gxf", _video("MXF")), (".dv .dif", _video("DV")),
        (".h264 .264 .h265 .265 .hevc .avc", _video("raw video stream")), (".y4m", _video("YUV4MPEG")),
        (".ivf .obu", _video("IVF")),
        (".braw .r3d .ari", Format("cinema raw", "video", advice="export it as H.264 in MP4")),
        (".nii .nia .hdr .img", NIFTI), (".dcm .dicom .ima .dic", DICOM), (".mgz .mgh", _volume("FreeSurfer (MGH)")),
        (".nrrd .nhdr", _volume("NRRD")), (".mha .mhd", _unread_scan("MetaImage")),
        (".mnc", _unread_scan("MINC or netCDF")),
        (".head .brik", _unread_scan("AFNI")), (".par .rec", _unread_scan("Philips PAR/REC")),
        (".vti .vtk", _unread_scan("VTK")),
        (".xml .html .htm .json .jsonl .csv .tsv .txt .md .rst .log .ini .cfg .conf .toml .yaml .yml .py "
         ".js .css .r .m .sh .bat .c .h .cpp .java .ipynb .tex .bib .srt .vtt .xmp .aae .thm .lrv .url "
         ".webloc .lnk .bval .bvec .sha256 .md5 .sum .lock .sqlite .db .pkl .pickle .pt .pth .ckpt .onnx "
         ".safetensors .npz .exe .dll .so .o .class .pyc",
         _plain("data")),
        (".doc .docx .xls .xlsx .ppt .pptx .odt .ods .odp .rtf .pages .numbers .key .epub", _plain("document")),
        (".mp3 .wav .flac .aac .m4a .ogg .oga .opus .wma .aif .aiff .amr .mid .midi", SOUND),
        (".zip", _archive("ZIP archive")), (".tar .tgz", _archive("tar archive")), (".7z", _archive("7z archive")),
        (".rar", _archive("RAR archive")), (".gz", _archive("gzip file")),
    )
    for suffix in names.split()
}  # fmt: skip
#: Suffixes that claim a picture that can be read.
IMAGE_SUFFIXES = frozenset(s for s, found in _BY_SUFFIX.items() if found.kind == "image" and found.readable)
VIDEO_SUFFIXES = frozenset(s for s, found in _BY_SUFFIX.items() if found.kind == "video" and found.readable)
#: Names that systems leave in folders.
_LITTER = frozenset({"thumbs.db", "desktop.ini", "icon\r", "ehthumbs.db", "__macosx", "@eadir"})


def format_of(head: bytes, name: str = "") -> Format:
    """The format of a file that begins with `head`, at least `HEAD` bytes where it has so many.

    Args:
        name: of the file; decides only where the bytes do not, in upper or lower case alike.
    """
    found = _by_content(head, name)
    if found not in (TEXT, None) and found.name != "ZIP archive":
        return found
    claimed = claimed_by(name)
    if found in (TEXT, None) and claimed is not None and not (found is TEXT and _claims_wrongly(name)):
        return claimed
    if found is not None and found is not TEXT and claimed is not None and claimed.plain:
        # Documents of offices are archives.
        return claimed
    return found or UNKNOWN


def claimed_by(name: str) -> Format | None:
    """The format that a file's name claims; None where it claims none."""
    lower = name.lower()
    for ending in (".nii.gz", ".img.gz", ".hdr.gz"):
        if lower.endswith(ending):
            return NIFTI
    if lower.endswith(".mgh.gz"):
        return _BY_SUFFIX[".mgz"]
    return _BY_SUFFIX.get(os.path.splitext(lower)[1])


def _claims_wrongly(name: str) -> bool:
    """Whether a name that is a video's or a scan's is as often a text's: TypeScript, headers and notes."""
    return os.path.splitext(name.lower())[1] in (".ts", ".hdr", ".head", ".rec", ".par", ".mod", ".key")


def _by_content(head: bytes, name: str) -> Format | None:
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[128:132] == b"DICM":
        return DICOM
    if head.startswith(b"RIFF"):
        return {b"WEBP": WEBP, b"AVI ": _BY_SUFFIX[".avi"], b"WAVE": SOUND}.get(head[8:12])
    for found, beginnings in _BEGINNINGS.items():
        if head.startswith(beginnings):
            return found
    if head[4:8] in _BOXES and (head[:1] == b"\0" or (head[4:8] == b"mdat" and not _is_text(head))):
        return MP4
    if head.startswith(b"BM") and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:
        return BMP
    if _PNM.match(head):
        return PNM
    if head.startswith(b"\x1f\x8b"):
        return _compressed(head, name)
    if _dicom_without_preamble(head):
        return DICOM
    if head[257:262] == b"ustar":
        return _BY_SUFFIX[".tar"]
    if any(_every(head, first, step) for first, step in ((0, 188), (4, 192), (0, 204))):
        return _BY_SUFFIX[".ts"]
    if head[:4] == b"\0\0\0\1" and head[4:5] and head[4] & 0x1F in (7, 9):
        return _BY_SUFFIX[".h264"]
    return _text(head) if _is_text(head) else None


def _text(head: bytes) -> Format:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<svg") or (start.startswith((b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in start):
        return SVG
    return TEXT


_BMP_HEADERS = frozenset(size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124))


def _iso_media(head: bytes) -> Format:
    length = int.from_bytes(head[:4], "big")
    major = head[8:12]
    brands = [major, *(head[i : i + 4] for i in range(16, min(length, len(head)), 4))]
    if major == b"crx ":
        return _refused("Canon camera raw (CR3)", _RAW)
    if major in (b"avif", b"avis") or (major in _STILLS and {b"avif", b"avis"} & set(brands)):
        return AVIF
    if major in _STILLS:
        return HEIC
    if major == b"jxl ":
        return JXL
    return SOUND if major in _SOUNDS else MP4


def _compressed(head: bytes, name: str) -> Format:
    """What lies in a gzip file: its first bytes are unpacked, no more."""
    try:
        inner = zlib.decompressobj(wbits=31).decompress(head, 1024)
    except zlib.error:
        inner = b""
    if inner[257:262] == b"ustar":
        return _BY_SUFFIX[".tgz"]
    if inner[:4] == b"\0\0\0\x01" and len(inner) > 30:
        return _BY_SUFFIX[".mgz"]
    found = _by_content(inner, "") if inner and not inner.startswith(b"\x1f\x8b") else None
    if found in (NIFTI, SVG) or (found is not None and found.kind == "volume"):
        return found
    claimed = claimed_by(name)
    return claimed if claimed is not None and claimed.kind == "volume" else _BY_SUFFIX[".gz"]


def _dicom_without_preamble(head: bytes) -> bool:
    """Whether a file begins with an element of DICOM's group 2 or 8, its representation said or not."""
    if head[:2] not in (b"\x02\0", b"\x08\0") or len(head) < 16 or head[3] > 1:
        return False
    if _VR.fullmatch(head[4:6]):
        return True
    # Implicit: the length of the first element follows its tag, and then the next element of the group.
    length = int.from_bytes(head[4:8], "little")
    after = head[8 + length : 10 + length]
    return length < 512 and length % 2 == 0 and after in (b"\x02\0", b"\x08\0")


def _every(head: bytes, first: int, step: int) -> bool:
    """Whether the sync byte of MPEG's packets stands at its places."""
    marks = head[first::step][:8]
    return len(marks) >= 3 and set(marks) == {0x47}


def _is_text(head: bytes) -> bool:
    if not head or b"\0" in head:
        return head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head):
        return False
    try:
        head[:-4].decode("utf-8")
    except UnicodeDecodeError:
        # The last character may be cut; what fails before is no UTF-8.
        return False
    return True


def first_bytes(path: str | os.PathLike[str]) -> bytes:
    """The first `HEAD` bytes of a regular file, b"" of anything else. Never waits, as for a pipe's writer.

    Raises:
        OSError: it cannot be opened or read.
    """
    # What is a file now may be a pipe by the time it is opened.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return os.read(descriptor, HEAD)
    finally:
        os.close(descriptor)


def sniffed(path: str | os.PathLike[str]) -> Format:
    """The format of a file; where it cannot be read, what its name claims."""
    try:
        head = first_bytes(path)
    # A name with a NUL byte, or that is no text, is a ValueError.
    except (OSError, ValueError):
        head = b""
    return format_of(head, Path(path).name)


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden or was left by a system."""
    return name.startswith(".") or name.lower() in _LITTER
