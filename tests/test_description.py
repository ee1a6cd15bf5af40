"""`/openapi.json` tells the truth: requests made from it get the answers it promises."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from pixelsleuth.detector import Detector
from pixelsleuth.records import Box, Face, FaceFinding, FrameFinding, Note, Region, SliceFinding
from tests.conftest import shape_picture
from tests.servers import serving

pytest.importorskip("fastapi", reason="needs the web extra")
from pixelsleuth.web.app import application
from pixelsleuth.web.schemas import Record, Refusal, Result

TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def address(model_folder: Path) -> Iterator[str]:
    app = application(Detector.load(model_folder), str(model_folder), rate=0.1, most_bytes=2_000_000, token="secret")
    with serving(app) as port:
        yield f"http://127.0.0.1:{port}"


def test_what_is_described_holds(address: str) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: pip install '.[dev]'")
    checks = pytest.importorskip("schemathesis.specs.openapi.checks")
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable

    often = settings(
        max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    calls: Counter[tuple[str, int]] = Counter()
    for found in schemathesis.openapi.from_url(f"{address}/openapi.json", headers=TOKEN).get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @often
            @given(case=operation.as_strategy(generation_mode=mode))
            def holds(case: Any) -> None:
                # Whatever bytes a file holds are a file; what they are is judged.
                answer = case.call_and_validate(
                    headers=TOKEN, timeout=30, excluded_checks=[checks.negative_data_rejection]
                )
                calls[case.operation.label, answer.status_code] += 1

            with contextlib.suppress(Unsatisfiable):
                # Of a route without parameters there is nothing to get wrong.
                holds()
    assert calls["POST /api/findings", 200]
    assert calls["POST /api/findings", 422]
    assert {path for path, _ in calls} >= {"GET /api/health", "GET /api/jobs/{number}", "POST /api/jobs"}


def test_answers_are_of_the_types_that_are_described(address: str) -> None:
    client = httpx.Client(base_url=address, headers=TOKEN)
    buffer = io.BytesIO()
    Image.fromarray(shape_picture(9_100, True)).save(buffer, "PNG")
    for data in (buffer.getvalue(), b"no picture"):
        answer = client.post("/api/findings", files={"file": ("a.png", data)}).json()
        Record.model_validate(answer, strict=True)
        number = client.post("/api/jobs", files={"file": ("a.png", data)}).json()["id"]
        list(client.get(f"/api/jobs/{number}/events").iter_lines())
        Result.model_validate(client.get(f"/api/jobs/{number}").json(), strict=True)
    Refusal.model_validate(client.get("/api/jobs/none").json())


def test_records_of_every_kind_are_of_the_described_type(detector: Detector) -> None:
    plain = detector.detect(shape_picture(3), max_false_alarm=0.05)
    region = Region(Box(0, 0, 4, 4), 0.01)
    face = FaceFinding(Face(Box(0, 0, 9, 9), 1.0), "normal", 0.5, 0.0, {"score": 0.1}, (region,))
    frame = FrameFinding(0, 0.0, 0, face.face, 0.0, 0.5)
    for finding in (
        replace(plain, faces=(face,), regions=(region,), notes=(Note("rotated_by_exif", "turned upright"),)),
        replace(plain, kind="video", frames=(frame,), timeline_file="a.png"),
        replace(plain, kind="volume", slices=(SliceFinding(3, 0.1, 0.5),), regions=(replace(region, depth=(1, 2)),)),
    ):
        Record.model_validate(finding.record(), strict=True)
