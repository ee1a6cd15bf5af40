"""The routes: findings at once, jobs with progress, reports, models, health, metrics, and the page."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from fastapi import FastAPI, File, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixelsleuth import __version__
from pixelsleuth.demo import tampered_copies
from pixelsleuth.detector import Detector
from pixelsleuth.reporting.exhibits import layers
from pixelsleuth.reporting.report import VERDICT_WORDS, Judge, explained, page, section
from pixelsleuth.sources.images import encode_jpeg
from pixelsleuth.web.desk import Desk, Full, Job

MOST_BYTES = 100_000_000
#: Seconds that an answer is waited for.
PATIENCE = 300.0
PAGE = resources.files("pixelsleuth") / "web" / "page"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"  # noqa: E501


class Gate:
    """Refuses, before anything is read, bodies that are too large and callers without the token."""

    def __init__(self, app: ASGIApp, most: int, token: str) -> None:
        self.app, self.most, self.token = app, most, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {k.lower(): v for k, v in scope["headers"]}
        given = headers.get(b"authorization", b"").decode("latin-1")
        private = scope["path"].startswith("/api/") and scope["path"] != "/api/health"
        if self.token and private and not secrets.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            await _refused(401, "expected the header Authorization: Bearer TOKEN")(scope, receive, send)
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.most:
            await _refused(413, f"at most {self.most:,} bytes are taken")(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:
                # A body that was not announced ends here.
                raise HTTPException(413, f"at most {self.most:,} bytes are taken")
            return message

        await self.app(scope, counted, send)


def _refused(status: int, reason: str, **headers: str) -> JSONResponse:
    return JSONResponse({"reason": reason}, status, headers)


def application(
    detector: Detector, argument: str, *, rate: float = 0.05, most_bytes: int = MOST_BYTES, token: str = "",
    desk: Desk | None = None,
) -> Any:  # fmt: skip
    """The ASGI application of one model.

    Args:
        argument: what the model was loaded by.
        rate: of false alarms, what `anomalous` means.
        token: what callers must send, "" for none.
    """
    desk = desk or Desk(detector, rate)
    judge = Judge.of(detector, argument)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(title="pixelsleuth", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    problems: dict[int | str, dict[str, Any]] = {
        code: {"description": "{reason}", "content": {"application/json": {"schema": {"type": "object"}}}}
        for code in (400, 401, 404, 409, 413, 422, 503, 504)
    }

    @app.exception_handler(HTTPException)
    async def said(request: Request, error: HTTPException) -> Response:
        return _refused(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        return _refused(422, "expected a multipart form with a field 'file' that holds one file")

    @app.exception_handler(Full)
    async def full(request: Request, error: Full) -> Response:
        return _refused(503, str(error), **{"Retry-After": "30"})

    async def taken(file: UploadFile) -> Job:
        job = desk.place(file.filename or "upload")
        with open(job.path, "wb") as target:
            while block := await file.read(1 << 20):
                target.write(block)
        desk.submit(job)
        return job

    async def ended(job: Job) -> Job:
        if not await asyncio.to_thread(job.ended.wait, PATIENCE):
            raise HTTPException(504, "it takes too long; ask for a job instead: POST /api/jobs")
        if job.state == "failed":
            raise HTTPException(422, job.reason)
        return job

    def known(number: str) -> Job:
        job = desk.get(number)
        if job is None:
            raise HTTPException(404, "no such job; results are kept for some minutes only")
        return job

    @app.post("/api/findings", responses=problems)
    async def findings(file: UploadFile = File()) -> Response:  # noqa: B008
        """Judges one file and answers its record."""
        job = await ended(await taken(file))
        assert job.exhibit is not None
        return JSONResponse(job.exhibit.finding.record())

    @app.post("/api/jobs", status_code=202, responses=problems)
    async def hand_in(file: UploadFile = File()) -> Response:  # noqa: B008
        """Takes one file and answers its job's id at once."""
        job = await taken(file)
        return JSONResponse({"id": job.id, "state": job.state}, 202)

    @app.get("/api/jobs/{number}", responses=problems)
    async def result(number: str) -> Response:
        """State of a job; once done its record, its words and its pictures."""
        job = known(number)
        if job.exhibit is None:
            return JSONResponse({"id": job.id, "state": job.state, "reason": job.reason})
        finding = job.exhibit.finding
        made = await asyncio.to_thread(layers, job.exhibit, judge.grid)
        return JSONResponse({
            "id": job.id, "state": job.state, "record": finding.record(),
            "words": VERDICT_WORDS[finding.verdict], "explained": explained(finding), "no_signal": judge.no_signal,
            "pictures": {one.name: {"uri": one.uri, "caption": one.caption} for one in made if one.aligned},
            "section": str(await asyncio.to_thread(section, job.exhibit, judge)),
        })  # fmt: skip

    @app.get("/api/jobs/{number}/events", responses=problems)
    async def events(number: str) -> Response:
        """The job's states as server-sent events, until it ends."""
        job = known(number)

        async def told() -> AsyncIterator[str]:
            last = ""
            while True:
                state = {"state": job.state, "waiting": desk.waiting, "reason": job.reason}
                text = json.dumps(state)
                if text != last:
                    yield f"data: {text}\n\n"
                    last = text
                if job.ended.is_set():
                    return
                await asyncio.sleep(0.2)

        return StreamingResponse(told(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @app.get("/api/jobs/{number}/report", responses=problems)
    async def report(number: str) -> Response:
        """The report as one HTML file."""
        job = known(number)
        if job.exhibit is None:
            raise HTTPException(409, "the job has not ended yet")
        finding = job.exhibit.finding
        item = {
            "title": job.name, "verdict": finding.verdict, "p_value": finding.p_value, "regions": len(finding.regions),
            "section": await asyncio.to_thread(section, job.exhibit, judge),
        }  # fmt: skip
        text = page([item], judge, "pixelsleuth serve", 1, {finding.verdict: 1})
        return HTMLResponse(text, headers={"Content-Disposition": 'attachment; filename="report.html"'})

    @app.get("/api/models")
    async def models() -> Response:
        """The model that judges here."""
        return JSONResponse([{
            "name": detector.name, "sha256": detector.model.sha256, "n_calibration": detector.calibration.count,
            "max_false_alarm": desk.rate, "most_bytes": most_bytes,
        }])  # fmt: skip

    @app.get("/api/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok", "version": __version__, "waiting": desk.waiting})

    @app.get("/api/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        lines = ["# TYPE pixelsleuth_findings_total counter"]
        lines += [f'pixelsleuth_findings_total{{verdict="{k}"}} {v}' for k, v in sorted(desk.counts.items())]
        lines += [
            "# TYPE pixelsleuth_judging_seconds_total counter", f"pixelsleuth_judging_seconds_total {desk.seconds:.3f}",
            "# TYPE pixelsleuth_waiting gauge", f"pixelsleuth_waiting {desk.waiting}",
        ]  # fmt: skip
        return PlainTextResponse("\n".join(lines) + "\n")

    samples: dict[str, bytes] = {}

    @app.get("/api/examples")
    async def examples() -> Response:
        """Names of pictures to try."""
        if not samples:
            made = await asyncio.to_thread(lambda: {n: encode_jpeg(p, 90) for n, p in tampered_copies()})
            samples.update(made)
        return JSONResponse(sorted(samples))

    @app.get("/api/examples/{name}", responses=problems)
    async def example(name: str) -> Response:
        await examples()
        if name not in samples:
            raise HTTPException(404, "no such example")
        return Response(samples[name], media_type="image/jpeg")

    @app.get("/", include_in_schema=False)
    @app.get("/{name}", include_in_schema=False)
    async def files(name: str = "index.html") -> Response:
        if name not in ("index.html", "page.css", "page.js"):
            raise HTTPException(404, "no such page")
        headers = {
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        return FileResponse(str(PAGE / name), headers=headers)

    return Gate(app, most_bytes, token)
