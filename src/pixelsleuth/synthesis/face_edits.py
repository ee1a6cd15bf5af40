"""Edit faces as people and programs do, with exact masks; shapes follow the landmarks of the face.

Every kind takes a face crop (H, W, 3) uint8 RGB with its five landmarks, some a donor's too, and gives an `Edited`.
Self-blending follows Shiohara & Yamasaki 2022, face-shaped blending Li et al. 2020 (Face X-ray); the others repeat what
retouching programs do. Randomness comes from the generator that is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pixelsleuth.sources.images import jpeg_round_trip
from pixelsleuth.synthesis import anomalies
from pixelsleuth.synthesis.anomalies import Edited, laid_over, matched_colours, poisson_blended, softened
from pixelsleuth.synthesis.landmarks import FEATURES, hull, outlines


@dataclass(frozen=True)
class Portrait:
    """A face crop: `pixels` (H, W, 3) uint8 and `five` (5, 2) landmarks in its pixels."""

    pixels: np.ndarray
    five: np.ndarray

    @property
    def span(self) -> float:
        """Distance between the eyes in pixels, at least 4."""
        return max(4.0, float(np.hypot(*(self.five[1] - self.five[0]))))


Generator = np.random.Generator


# --- shapes ---


def face_mask(face: Portrait, generator: Generator) -> np.ndarray:
    """(H, W) float32 in {0, 1}: the whole face, without its forehead, its inside, or one to three of its features."""
    shape, regions = face.pixels.shape, outlines(face.five)
    choice = generator.random()
    if choice < 0.35:
        return hull(regions["face"], shape)
    inner = np.concatenate([regions[name] for name in ("left_brow", "right_brow", "nose", "mouth")])
    if choice < 0.55:
        # From the brows down: the forehead stays.
        chin = regions["face"][regions["face"][:, 1] > regions["nose"][:, 1].min()]
        return hull(np.concatenate([inner, chin]), shape)
    if choice < 0.75:
        return hull(_grown(inner, generator.uniform(1.0, 1.25)), shape)
    names = generator.choice(FEATURES, size=int(generator.integers(1, 4)), replace=False)
    return np.maximum.reduce([feature_mask(face, str(name), generator) for name in names])


def feature_mask(face: Portrait, feature: str, generator: Generator) -> np.ndarray:
    """(H, W) float32 in {0, 1}: a feature with some of the skin around it; an eye now and then with its brow."""
    regions = outlines(face.five)
    points = regions[feature]
    if feature.endswith("_eye"):
        if generator.random() < 0.4:
            points = np.concatenate([points, regions[feature.replace("_eye", "_brow")]])
        return hull(_grown(points, *generator.uniform((1.1, 1.3), (1.6, 2.4))), face.pixels.shape)
    return hull(_grown(points, generator.uniform(1.05, 1.5)), face.pixels.shape)


def _grown(points: np.ndarray, across: float, down: float | None = None) -> np.ndarray:
    middle = (points.min(0) + points.max(0)) / 2
    return middle + (points - middle) * np.array([across, down or across])


def bent(mask: np.ndarray, generator: Generator, strength: float = 0.03) -> np.ndarray:
    """The mask under a smooth random displacement of about `strength` of the side."""
    return anomalies.warped(mask, generator, strength)


def soft(mask: np.ndarray, generator: Generator, least: float = 0.004, most: float = 0.05) -> np.ndarray:
    """The mask with a rim softened by a random Gaussian, of `least` to `most` of the side, inwards and outwards."""
    side = mask.shape[0]
    sigma = side * float(np.exp(generator.uniform(np.log(least), np.log(most))))
    return cv2.GaussianBlur(mask, (0, 0), max(sigma, 0.3))


def onto(face: Portrait, donor: Portrait, points: slice | list[int] = slice(None)) -> np.ndarray:
    """The donor's pixels moved, turned and scaled (a least-squares similarity) until `points` of its five landmarks lie
    on the face's; (H, W, 3) uint8."""
    ours, theirs = (p[:, 0] + 1j * p[:, 1] for p in (face.five[points], donor.five[points]))
    spread = theirs - theirs.mean()
    turn = complex((spread.conj() * (ours - ours.mean())).sum() / max(float((abs(spread) ** 2).sum()), 1e-9))
    move = np.array([[turn.real, -turn.imag, 0.0], [turn.imag, turn.real, 0.0]])
    shift = ours.mean() - turn * theirs.mean()
    move[:, 2] = shift.real, shift.imag
    method = cv2.INTER_AREA if abs(turn) < 1 else cv2.INTER_CUBIC
    height, width = face.pixels.shape[:2]
    return cv2.warpAffine(donor.pixels, move, (width, height), flags=method, borderMode=cv2.BORDER_REFLECT)


def blended(under: np.ndarray, over: np.ndarray, alpha: np.ndarray) -> Edited:
    """`over` laid onto `under` by `alpha` in [0, 1]; the mask is where it differs."""
    mixed = under + (over.astype(np.float32) - under) * alpha[..., None]
    return Edited(np.clip(np.rint(mixed), 0, 255).astype(np.uint8), alpha > 0.05)


# --- kinds ---


def self_blend(face: Portrait, generator: Generator) -> Edited:
    """The face laid over itself, one of the two recoloured, softened or sharpened, a little moved and scaled."""
    picture = face.pixels
    source, target = picture, picture
    if generator.random() < 0.5:
        source = _restyled(picture, generator)
    else:
        target = _restyled(picture, generator)
    height, width = picture.shape[:2]
    scale = generator.uniform(0.95, 1 / 0.95)
    move = cv2.getRotationMatrix2D((width / 2, height / 2), 0, scale)
    move[:, 2] += generator.uniform(-0.03, 0.03) * width, generator.uniform(-0.015, 0.015) * height
    mask = face_mask(face, generator)
    moved = [
        cv2.warpAffine(p, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for p in (source, mask)
    ]
    alpha = soft(bent(moved[1], generator), generator) * generator.choice([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    return blended(target, moved[0], alpha.astype(np.float32))


def _restyled(picture: np.ndarray, generator: Generator) -> np.ndarray:
    """Another processing of the same picture: colours, then softer or sharper (Shiohara & Yamasaki 2022, 3.2)."""
    made = picture.astype(np.float32)
    if generator.random() < 0.6:
        made = made + generator.uniform(-20, 20, 3).astype(np.float32)
    if generator.random() < 0.6:
        mean = made.mean()
        made = (made - mean) * generator.uniform(0.85, 1.15) + mean + generator.uniform(-20, 20)
    made8 = np.clip(made, 0, 255).astype(np.uint8)
    if generator.random() < 0.4:
        hsv = cv2.cvtColor(made8, cv2.COLOR_RGB2HSV).astype(np.int16)
        hsv[..., 0] = (hsv[..., 0] + int(generator.integers(-6, 7))) % 180
        hsv[..., 1] = np.clip(hsv[..., 1] * generator.uniform(0.75, 1.25), 0, 255)
        made8 = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    choice = generator.random()
    if choice < 0.45:
        return softened(made8, generator.uniform(1.3, 3.0))
    if choice < 0.6:
        return anomalies.sharpened(made8, generator.uniform(0.4, 1.2))
    if choice < 0.7:
        return anomalies.blurred(made8, generator.uniform(0.5, 1.5))
    return jpeg_round_trip(made8, int(generator.integers(35, 85))) if choice < 0.85 else made8


def donor_swap(face: Portrait, donor: Portrait, generator: Generator) -> Edited:
    """The whole face of another person, feathered or cloned seamlessly, its colours matched more or less."""
    over = onto(face, donor)
    if generator.random() < 0.4:
        over = softened(over, generator.uniform(1.2, 3.0))
    regions = outlines(face.five)
    if generator.random() < 0.5:
        mask = hull(regions["face"], face.pixels.shape)
    else:
        inner = np.concatenate([regions[name] for name in ("left_brow", "right_brow", "nose", "mouth")])
        mask = hull(_grown(inner, generator.uniform(1.05, 1.35)), face.pixels.shape)
    return _laid(face.pixels, over, bent(mask, generator, 0.02), generator, (0.5, 1.0, 1.0))


def feature_swap(face: Portrait, donor: Portrait, generator: Generator) -> Edited:
    """One feature of another person, or both eyes."""
    feature = str(generator.choice(FEATURES))
    mask = feature_mask(face, feature, generator)
    points = [0, 1] if feature.endswith("_eye") else [0, 1, 2] if feature == "nose" else [3, 4]
    if feature == "left_eye" and generator.random() < 0.5:
        mask = np.maximum(mask, feature_mask(face, "right_eye", generator))
    over = onto(face, donor, points)
    return _laid(face.pixels, over, bent(mask, generator, 0.01), generator, (0.0, 0.7, 1.0))


def mouth_replaced(face: Portrait, donor: Portrait, generator: Generator) -> Edited:
    """Mouth and chin of another picture, as reenactment and dubbing lay them over."""
    regions = outlines(face.five)
    lower = regions["face"][regions["face"][:, 1] > regions["nose"][:, 1].max()]
    mask = hull(np.concatenate([_grown(regions["mouth"], 1.3), lower]), face.pixels.shape)
    over = softened(onto(face, donor, [2, 3, 4]), generator.uniform(1.0, 2.5))
    return _laid(face.pixels, over, bent(mask, generator, 0.02), generator, (0.7, 1.0))


def upper_replaced(face: Portrait, donor: Portrait, generator: Generator) -> Edited:
    """Eyes and brows of another person, and what stands on them: glasses, make-up, hair."""
    regions = outlines(face.five)
    points = np.concatenate([regions[name] for name in ("left_eye", "right_eye", "left_brow", "right_brow")])
    mask = hull(_grown(points, generator.uniform(1.1, 1.4), generator.uniform(1.2, 1.8)), face.pixels.shape)
    return _laid(face.pixels, onto(face, donor, [0, 1, 2]), bent(mask, generator, 0.02), generator, (0.5, 1.0))


def _laid(
    under: np.ndarray, over: np.ndarray, mask: np.ndarray, generator: Generator, strengths: tuple[float, ...]
) -> Edited:
    """Feathered with colours matched by one of `strengths`, or cloned seamlessly (Perez et al. 2003)."""
    if generator.random() < 0.35:
        return poisson_blended(under, over, mask > 0.5)
    alpha = soft(mask, generator)
    return blended(under, matched_colours(over, under, alpha, float(generator.choice(strengths))), alpha)


def copied_eye(face: Portrait, generator: Generator) -> Edited:
    """One eye copied over the other, mirrored."""
    sides = ["left_eye", "right_eye"]
    if generator.random() < 0.5:
        sides.reverse()
    mirror = face.pixels[:, ::-1]
    width = face.pixels.shape[1]
    five = face.five.copy()
    five[:, 0] = width - 1 - five[:, 0]
    # Names of mirrored points change sides.
    other = Portrait(np.ascontiguousarray(mirror), five[[1, 0, 2, 4, 3]])
    alpha = soft(feature_mask(face, sides[0], generator), generator, 0.004, 0.02)
    return laid_over(face.pixels, onto(face, other, [0, 1]), alpha, float(generator.choice([0.0, 1.0])))


def liquified(face: Portrait, generator: Generator) -> Edited:
    """Eyes enlarged, face slimmed, nose or mouth made larger or smaller: pixels moved, nothing laid over."""
    height, width = face.pixels.shape[:2]
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    dx, dy = np.zeros((2, height, width), np.float32)
    regions, span = outlines(face.five), face.span

    def swollen(middle: np.ndarray, radius: float, amount: float) -> None:
        x, y = across - middle[0], down - middle[1]
        fall = np.clip(1 - (x**2 + y**2) / radius**2, 0, 1) ** 2 * amount
        dx[...] -= x * fall
        dy[...] -= y * fall

    choice = generator.integers(4)
    if choice == 0:
        amount = generator.uniform(0.12, 0.4)
        for name in ("left_eye", "right_eye"):
            swollen(regions[name].mean(0), span * generator.uniform(0.45, 0.6), amount)
    elif choice == 1:
        # Cheeks and jaw drawn in (or out) towards the middle line.
        middle = regions["nose"].mean(0)
        pull = generator.uniform(0.08, 0.2) * span * generator.choice([1, 1, -1])
        for point in regions["face"][[11, 25]] * 0.7 + regions["mouth"].mean(0) * 0.3:
            x, y = across - point[0], down - point[1]
            fall = np.clip(1 - (x**2 + y**2) / (span * 0.9) ** 2, 0, 1) ** 2
            dx[...] += fall * pull * np.sign(point[0] - middle[0])
    else:
        name = "nose" if choice == 2 else "mouth"
        amount = generator.uniform(0.12, 0.35) * generator.choice([-1, 1])
        swollen(regions[name].mean(0), span * generator.uniform(0.5, 0.8), amount)
    moved = cv2.remap(face.pixels, across + dx, down + dy, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return Edited(moved, np.hypot(dx, dy) > 0.006 * width)


def _skin(face: Portrait) -> np.ndarray:
    """(H, W) float32: the face without eyes, brows and mouth, softly."""
    regions, shape = outlines(face.five), face.pixels.shape
    mask = hull(_grown(regions["face"], 0.95), shape)
    for name in ("left_eye", "right_eye", "left_brow", "right_brow", "mouth"):
        mask -= hull(_grown(regions[name], 1.25), shape)
    return cv2.GaussianBlur(np.clip(mask, 0, 1), (0, 0), 0.03 * face.span + 0.5)


def airbrushed(face: Portrait, generator: Generator) -> Edited:
    """Skin smoothed, all of it or a part, its grain lost or put back weakly."""
    side = face.pixels.shape[0]
    smooth = cv2.bilateralFilter(face.pixels, -1, generator.uniform(20, 60), side * generator.uniform(0.01, 0.03))
    if generator.random() < 0.3:
        smooth = cv2.GaussianBlur(face.pixels, (0, 0), side * generator.uniform(0.006, 0.015))
    alpha = _skin(face) * generator.uniform(0.6, 1.0)
    if generator.random() < 0.4:
        alpha = alpha * anomalies.soft_blob(face.pixels.shape, generator, generator.uniform(0.1, 0.3))
    return blended(face.pixels, smooth, alpha.astype(np.float32))


def healed(face: Portrait, generator: Generator) -> Edited:
    """Fill two to eight spots of the skin from their rims, or cover them with skin from beside them."""
    height, width = face.pixels.shape[:2]
    places = np.argwhere(_skin(face) > 0.6)
    if not len(places):
        return airbrushed(face, generator)
    spots = np.zeros((height, width), np.float32)
    for y, x in places[generator.integers(len(places), size=int(generator.integers(2, 9)))]:
        radius = max(2, round(face.span * generator.uniform(0.04, 0.14)))
        cv2.circle(spots, (int(x), int(y)), radius, 1.0, -1)
    if generator.random() < 0.5:
        filled = cv2.inpaint(face.pixels, (spots > 0).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    else:
        angle, far = generator.uniform(0, 2 * np.pi), face.span * generator.uniform(0.2, 0.45)
        move = np.array([[1.0, 0, far * np.cos(angle)], [0, 1.0, far * np.sin(angle)]])
        filled = cv2.warpAffine(face.pixels, move, (width, height), borderMode=cv2.BORDER_REFLECT)
        filled = matched_colours(filled, face.pixels, spots)
    return blended(face.pixels, filled, cv2.GaussianBlur(spots, (0, 0), max(0.5, 0.015 * face.span)))


def removed(face: Portrait, generator: Generator) -> Edited:
    """Fill brows, a mouth, or a patch of skin from its rim (Telea 2004; Bertalmio et al. 2001)."""
    name = str(generator.choice(["left_brow", "right_brow", "mouth", "both_brows"]))
    regions, shape = outlines(face.five), face.pixels.shape
    names = ["left_brow", "right_brow"] if name == "both_brows" else [name]
    mask = np.maximum.reduce([hull(_grown(regions[n], 1.15, 1.3), shape) for n in names])
    way = cv2.INPAINT_TELEA if generator.random() < 0.5 else cv2.INPAINT_NS
    filled = cv2.inpaint(face.pixels, (mask > 0).astype(np.uint8), 4, way)
    return blended(face.pixels, filled, cv2.GaussianBlur(mask, (0, 0), max(0.5, 0.02 * face.span)))


def painted(face: Portrait, generator: Generator) -> Edited:
    """Paint lips, lids or cheeks, or brighten teeth or the whites of the eyes: colour changes, grain stays."""
    regions, shape = outlines(face.five), face.pixels.shape
    choice = int(generator.integers(5))
    if choice in (0, 3):
        mask = hull(_grown(regions["mouth"], 1.0 if choice == 0 else 0.6), shape)
    elif choice == 1:
        mask = np.maximum.reduce([hull(_grown(regions[n], 1.2, 2.0), shape) for n in ("left_eye", "right_eye")])
    elif choice == 2:
        mask = np.zeros(shape[:2], np.float32)
        for point in (
            face.five[3] + (face.five[0] - face.five[3]) * 0.4,
            face.five[4] + (face.five[1] - face.five[4]) * 0.4,
        ):
            cv2.circle(mask, (round(float(point[0])), round(float(point[1]))), round(0.3 * face.span), 1.0, -1)
    else:
        mask = np.maximum.reduce([hull(_grown(regions[n], 0.95), shape) for n in ("left_eye", "right_eye")])
    alpha = cv2.GaussianBlur(mask, (0, 0), max(0.6, face.span * generator.uniform(0.02, 0.08)))
    lab = cv2.cvtColor(face.pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    if choice >= 3:
        lab[..., 0] += generator.uniform(15, 45)
        lab[..., 1:] = 128 + (lab[..., 1:] - 128) * generator.uniform(0.3, 0.7)
    else:
        lab[..., 0] += generator.uniform(-40, 10)
        lab[..., 1] += generator.uniform(5, 40)
        lab[..., 2] += generator.uniform(-25, 15)
    over = cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    return blended(face.pixels, over, (alpha * generator.uniform(0.5, 1.0)).astype(np.float32))


def generated(face: Portrait, generator: Generator) -> Edited:
    """The face as a generator of 64 to 160 px would draw it: down and up again, grain gone, laid back."""
    side = face.pixels.shape[0]
    factor = max(1.2, side / generator.uniform(64, 160))
    picture = face.pixels
    if generator.random() < 0.5:
        picture = cv2.bilateralFilter(picture, 5, 25, 2)
    over = softened(picture, factor)
    over = np.clip(over * generator.uniform(0.95, 1.05, 3), 0, 255)
    mask = face_mask(face, generator) if generator.random() < 0.5 else hull(outlines(face.five)["face"], picture.shape)
    return blended(face.pixels, over, soft(bent(mask, generator), generator))


def covered(face: Portrait, generator: Generator) -> Edited:
    """A bar over the eyes, pixels made coarse, or a word on the skin."""
    height, width = face.pixels.shape[:2]
    mask = np.zeros((height, width), np.float32)
    x, y = face.five.mean(0) + generator.normal(0, 0.5, 2) * face.span
    choice = int(generator.integers(3))
    if choice == 2:
        word = "".join(generator.choice(list("ABCDEFGHKLMNRSTUVXYZ0123456789"), size=int(generator.integers(3, 9))))
        size = face.span / 60 * generator.uniform(0.5, 1.2)
        ink = np.zeros((height, width), np.uint8)
        cv2.putText(ink, word, (round(x - face.span), round(y)), cv2.FONT_HERSHEY_SIMPLEX, size, 255, 1, cv2.LINE_AA)
        over = np.broadcast_to(generator.integers(0, 256, 3), face.pixels.shape)
        return blended(face.pixels, over, ink.astype(np.float32) / 255)
    half = (face.span * generator.uniform(0.4, 1.2), face.span * generator.uniform(0.2, 0.8))
    cv2.rectangle(mask, (round(x - half[0]), round(y - half[1])), (round(x + half[0]), round(y + half[1])), 1.0, -1)
    if choice == 0:
        return blended(face.pixels, np.broadcast_to(generator.integers(0, 256, 3), face.pixels.shape), mask)
    cells = max(2, round(width / max(3.0, face.span * generator.uniform(0.08, 0.25))))
    coarse = cv2.resize(face.pixels, (cells, cells), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    return blended(
        face.pixels, coarse, hull(outlines(face.five)["face"], mask.shape) if generator.random() < 0.5 else mask
    )


def patched(face: Portrait, generator: Generator) -> Edited:
    """An irregular patch of one of the plain kinds of `anomalies` (noise, blur, recompression, ...)."""
    kind = str(generator.choice(PATCHES))
    share = float(np.exp(generator.uniform(np.log(0.01), np.log(0.15))))
    alpha = anomalies.soft_blob(face.pixels.shape, generator, share)
    return anomalies.own_kind(face.pixels, kind, alpha, generator)


def donor_patched(face: Portrait, donor: Portrait, generator: Generator) -> Edited:
    """An irregular patch of another face."""
    share = float(np.exp(generator.uniform(np.log(0.01), np.log(0.15))))
    alpha = anomalies.soft_blob(face.pixels.shape, generator, share)
    over = onto(face, donor)
    if generator.random() < 0.3:
        return poisson_blended(face.pixels, over, alpha > 0.5)
    return blended(
        face.pixels, matched_colours(over, face.pixels, alpha, float(generator.choice([0.0, 0.5, 1.0]))), alpha
    )


#: Plain kinds that patches are made of. Copy-move, sharpening and random warps are kept back: what a detective was not
#: taught tells how it does on what nobody thought of.
PATCHES = ("blur", "noise", "compression", "recolour", "magnify", "self_blend")
OWN_EDITS: dict[str, Callable[[Portrait, Generator], Edited]] = {
    "self_blend": self_blend,
    "copied_eye": copied_eye,
    "liquified": liquified,
    "airbrushed": airbrushed,
    "healed": healed,
    "removed": removed,
    "painted": painted,
    "generated": generated,
    "covered": covered,
    "patched": patched,
}
DONOR_EDITS: dict[str, Callable[[Portrait, Portrait, Generator], Edited]] = {
    "donor_swap": donor_swap,
    "feature_swap": feature_swap,
    "mouth_replaced": mouth_replaced,
    "upper_replaced": upper_replaced,
    "donor_patched": donor_patched,
}
#: How often a kind is drawn, by default, in parts of the whole.
SHARES = {
    "self_blend": 34, "donor_swap": 8, "feature_swap": 14, "mouth_replaced": 4, "upper_replaced": 3, "donor_patched": 4,
    "liquified": 11, "airbrushed": 6, "healed": 8, "removed": 4, "painted": 4, "copied_eye": 3, "generated": 6,
    "covered": 1, "patched": 7,
}  # fmt: skip


def edited(face: Portrait, donor: Portrait | None, kind: str, generator: Generator) -> Edited:
    """The face edited in one way of `SHARES`. Raises ValueError for another kind, or without a donor it needs."""
    if kind not in SHARES:
        raise ValueError(f"kind: expected one of {', '.join(SHARES)}; got {kind!r}")
    if kind in OWN_EDITS:
        made = OWN_EDITS[kind](face, generator)
    elif donor is None:
        raise ValueError(f"donor: {kind} needs another face, got none")
    else:
        made = DONOR_EDITS[kind](face, donor, generator)
    if not (face.pixels == face.pixels[..., :1]).all():
        return made
    # Colour in a black-and-white picture would give every edit away.
    grey = cv2.cvtColor(made.pixels, cv2.COLOR_RGB2GRAY)
    return Edited(np.repeat(grey[..., None], 3, 2), made.mask)
