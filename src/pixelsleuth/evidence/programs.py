"""Traces of programs in the metadata of images and videos: their names, the stated origin of a file, and its editing
history.

Many programs bear ordinary words and names for a name: Sora, Gemini, Luma, Vegas, Photos, Aperture. Such a name is
believed in a field that programs fill in (`named`), but not in one that people write, such as a credit line or a
comment: there only phrases count that programs are known to write, or that say no more than what it was made with
(`phrased`)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pixelsleuth.records import Statement

#: Programs and apps that change pictures or make montages; a name is matched as a word, in any case.
EDITORS = (
    "Photoshop", "GIMP", "Affinity Photo", "Pixelmator", "Paint.NET", "paint.net", "PaintShop", "Krita", "Photopea",
    "Snapseed", "PicsArt", "Facetune", "FaceApp", "BeautyPlus", "Meitu", "YouCam", "AirBrush", "Remini", "VSCO",
    "Canva", "Luminar", "PhotoScape", "Polarr", "Fotor", "Pixlr", "Photo Lab", "Adobe Express", "Illustrator",
    "CorelDRAW", "Corel", "ACDSee", "Picasa", "IrfanView", "XnView", "ImageMagick", "Skitch", "Microsoft Paint",
)  # fmt: skip
#: Programs that develop raw files or adjust whole pictures, and can also paint.
DEVELOPERS = (
    "Lightroom", "Camera Raw", "Capture One", "darktable", "RawTherapee", "DxO", "ON1", "Aperture", "Photos",
    "Digital Photo Professional", "Capture NX", "ViewNX", "NX Studio", "Silkypix",
)  # fmt: skip
#: Programs and apps that cut and change videos.
VIDEO_EDITORS = (
    "Premiere", "After Effects", "Media Encoder", "Final Cut", "iMovie", "DaVinci", "Resolve", "Vegas", "Avid",
    "CapCut", "Filmora", "InShot", "KineMaster", "LumaFusion", "Kdenlive", "Shotcut", "OpenShot", "Camtasia",
    "Movie Maker", "Clipchamp", "PowerDirector", "VSDC", "Lightworks", "Blender",
    "VideoPad", "GoPro Studio", "DeepFaceLab",
)  # fmt: skip
#: Programs and libraries that write videos anew, as converters, websites and messengers do.
CONVERTERS = ("HandBrake", "FFmpeg", "GPAC", "MP4Box", "Shutter Encoder", "XMedia Recode", "Compressor")
#: What sites write into videos that are downloaded from them.
SITES = ("Google Inc.", "YouTube", "Vimeo", "Twitter", "TikTok")
#: Generators of pictures and videos.
GENERATORS = (
    "Midjourney", "DALL-E", "DALL·E", "Stable Diffusion", "SDXL", "ComfyUI", "AUTOMATIC1111", "InvokeAI", "NovelAI",
    "Adobe Firefly", "Firefly", "Google AI", "Imagen", "GPT-4o", "gpt-image", "ChatGPT", "OpenAI", "Ideogram",
    "Leonardo.Ai", "Bing Image Creator", "Image Creator from Designer", "Grok", "Gemini", "Dreamina", "Recraft",
    "Black Forest Labs", "Sora", "Runway", "Pika", "Kling", "Luma", "Veo", "HeyGen", "Synthesia", "AnimateDiff",
)  # fmt: skip
#: What programs that fill in with AI write into a credit line, beside what `phrased` knows of itself.
GENERATOR_PHRASES = ("Apple Photos Clean Up", "AI-Generated with Google", "AI-Generated with Google Photos")

#: What may stand before and behind a program's name where a text says no more than what something was made with.
_MAKERS = "Adobe|Apple|Corel|Google|MAGIX|Microsoft|OpenAI"
_EDITION = r"Pro|Studio|Classic|Elements|Video Editor|AI|v?\d[\w.]*"
#: What parts of a text written by people are put apart by, such as the names in a credit line.
_BETWEEN = re.compile(r"\s*[;/|,\n]\s*")
#: A text that is no more than an address at a site, as downloaders such as yt-dlp write it, or TikTok's number of a
#: video.
_ADDRESS = re.compile(
    r"https?://(?:[a-z]+\.)?(?:youtube\.com|youtu\.be|vimeo\.com|twitter\.com|x\.com|tiktok\.com)/\S+|vid:v\w+",
    re.IGNORECASE,
)
#: Settings of a generator: as AUTOMATIC1111 writes them behind the prompt, and Midjourney's number of a picture. Each
#: pattern begins with a letter, for which `re` looks fast.
_SETTINGS = (
    re.compile(r"Steps: \d{1,9}, Sampler: "),
    re.compile(r"Job ID: [0-9a-f]{8}-[0-9a-f-]{27}\b"),
)
#: ComfyUI's prompt or workflow: as it begins in a WebP's EXIF (`SaveAnimatedWEBP`), and as a key of JSON.
_COMFY = re.compile(r"\s*(?:prompt|workflow):\s*\{")
_COMFY_KEY = re.compile(r'"(?:prompt|workflow)":')

#: Seconds between the times taken and changed that are not remarked on: cameras write both at once.
MAX_DATE_GAP = 120
#: The IPTC's codes of where a picture comes from (cv.iptc.org/newscodes/digitalsourcetype), by what they say.
SOURCE_TYPES = {
    "trainedAlgorithmicMedia": "ai",
    "algorithmicMedia": "ai",
    "compositeWithTrainedAlgorithmicMedia": "ai_part",
    "compositeSynthetic": "ai_part",
    "compositeCapture": "edited",
    "composite": "edited",
    "algorithmicallyEnhanced": "edited",
    "humanEdits": "edited",
    "minorHumanEdits": "edited",
    "digitalArt": "edited",
    "digitalCreation": "edited",
    "virtualRecording": "edited",
    "dataDrivenMedia": "edited",
    "digitalCapture": "camera",
    "computationalCapture": "camera",
    "negativeFilm": "camera",
    "positiveFilm": "camera",
    "print": "camera",
}


def named(names: tuple[str, ...], texts: list[str]) -> str:
    """The first text that holds one of the names as a word; empty where none does. For fields that programs fill in."""
    pattern = re.compile(rf"(?<!\w)(?:{_any_of(names)})(?!\w)", re.IGNORECASE)
    return next((text for text in texts if pattern.search(text)), "")


def phrased(names: tuple[str, ...], texts: list[str], phrases: tuple[str, ...] = ()) -> str:
    """The first part of the texts that says no more than which of the programs made or changed the file, such as "Made
    with CapCut 12", or that is one of the phrases; empty where none is. For fields that people write: "Directed by Sora
    Tanaka" names no program."""
    program = rf"(?:(?:{_MAKERS}) )?(?:{_any_of(names)})(?: (?:{_EDITION}))*"
    said = rf"(?:made|created|edited|generated) (?:with|using) {program}|generated by {program}"
    whole = re.compile(rf"{said}|{_any_of(phrases)}" if phrases else said, re.IGNORECASE)
    parts = (part.strip(" .!") for text in texts for part in _BETWEEN.split(text))
    return next((part for part in parts if whole.fullmatch(part)), "")


def address_in(texts: list[str]) -> str:
    """The first text that is an address at a site which videos are downloaded from; empty where none is."""
    return next((text for text in texts if _ADDRESS.fullmatch(text)), "")


def _any_of(names: tuple[str, ...]) -> str:
    return "|".join(map(re.escape, names))


def with_settings(texts: Iterable[tuple[str, str]]) -> list[str]:
    """The names of the texts that hold the settings of an image generator, of pairs of a name and a text."""
    return [name for name, text in texts if _holds_settings(text)]


def _holds_settings(text: str) -> bool:
    if any(pattern.search(text) for pattern in _SETTINGS) or _COMFY.match(text):
        return True
    return text.lstrip().startswith("{") and _COMFY_KEY.search(text) is not None


def camera(make: str, model: str) -> list[Statement]:
    """State which camera is named, by its maker and model, if any is."""
    name = model if model.lower().startswith(make.lower()) else f"{make} {model}"
    return [Statement("camera", "camera", {"camera": name.strip()[:80]})] if name.strip() else []


def source_type_of(value: str) -> tuple[str, str]:
    """The code of a digital source type, given as a code or an address, and what it says: a key of `SOURCE_TYPES`'
    values, or `unknown`."""
    code = value.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    return code, SOURCE_TYPES.get(code, "unknown")


def origin(xmp: dict[str, list[str]]) -> list[Statement]:
    """State what the IPTC's digital source type says."""
    found = []
    for value in dict.fromkeys(xmp.get("DigitalSourceType", [])):
        code, says = source_type_of(value)
        if says in ("ai", "ai_part"):
            found.append(Statement(f"source_type_{says}", "ai", {"type": code}))
        elif says in ("edited", "camera"):
            found.append(Statement(f"source_type_{says}", says, {"type": code}))
    return found


def steps_of(history: list[dict[str, str]]) -> list[Statement]:
    """The steps of work that are listed."""
    steps = [step for step in history if step.get("action")]
    if not steps:
        return []
    actions = ", ".join(dict.fromkeys(step["action"] for step in steps))
    values = {"n": str(len(steps)), "actions": actions[:120], "last": steps[-1].get("when", "")[:10] or "?"}
    return [Statement("history", "edited", values)]
