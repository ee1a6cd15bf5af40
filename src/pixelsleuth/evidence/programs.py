"""Traces of programs in the metadata of images and videos: their names, the stated origin of a file, and its editing
history."""

from __future__ import annotations

import re

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
SITES = ("Google Inc.", "YouTube", "Vimeo", "Twitter", "TikTok", "vid:v")
#: Generators of pictures and videos.
GENERATORS = (
    "Midjourney", "DALL-E", "DALL·E", "Stable Diffusion", "SDXL", "ComfyUI", "AUTOMATIC1111", "InvokeAI", "NovelAI",
    "Adobe Firefly", "Firefly", "Made with Google AI", "Imagen", "GPT-4o", "gpt-image", "ChatGPT", "OpenAI", "Ideogram",
    "Leonardo.Ai", "Bing Image Creator", "Image Creator from Designer", "Grok", "Gemini", "Dreamina", "Recraft",
    "Black Forest Labs", "Sora", "Runway", "Pika", "Kling", "Luma", "Veo", "HeyGen", "Synthesia", "AnimateDiff",
)  # fmt: skip

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
    """The first text that holds one of the names as a word; empty where none does."""
    pattern = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, names)) + r")(?!\w)", re.IGNORECASE)
    return next((text for text in texts if pattern.search(text)), "")


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
