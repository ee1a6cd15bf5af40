"""The routes: findings at once, jobs with progress, reports, models, health, metrics, and the page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, File, Form, Query, Request, Security, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.security import HTTPBearer
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixelsleuth import __version__
from pixelsleuth.demo import tampered_copies
from pixelsleuth.detector import Detector
from pixelsleuth.language import LANGUAGES, language
from pixelsleuth.records import MAX_FALSE_ALARM
from pixelsleuth.reporting.report import Judge, page
from pixelsleuth.sources.images import encode_jpeg
from pixelsleuth.web.jobs import MAX_RESULTS, Failed, Full, Job, JobQueue, Outcome
from pixelsleuth.web.schemas import Health, Progress, Record, Refusal, Result, ServedModel, Ticket

MAX_BYTES = 100_000_000
#: Seconds a request waits for its result.
REQUEST_TIMEOUT = 300.0
#: Characters of a language's code.
MAX_CODE = 8
#: Seconds to drain a rejected client's body before closing.
DRAIN_SECONDS = 1.0
PAGE = resources.files("pixelsleuth") / "web" / "page"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"  # noqa: E501


class Gate:
    """Refuses, before a body is read, callers without the token, bodies that are too large, and inputs that would find
    the queue full. A body whose length is not announced is cut off where it becomes too large."""

    def __init__(self, app: ASGIApp, queue: JobQueue, most: int, token: str) -> None:
        self.app, self.queue, self.most, self.token = app, queue, most, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await self._lingering(refusal, scope, receive, send)
            return
        seen, begun = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:
                raise _TooLong
            return message

        async def passed_on(message: Message) -> None:
            nonlocal begun
            # What the application makes of a body that was cut off is not the answer.
            if seen <= self.most:
                begun = True
                await send(message)

        with contextlib.suppress(_TooLong):
            await self.app(scope, counted, passed_on)
        if seen > self.most and not begun:
            await self._lingering(self._too_large(), scope, receive, send)

    async def _lingering(self, refusal: JSONResponse, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers at once, then reads on for a while and keeps nothing: a connection that is cut while its client still
        sends takes the answer with it. Then it is cut, or a body could go on for ever."""

        async def drained() -> None:
            left = self.most
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return

        async def held_open(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            await send({**message, "more_body": True})
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(drained(), DRAIN_SECONDS)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await refusal(scope, receive, held_open)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = {k.lower(): v for k, v in scope["headers"]}
        path = scope["path"]
        # The description of the API is for those who may call it; the page says nothing that the source does not.
        private = (path.startswith("/api/") and path != "/api/health") or path == "/openapi.json"
        given = headers.get(b"authorization", b"").decode("latin-1")
        if self.token and private and not secrets.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            told = "expected the header Authorization: Bearer TOKEN, the one `pixelsleuth serve --token` was given"
            return _refused(401, told, **{"WWW-Authenticate": "Bearer", **CLOSED})
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.most:
            return self._too_large()
        # Any page that is open in a browser here could send forms to a server without a token. Browsers say who sends;
        # programs say nothing.
        if scope["method"] == "POST" and headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            return _refused(403, "a page of another site cannot hand in files; open this server's own", **CLOSED)
        if scope["method"] == "POST" and path in ("/api/findings", "/api/jobs"):
            try:
                self.queue.check_room()
            except Full as error:
                return _full(error)
        return None

    def _too_large(self) -> JSONResponse:
        return _refused(413, f"at most {self.most:,} bytes are taken; send a smaller file", **CLOSED)


async def _written(file: UploadFile, path: Path) -> None:
    with open(path, "wb") as target:
        await asyncio.to_thread(shutil.copyfileobj, file.file, target, 1 << 20)


class _TooLong(Exception):
    """A body that was not announced is longer than may be."""


#: Ends the connection: else the server would read whatever is still sent, and throw it away.
CLOSED = {"Connection": "close"}


def _refused(status: int, reason: str, **headers: str) -> JSONResponse:
    return JSONResponse({"reason": reason}, status, headers)


#: What each field of a form and each parameter of an address must hold.
_EXPECTED = {
    "file": "one file",
    "against": "one file, an earlier copy of the other",
    "language": f"a language's code of at most {MAX_CODE} letters, such as {LANGUAGES[0]}",
    "job": f"the ids of 1 to {MAX_RESULTS} jobs",
}


def _wrong_field(error: Mapping[str, Any]) -> str:
    """One line from pydantic's account of what is wrong with a call."""
    part, *path = error["loc"]
    name = str(path[0]) if path else ""
    where = f"a multipart form with a field '{name}'" if part == "body" else f"a parameter '{name}' in the {part}"
    given = error.get("input")
    if error["type"] == "missing" or given is None:
        got = "none"
    elif isinstance(given, list):
        got = f"{len(given)} of them"
    else:
        got = f"text of {len(given)} characters" if isinstance(given, str) else type(given).__name__
    return f"expected {where} that holds {_EXPECTED.get(name, error['msg'])}; got {got}"


def _full(error: Full) -> JSONResponse:
    return _refused(503, str(error), **{"Retry-After": "30"}, **CLOSED)


async def _hung_up(request: Request) -> None:
    """Returns when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """How a route may refuse, for the API's description."""
    said = {
        400: "the form cannot be read", 401: "the token is missing or wrong",
        403: "sent by a page of another site", 404: "there is none",
        409: "the job has not ended", 413: "larger than `--max-upload`",
        422: "a field is missing or wrong, or judging failed",
        503: "too many inputs wait; come again after `Retry-After` seconds", 504: "not judged in time",
    }  # fmt: skip
    return {code: {"description": said[code], "model": Refusal} for code in codes}


def _of(kind: str, *codes: int) -> dict[str, Any]:
    """A route that answers a media type, or refuses by these codes, for the API's description."""
    good = {200: {"content": {kind: {"schema": {} if kind == "text/event-stream" else {"type": "string"}}}}}
    # With a response class of its own a refusal would be described as of that type too.
    return {"response_class": Response, "responses": {**good, **_problems(*codes)}}


def application(  # noqa: C901 - a route is a closure over the queue; each is short
    detector: Detector, argument: str, *, rate: float = MAX_FALSE_ALARM, most_bytes: int = MAX_BYTES, token: str = "",
    queue: JobQueue | None = None,
) -> Any:  # fmt: skip
    """The ASGI application of one model.

    Args:
        argument: what the model was loaded by.
        rate: of false alarms, what `anomalous` means.
        token: what callers must send, "" for none.
    """
    judge = Judge.of(detector, argument)
    queue = queue or JobQueue(detector, judge, rate)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        queue.close()

    app = FastAPI(title="pixelsleuth", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    # The gate checks the token; this describes it.
    secured = [Security(HTTPBearer(auto_error=False))] if token else []
    locked = _problems(401) if token else {}
    api = APIRouter(prefix="/api", dependencies=secured, responses=locked)
    sent = _problems(400, 403, 413, 422, 503)

    @app.exception_handler(HTTPException)
    async def said(request: Request, error: HTTPException) -> Response:
        return _refused(error.status_code, str(error.detail), **(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        return _refused(422, _wrong_field(error.errors()[0]))

    @app.exception_handler(Full)
    async def full(request: Request, error: Full) -> Response:
        return _full(error)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _refused(500, f"the server failed ({type(error).__name__}); its log says more")

    async def taken(file: UploadFile, pictured: bool, spoken: str = "", earlier: UploadFile | None = None) -> Job:
        beside = (earlier.filename or "upload") if earlier else ""
        with queue.place(file.filename or "upload", pictured, spoken, beside) as job:
            await _written(file, job.path)
            if earlier and job.earlier:
                await _written(earlier, job.earlier[0])
        return job

    async def ended(request: Request, job: Job) -> Outcome:
        """Waits for a job; withdraws it when its client hangs up or it takes too long."""
        outcome, gone = asyncio.wrap_future(job.outcome), asyncio.create_task(_hung_up(request))
        either: set[asyncio.Future[Any]] = {outcome, gone}
        try:
            await asyncio.wait(either, timeout=REQUEST_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            if not outcome.done():
                raise HTTPException(504, "it takes too long; ask for a job instead: POST /api/jobs")
            return outcome.result()
        except Failed as error:
            raise HTTPException(422, str(error)) from None
        finally:
            gone.cancel()
            queue.withdraw(job)

    def known(number: str) -> Job:
        job = queue.get(number)
        if job is None:
            raise HTTPException(404, "no such job; results are kept for some minutes only")
        return job

    def came_to(job: Job) -> Outcome | None:
        return job.outcome.result() if job.state == "done" else None

    def reason_of(job: Job) -> str:
        return str(job.outcome.exception()) if job.state == "failed" else ""

    def progress_of(job: Job) -> dict[str, Any]:
        step, left = job.step, job.seconds_left
        steps = None if step is None else {
            "stage": step.stage, "done": step.done, "total": step.total, "share": round(step.share, 3),
            "seconds_left": None if left is None else round(left, 1),
        }  # fmt: skip
        return {"id": job.id, "state": job.state, "reason": reason_of(job), "steps": steps}

    def reported(jobs: list[Job]) -> Response:
        items = []
        for job in jobs:
            outcome = came_to(job)
            if outcome is None:
                raise HTTPException(409, "the job has no finding, or none yet")
            items.append({
                "title": job.name, "verdict": outcome.record["verdict"], "p_value": outcome.record["p_value"],
                "places": outcome.places, "section": Markup(outcome.section),
            })  # fmt: skip
        counts = Counter(str(item["verdict"]) for item in items)
        text = page(items, judge, "pixelsleuth serve", len(items), counts, jobs[0].language)
        return HTMLResponse(text, headers={"Content-Disposition": 'attachment; filename="report.html"'})

    @api.post("/findings", response_model=Record, responses={**sent, **_problems(504)})
    async def findings(request: Request, file: UploadFile = File()) -> Response:  # noqa: B008
        """Judges one file and answers its record; without pictures, which take as long again."""
        return JSONResponse((await ended(request, await taken(file, False))).record)

    of_job = {"parameters": {"number": "$response.body#/id"}}
    links = {name: {"operationId": f"job_{name}", **of_job} for name in ("result", "events", "report")}

    @api.post("/jobs", status_code=202, response_model=Ticket, responses={202: {"links": links}, **sent})
    async def hand_in(
        file: UploadFile = File(),  # noqa: B008
        spoken: Annotated[str, Form(alias="language", max_length=MAX_CODE)] = "",
        against: UploadFile = File(None),  # noqa: B008
    ) -> Response:
        """Takes one file and answers its job's id at once. `language` (en, de) is its report's; `against` an earlier
        copy of the file, a picture, to tell what differs."""
        job = await taken(file, True, spoken, against)
        return JSONResponse({"id": job.id, "state": job.state}, 202)

    @api.get("/jobs/{number}", operation_id="job_result", response_model=Result | Progress, responses=_problems(404))
    async def result(number: str) -> Response:
        """State of a job; once done its record, its words and its pictures."""
        job = known(number)
        outcome = came_to(job)
        if outcome is None:
            return JSONResponse(progress_of(job))
        return JSONResponse({
            "id": job.id, "state": "done", "record": outcome.record, "words": outcome.words,
            "explained": outcome.explained, "pictures": outcome.pictures,
            "section": outcome.section, "places": outcome.places,
        })  # fmt: skip

    @api.get(
        "/jobs/{number}/events",
        operation_id="job_events",
        **_of("text/event-stream", 404),
    )
    async def events(number: str) -> Response:
        """The job's states as server-sent events, until it ends."""
        job = known(number)

        async def told() -> AsyncIterator[str]:
            last = ""
            while True:
                over = job.outcome.done()
                text = json.dumps({"state": job.state, "waiting": queue.waiting, "reason": reason_of(job)})
                if text != last:
                    yield f"data: {text}\n\n"
                    last = text
                if over:
                    return
                await asyncio.sleep(0.2)

        return StreamingResponse(told(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @api.get(
        "/jobs/{number}/report",
        operation_id="job_report",
        **_of("text/html", 404, 409),
    )
    async def report(number: str) -> Response:
        """The report as one HTML file."""
        job = known(number)
        return reported([job])

    @api.get("/report", **_of("text/html", 404, 409, 422))
    async def report_of_all(job: Annotated[list[str], Query(min_length=1, max_length=MAX_RESULTS)]) -> Response:
        """One report of several jobs."""
        return reported([known(number) for number in job])

    @api.get("/models", response_model=list[ServedModel])
    async def models() -> Response:
        """The model that judges here."""
        return JSONResponse([{
            "name": detector.name, "sha256": detector.model.sha256, "n_calibration": detector.calibration.count,
            "max_false_alarm": queue.rate, "most_bytes": most_bytes,
            "takes": list(detector.cropping.kinds),
        }])  # fmt: skip

    @app.get("/api/health", response_model=Health)
    async def health() -> Response:
        """Whether it runs; needs no token, so that a watchdog needs none."""
        return JSONResponse({"status": "ok", "version": __version__, "waiting": queue.waiting})

    @api.get("/metrics", **_of("text/plain"))
    async def metrics() -> Response:
        """For Prometheus."""
        lines = ["# TYPE pixelsleuth_findings_total counter"]
        lines += [f'pixelsleuth_findings_total{{verdict="{k}"}} {v}' for k, v in sorted(queue.counts.items())]
        lines += [
            "# TYPE pixelsleuth_judging_seconds_total counter",
            f"pixelsleuth_judging_seconds_total {queue.seconds:.3f}",
            "# TYPE pixelsleuth_waiting gauge", f"pixelsleuth_waiting {queue.waiting}",
        ]  # fmt: skip
        return PlainTextResponse("\n".join(lines) + "\n")

    samples: dict[str, bytes] = {}

    @api.get("/examples", response_model=list[str])
    async def examples() -> Response:
        """Names of pictures to try."""
        if not samples:
            made = await asyncio.to_thread(lambda: {n: encode_jpeg(p, 90) for n, p in tampered_copies()})
            samples.update(made)
        return JSONResponse(list(samples))

    @api.get("/examples/{name}", **_of("image/jpeg", 404))
    async def example(name: str) -> Response:
        """One of them, a JPEG."""
        await examples()
        if name not in samples:
            raise HTTPException(404, "no such example")
        return Response(samples[name], media_type="image/jpeg")

    app.include_router(api)

    @app.get("/words/{code}", include_in_schema=False)
    async def words(code: str) -> Response:
        """The page's texts; open like the page itself."""
        return JSONResponse(language(code).texts)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    @app.api_route("/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def files(name: str = "index.html") -> Response:
        if name not in ("index.html", "page.css", "page.js"):
            raise HTTPException(404, "no such page")
        headers = {
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            # Else a browser may keep the script for a tenth of its age, and use it with a newer server.
            "Cache-Control": "no-cache",
        }
        return FileResponse(str(PAGE / name), headers=headers)

    return Gate(app, queue, most_bytes, token)
