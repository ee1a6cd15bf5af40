"""Explain a finding to a first-time reader: what was found, how often an untouched input gets the same answer, what
that does not mean, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from pixelsleuth.language import LANGUAGES, Language
from pixelsleuth.records import Finding
from pixelsleuth.scoring.calibration import COLOUR_RATE, SLICE, Calibration
from pixelsleuth.scoring.judgement import NEAR_RATE

#: Beginnings of a sentence's last part that says more of what is the case, and nothing of what to do about it.
_TELLING = ("expected ", "it ", "its ", "the ", "there ", "es ", "ihr ")


@dataclass(frozen=True)
class Answer:
    """One sentence or two each; `next_steps` one each; `often_asked`: the question that `often` answers."""

    verdict: str
    headline: str
    found: str
    often: str
    often_asked: str
    not_meant: str
    next_steps: tuple[str, ...]


def answer_of(finding: Finding, calibration: Calibration, say: Language) -> Answer:
    """The finding in words.

    Args:
        calibration: of the model that made it.
    """
    verdict, what = finding.verdict, _what(finding)
    return Answer(
        verdict, say(f"headline.{verdict}"), _found(finding, calibration, say), _often(finding, calibration, say),
        say.first_of(f"part.often.{finding.kind}", "part.often"),
        say.first_of(f"not.{verdict}.{what}", f"not.{verdict}"), _next_steps(finding, what, say),
    )  # fmt: skip


def places(finding: Finding) -> list[int]:
    """Numbers of the regions that few normal inputs match, also when all that was tried is counted; of a finding that
    is no alarm none, for they would be read as found, save of a scan that was judged, whose reader looks at all."""
    if finding.verdict != "anomalous" and (finding.kind != "volume" or finding.verdict != "normal"):
        return []
    # A calibration of ten can promise no less than the rate that was asked for.
    border = max(COLOUR_RATE, finding.max_false_alarm)
    return [number for number, region in enumerate(finding.regions) if region.p_value <= border]


def _what(finding: Finding) -> str:
    """`picture`, `whole` (a picture judged without looking for faces), `video` or `volume`."""
    if finding.kind != "image":
        return finding.kind
    return "picture" if finding.faces else "whole"


def _found(finding: Finding, calibration: Calibration, say: Language) -> str:
    if finding.p_value is None:
        return _sentence(finding, say)
    if finding.verdict == "unsure":
        if finding.reason_code == "unstable":
            reason, things = _sentence(finding, say), say(f"things.{_what(finding)}")
            if finding.promise != "calibration":
                return f"{say('found.unsure', reason=reason)} {ranked(finding, calibration, say)}"
            return say("found.unstable", reason=reason, things=things)
        return say("found.unsure", reason=_sentence(finding, say))
    parts = [say(f"found.{finding.verdict}.{_what(finding)}"), ranked(finding, calibration, say)]
    if finding.verdict == "normal":
        parts.append(say("rank.limit", rate=say.decimal(finding.max_false_alarm, "g")))
    return " ".join(parts)


def ranked(finding: Finding, calibration: Calibration, say: Language) -> str:
    """Rank a finding among the calibration's inputs. p itself counts the input as one of them, so that it is never 0; a
    p combined from several is not a share of anything."""
    assert finding.p_value is not None
    assert finding.p_promised is not None
    p = say.decimal(finding.p_promised, ".4f")
    if finding.promise != "calibration":
        # Frames, faces and the inputs compared with count by another p than the verdict rests on.
        return say(f"rank.{finding.promise}", p=p)
    combined = _combined(finding, calibration, say)
    if combined:
        return f"{combined} {say('rank.most')}" if finding.p_value >= 1 else combined
    count = calibration.count
    least = round(finding.p_value * (count + 1)) - 1
    key = "rank.none" if least == 0 else "rank.one" if least == 1 else "rank.some"
    return say.first_of(f"{key}.{finding.kind}", key).format(
        k=say.number(least), n=say.number(count), things=say(f"things.{_what(finding)}"), p=p,
        share=say.decimal(100 * least / count, ".3g") + "%",
    )  # fmt: skip


def _combined(finding: Finding, calibration: Calibration, say: Language) -> str:
    """How p follows from those of several frames, people, slices or faces; empty where it is that of one crop."""
    assert finding.p_value is not None
    p, tried = say.decimal(finding.p_value, ".4f"), _tried(finding)
    if finding.frames:
        below = sum(frame.p_value <= finding.max_false_alarm for frame in finding.frames)
        people = len({frame.track for frame in finding.frames})
        return say(
            "rank.people" if people > 1 else "rank.frames",
            p=p, m=say.number(len(finding.frames)), below=say.number(below), people=say.number(people),
            rate=say.decimal(finding.max_false_alarm, "g"),
        )  # fmt: skip
    if finding.kind == "volume" and calibration.about.get("unit") == SLICE:
        return say("rank.slices", p=p, m=say.number(len(finding.slices)))
    return say("rank.faces", p=p, m=say.number(tried)) if tried > 1 else ""


def _tried(finding: Finding) -> int:
    """Number of faces that p was multiplied by: those that could be judged, or all where none could. That an answer
    turns over when the file is saved again is found later."""
    free = sum(face.reason is None or face.reason["code"] == "unstable" for face in finding.faces)
    return free or len(finding.faces)


def compared_with(calibration: Calibration, say: Language) -> str:
    """Name what the model was calibrated on."""
    unit = calibration.about.get("unit", "picture")
    return say(f"things.{unit}" if f"things.{unit}" in say.texts else "things.picture")


def _often(finding: Finding, calibration: Calibration, say: Language) -> str:
    # Of a p that is valid for each source, rates are bounds.
    rate, bound = finding.max_false_alarm, finding.promise != "calibration"
    things = say(f"like.{finding.promise if bound else _what(finding)}")
    if finding.verdict == "not_applicable":
        return say("often.not_applicable" if finding.score is None else "often.not_applicable.unlike")
    if finding.verdict == "unsure":
        if finding.reason_code != "unstable":
            return say.first_of(f"often.unknown.{finding.kind}", "often.unknown")
        told = say("often.unstable", often=_in_hundred(_unsure_share(rate), say), things=things)
    elif finding.verdict == "anomalous":
        told = say("often.anomalous" + ".bound" * bound, often=_in_hundred(rate, say), things=things)
    elif bound:
        told = say.first_of(f"often.normal.bound.{finding.kind}", "often.normal.bound").format(
            often=_in_hundred(rate, say), things=things
        )
    else:
        least = say.decimal(100 * max(0.0, 1 - rate - _unsure_share(rate)), ".3g")
        told = say.first_of(f"often.normal.{finding.kind}", "often.normal").format(
            least=least, often=_in_hundred(1 - rate, say), things=things
        )
    return " ".join([told, *_elsewhere(finding, calibration, say)])


def _unsure_share(rate: float) -> float:
    """Only a p within this factor of the rate is tried again, and at most this share of normal inputs has one."""
    return min(1.0, NEAR_RATE * rate)


def _elsewhere(finding: Finding, calibration: Calibration, say: Language) -> list[str]:
    """How many false alarms there were on the worst source that was left out, at the listed rate nearest to the one
    asked for; none where that is not known or was no more than promised, or where the verdict rests on another p or is
    `unsure`, of which those figures say nothing."""
    left_out = calibration.about.get("left_out")
    if not left_out or finding.kind != "image" or finding.verdict == "unsure" or finding.promise != "calibration":
        return []
    asked = finding.max_false_alarm
    promised = min(next(iter(left_out.values())), key=lambda name: abs(log(float(name)) - log(asked)))
    most = max(shares[promised] for shares in left_out.values())
    if most <= float(promised):
        return []
    key = "often.elsewhere"
    text = say.first_of(f"{key}.{finding.verdict}", key)
    # More digits than whole pictures in a hundred would promise what some hundred pictures cannot tell.
    whole = say("in.hundred", k=str(max(1, round(100 * most))))
    return [text.format(most=whole, promised=_in_hundred(float(promised), say))]


def _in_hundred(share: float, say: Language) -> str:
    if share < 0.01:
        return say("in.many", n=say.number(round(1 / share)))
    return say("in.hundred", k=say.decimal(100 * share, ".3g"))


def _next_steps(finding: Finding, what: str, say: Language) -> tuple[str, ...]:
    keys = {
        "anomalous": ["frames" if finding.stills else "look" if places(finding) else "no_place", "search", "source"],
        "normal": ["search", "source", "second"],
        "unsure": ["better_copy", "source", "search"],
        "not_applicable": ["give"],
    }[finding.verdict]
    code = finding.reason_code
    if code in ("blurred", "turned_away"):
        keys[0] = "sharper"
    if code == "unlike_calibration" and finding.verdict == "unsure":
        keys.append("calibrate")
    if finding.verdict == "anomalous":
        keys.append("calibrate")
    if finding.against is not None and finding.against.changes:
        keys.insert(0, "compared")
    if any(one.code == "thumbnail_differs" for one in finding.evidence):
        keys.insert(0, "preview")
    if any(one.says == "ai" for one in finding.evidence):
        keys.insert(0, "ai")
    if what == "volume" and code == "unlike_calibration":
        keys = ["train.volume", "prepare.volume"]
    elif what == "volume" and finding.verdict != "not_applicable":
        keys = ["expert", "calibrate.volume"] if finding.verdict == "anomalous" else ["expert.whole"]
    return tuple(_advice(finding, say) if key == "give" else say(f"next.{key}") for key in keys)


def _advice(finding: Finding, say: Language) -> str:
    """What to do about a file that could not be judged: what the reason's own sentence asks for, where it does."""
    reason = finding.reason or {"code": "", "sentence": ""}
    asked = parted(reason_in(reason, say, finding.kind))[1]
    if asked:
        return f"{asked[:1].upper()}{asked[1:]}{'' if asked.endswith('?') else '.'}"
    key = f"reason.{reason['code']}"
    return say.first_of(f"{key}.{finding.kind}.do", f"{key}.do", "next.give")


def parted(sentence: str) -> tuple[str, str]:
    """A reason's sentence as what is the case and, after its last semicolon, what to do; that may be empty."""
    sentence = sentence.rstrip(".")
    told, _, asked = sentence.rpartition("; ")
    return (told, asked) if told and not asked.startswith(_TELLING) else (sentence, "")


def reason_in(reason: dict[str, str], say: Language, kind: str = "image") -> str:
    """A record's reason, English and with its numbers; in another language in general words where there are any."""
    keys = [key for key in (f"reason.{reason['code']}.{kind}", f"reason.{reason['code']}") if key in say.texts]
    return reason["sentence"] if say.code == LANGUAGES[0] or not keys else say(keys[0])


def _sentence(finding: Finding, say: Language) -> str:
    """What is the case, without what to do about it, which stands among the next steps."""
    text = (reason_in(finding.reason, say, finding.kind) if finding.reason else "").rstrip(".")
    if finding.reason_code != "unstable":
        text = parted(text)[0]
    return f"{text[:1].upper()}{text[1:]}." if finding.p_value is None else text
