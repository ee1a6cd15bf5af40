"""A finding in words for a reader who sees one for the first time: what was found, how often an untouched input gets
the same answer, what that does not mean, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from pixelsleuth.language import LANGUAGES, Language
from pixelsleuth.records import Finding
from pixelsleuth.scoring.calibration import COLOUR_RATE, SLICE, Calibration
from pixelsleuth.scoring.judgement import NEAR_RATE


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
        verdict, say(f"headline.{verdict}"), _found(finding, calibration, say), _often(finding, say),
        say.first_of(f"part.often.{finding.kind}", "part.often"),
        say.first_of(f"not.{verdict}.{what}", f"not.{verdict}"), _next_steps(finding, what, say),
    )  # fmt: skip


def places(finding: Finding) -> list[int]:
    """Numbers of the regions that few normal inputs match, also when all that was tried is counted."""
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
        return say("found.unsure", reason=_sentence(finding, say))
    parts = [say(f"found.{finding.verdict}.{_what(finding)}"), ranked(finding, calibration, say)]
    if finding.verdict == "normal":
        parts.append(say("rank.limit", rate=say.decimal(finding.max_false_alarm, "g")))
    return " ".join(parts)


def ranked(finding: Finding, calibration: Calibration, say: Language) -> str:
    """Where a finding stands among the calibration's inputs. p itself counts the input as one of them, so that it is
    never 0; and a p made of several is no share of anything."""
    assert finding.p_value is not None
    p = say.decimal(finding.p_value, ".4f")
    if finding.frames:
        below = sum(frame.p_value <= finding.max_false_alarm for frame in finding.frames)
        rate = say.decimal(finding.max_false_alarm, "g")
        return say("rank.frames", p=p, m=say.number(len(finding.frames)), below=say.number(below), rate=rate)
    if finding.kind == "volume" and calibration.about.get("unit") == SLICE:
        return say("rank.slices", p=p, m=say.number(len(finding.slices)))
    if len(finding.faces) > 1:
        return say("rank.faces", p=p, m=say.number(len(finding.faces)))
    count = calibration.count
    least = round(finding.p_value * (count + 1)) - 1
    key = "rank.none" if least == 0 else "rank.one" if least == 1 else "rank.some"
    return say(
        key, k=say.number(least), n=say.number(count), things=_things(finding, say), p=p,
        share=say.decimal(100 * least / count, ".3g") + "%",
    )  # fmt: skip


def _often(finding: Finding, say: Language) -> str:
    rate, things = finding.max_false_alarm, _things(finding, say)
    if finding.verdict == "not_applicable":
        return say("often.not_applicable" if finding.score is None else "often.not_applicable.unlike")
    if finding.verdict == "unsure":
        if (finding.reason or {}).get("code") != "unstable":
            return say("often.unknown")
        # Only a p within this factor of the rate is tried again, and at most this share of normal inputs has one.
        return say("often.unstable", often=_in_hundred(min(1.0, NEAR_RATE * rate), say), things=things)
    often = _in_hundred(rate if finding.verdict == "anomalous" else 1 - rate, say)
    key = f"often.{finding.verdict}"
    return say.first_of(f"{key}.{finding.kind}", key).format(often=often, things=things)


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
    code = (finding.reason or {}).get("code")
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
        keys = ["expert", "calibrate.volume"] if finding.verdict == "anomalous" else ["expert"]
    return tuple(say(f"next.{key}") for key in keys)


def _things(finding: Finding, say: Language) -> str:
    if finding.kind != "image":
        return say(f"things.{finding.kind}")
    return say("things.picture" if finding.faces else "things.whole")


def reason_in(reason: dict[str, str], say: Language, kind: str = "image") -> str:
    """A record's reason, English and with its numbers; in another language in general words where there are any."""
    keys = [key for key in (f"reason.{reason['code']}.{kind}", f"reason.{reason['code']}") if key in say.texts]
    return reason["sentence"] if say.code == LANGUAGES[0] or not keys else say(keys[0])


def _sentence(finding: Finding, say: Language) -> str:
    text = (reason_in(finding.reason, say, finding.kind) if finding.reason else "").rstrip(".")
    return f"{text[:1].upper()}{text[1:]}." if finding.p_value is None else text
