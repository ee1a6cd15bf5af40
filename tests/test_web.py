"""The REST API: the contract, limits, refusals, the queue."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from pixelsleuth.cli import app as command_line
from pixelsleuth.detector import Detector
from pixelsleuth.errors import CalibrationError, PixelsleuthError
from pixelsleuth.records import RECORD_FIELDS
from pixelsleuth.reporting.report import Judge
from tests.conftest import shape_picture
from tests.servers import serving

pytest.importorskip("fastapi", reason="needs the web extra")
from starlette.testclient import TestClient

from pixelsleuth.web.app import POLICY, application
from pixelsleuth.web.jobs import RESULT_SECONDS, Full, JobQueue


def encoded(seed: int, anomalous: bool = False) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(shape_picture(seed, anomalous)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def client(model_folder: Path) -> Iterator[TestClient]:
    with TestClient(
        application(Detector.load(model_folder), str(model_folder), rate=0.1, most_bytes=2_000_000)
    ) as made:
        yield made


def sent(client: TestClient, name: str, data: bytes, **more: Any) -> Any:
    return client.post("/api/findings", files={"file": (name, data)}, **more)


def test_a_finding_is_one_record_as_the_detector_gives_it(
    client: TestClient, model_folder: Path, tmp_path: Path
) -> None:
    answer = sent(client, "../../etc/picture one.png", encoded(7_000))
    assert answer.status_code == 200
    record = answer.json()
    assert tuple(record) == RECORD_FIELDS
    assert record["path"] == "picture one.png"
    (tmp_path / "a.png").write_bytes(encoded(7_000))
    alone = Detector.load(model_folder).detect(tmp_path / "a.png", max_false_alarm=0.1).record()
    for key in ("sha256", "verdict", "p_value", "score", "regions", "max_false_alarm"):
        assert record[key] == alone[key], key


def test_names_are_told_as_they_came(client: TestClient) -> None:
    long = "n" * 251 + ".png"
    assert sent(client, long, encoded(7_005)).json()["path"] == long
    body = posted(encoded(7_005)).split(b"\r\n\r\n", 1)[1]
    strange = body.replace(b"a.png", b"\\ud800.png")
    kind = {"Content-Type": "multipart/form-data; boundary=x; charset=unicode_escape"}
    answer = client.post("/api/findings", content=strange, headers=kind)
    assert answer.status_code == 200
    assert answer.json()["path"] == "?.png"


def test_what_cannot_be_judged_is_a_record_with_its_reason(client: TestClient) -> None:
    for name, data, code in (("text.jpg", b"no picture", "not_an_image"), ("empty.png", b"", "empty")):
        answer = sent(client, name, data)
        assert answer.status_code == 200
        assert answer.json()["verdict"] == "not_applicable"
        assert answer.json()["reason"]["code"] == code


def test_wrong_calls_get_a_reason(client: TestClient) -> None:
    for answer in (
        client.post("/api/findings", files={"other": ("a.png", b"x")}),
        client.post("/api/findings", content=b"garbage", headers={"Content-Type": "multipart/form-data; boundary=x"}),
        client.post("/api/findings", content=b"--x\r\nbroken", headers={"Content-Type": "multipart/form-data"}),
        client.post("/api/findings", json={"file": "a"}),
        client.get("/api/findings"),
        client.get("/api/jobs/unknown"),
        client.get("/api/jobs/unknown/report"),
        client.get("/../secrets"),
        client.get("/app.py"),
    ):
        assert 400 <= answer.status_code < 500
        assert set(answer.json()) == {"reason"}
        assert answer.json()["reason"]


def test_a_wrong_field_is_named(client: TestClient) -> None:
    picture = {"file": ("a.png", encoded(7_000))}
    for answer, named, told in (
        (
            client.post("/api/jobs", files=picture, data={"language": "x" * 20}),
            "'language'",
            "got text of 20 characters",
        ),
        (client.post("/api/jobs", files=picture, data={"against": "a.png"}), "'against'", "got text of 5 characters"),
        (client.post("/api/jobs", data={"language": "en"}), "'file'", "got none"),
        (client.post("/api/findings", data={"file": "a.png"}), "'file'", "got text of 5 characters"),
        (client.get("/api/report"), "'job'", "got none"),
        (client.get("/api/report", params={"job": ["a"] * 65}), "'job'", "got 65 of them"),
    ):
        assert answer.status_code == 422
        assert set(answer.json()) == {"reason"}
        reason = answer.json()["reason"]
        assert named in reason
        assert told in reason
        assert reason.startswith("expected a ")


def test_a_wrong_method_is_told_the_right_ones(client: TestClient) -> None:
    assert client.get("/api/findings").status_code == 405
    assert client.get("/api/findings").headers["allow"] == "POST"


def test_ten_gigabytes_are_refused_before_they_are_read(client: TestClient) -> None:
    read = []

    def body() -> Iterator[bytes]:
        read.append(1)
        yield b"x"

    answer = client.post("/api/findings", content=body(), headers={"Content-Length": str(10 * 2**30)})
    assert answer.status_code == 413
    assert "at most 2,000,000 bytes" in answer.json()["reason"]

    def unannounced() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(40):
            yield b"0" * 100_000

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/api/findings", content=unannounced(), headers=kind)
    assert answer.status_code == 413
    assert "at most 2,000,000 bytes" in answer.json()["reason"]


def spoken(port: int, *parts: bytes, answered: bool = True) -> bytes:
    """What a server answers to raw bytes; with `answered` off the client hangs up without waiting."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as made:
        for part in parts:
            made.sendall(part)
        told = b""
        while answered and (block := made.recv(65_536)):
            told += block
    return told


def posted(data: bytes, path: str = "/api/findings", length: str = "", ends: bool = True) -> bytes:
    """A POST of a form with one file, as it goes over the wire; the server is asked to close the connection."""
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + data
    body += b"\r\n--x--\r\n" if ends else b""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    return f"{head}{length or f'Content-Length: {len(body)}'}\r\n\r\n".encode() + body


def test_hostile_clients_of_a_real_server(model_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    app = application(Detector.load(model_folder), str(model_folder), rate=0.1, most_bytes=2_000_000)
    with serving(app) as port:
        # Ten gigabytes are announced: the answer comes, and the connection ends, though not a byte of them is sent.
        told = spoken(port, posted(b"", length=f"Content-Length: {10 * 2**30}").split(b"--x")[0])
        assert told.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in told.lower()
        # Three megabytes in chunks, unannounced: as soon as two are there.
        chunk = b"%x\r\n%s\r\n"
        start = posted(b"", length="Transfer-Encoding: chunked", ends=False)
        head, body = start.split(b"\r\n\r\n", 1)
        told = spoken(port, head, b"\r\n\r\n", chunk % (len(body), body), *[chunk % (10**6, bytes(10**6))] * 3)
        assert told.startswith(b"HTTP/1.1 413")
        # Half of what was announced, then gone.
        spoken(port, posted(bytes(1000), length="Content-Length: 100000", ends=False), answered=False)
        # Not HTTP, and a form that ends in the middle.
        assert spoken(port, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400")
        broken = spoken(port, posted(bytes(1000), ends=False))
        assert broken.startswith(b"HTTP/1.1 4")
        assert b'{"reason":' in broken
        assert spoken(port, posted(encoded(7_100))).startswith(b"HTTP/1.1 200")
    assert "Traceback" not in capfd.readouterr().err


def test_whose_client_hung_up_is_not_computed(model_folder: Path) -> None:
    slow: Any = _Slow(Detector.load(model_folder))
    queue = JobQueue(slow, Judge.of(slow, str(model_folder)), 0.1)
    with serving(application(slow, str(model_folder), queue=queue)) as port, ThreadPoolExecutor(1) as pool:
        first = pool.submit(spoken, port, posted(encoded(8_200)))
        until(lambda: slow.batches == [1])
        spoken(port, posted(encoded(8_201)), answered=False)
        until(lambda: queue.counts.get("withdrawn") == 1)
        assert queue.waiting == 0
        assert len(list(queue._folder.iterdir())) == 1
        slow.let.set()
        assert first.result(30).startswith(b"HTTP/1.1 200")
        assert spoken(port, posted(encoded(8_202))).startswith(b"HTTP/1.1 200")
        assert slow.batches == [1, 1]


def until(so: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_job_tells_its_progress_and_gives_pictures_and_a_report(client: TestClient) -> None:
    answer = client.post("/api/jobs", files={"file": ("a.png", encoded(7_001, True))})
    assert answer.status_code == 202
    number = answer.json()["id"]
    states = [line for line in client.get(f"/api/jobs/{number}/events").text.splitlines() if line]
    assert all(line.startswith("data: {") for line in states)
    assert '"done"' in states[-1]
    told = client.get(f"/api/jobs/{number}").json()
    assert told["record"]["path"] == "a.png"
    assert told["explained"]
    # Where to look is asked of an alarm only.
    alarm = told["record"]["verdict"] == "anomalous"
    traces = {"ela", "ghost", "noise"}
    assert {"input", "restoration", "map"} | ({"look"} if alarm else set()) | traces == set(told["pictures"])
    assert all(one["uri"].startswith("data:image/") for one in told["pictures"].values())
    report = client.get(f"/api/jobs/{number}/report")
    assert report.headers["content-disposition"].startswith("attachment")
    assert told["words"] in report.text
    assert len(report.text) < 1_000_000


def test_a_report_tells_a_command_that_runs_for_any_name(client: TestClient) -> None:
    number = client.post("/api/jobs", files={"file": ("-rf.png", encoded(7_006))}).json()["id"]
    assert '"done"' in client.get(f"/api/jobs/{number}/events").text
    assert "pixelsleuth detect ./-rf.png --model" in client.get(f"/api/jobs/{number}/report").text


def test_several_jobs_have_one_report(client: TestClient) -> None:
    numbers = []
    for name, seed in (("one.png", 7_003), ("two.png", 7_004)):
        numbers.append(client.post("/api/jobs", files={"file": (name, encoded(seed))}).json()["id"])
        assert '"done"' in client.get(f"/api/jobs/{numbers[-1]}/events").text
    report = client.get("/api/report", params={"job": numbers})
    assert report.status_code == 200
    assert report.text.index(">one.png<") < report.text.index(">two.png<")
    assert report.text.count('<article class="finding">') == 2
    assert client.get("/api/report", params={"job": ["none"]}).status_code == 404
    assert client.get("/api/report").status_code == 422


def test_the_page_is_told_its_words(client: TestClient) -> None:
    assert client.get("/words/en").json()["page.drop"]
    assert client.get("/words/none_such").json() == client.get("/words/en").json()


def test_nothing_stays_on_disk(client: TestClient) -> None:
    queue = next(c for c in _queues() if c.rate == 0.1 and c._folder.exists())
    sent(client, "a.png", encoded(7_002))
    assert list(queue._folder.iterdir()) == []


def _queues() -> list[JobQueue]:
    import gc

    return [item for item in gc.get_objects() if isinstance(item, JobQueue)]


def test_models_health_metrics_and_the_page(client: TestClient) -> None:
    assert client.get("/api/models").json()[0]["n_calibration"] > 0
    assert client.get("/api/health").json()["status"] == "ok"
    sent(client, "a.png", encoded(8_000))
    assert 'pixelsleuth_findings_total{verdict="' in client.get("/api/metrics").text
    page = client.get("/")
    assert page.headers["content-security-policy"] == POLICY
    head = client.head("/")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(page.content)))
    assert client.get("/page.js").headers["cache-control"] == "no-cache"
    assert "//" not in page.text.replace("<!doctype", "")
    assert "/api/findings" in client.get("/openapi.json").json()["paths"]
    assert "untouched" in client.get("/api/examples").json()
    assert client.get("/api/examples/untouched").content[:2] == b"\xff\xd8"


def test_pages_of_other_sites_hand_nothing_in(client: TestClient) -> None:
    for path in ("/api/findings", "/api/jobs"):
        for site in ("cross-site", "same-site"):
            answer = client.post(path, files={"file": ("a.png", encoded(1))}, headers={"Sec-Fetch-Site": site})
            assert answer.status_code == 403
            assert "another site" in answer.json()["reason"]
    assert sent(client, "a.png", encoded(1), headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_a_token_is_demanded(model_folder: Path) -> None:
    with TestClient(application(Detector.load(model_folder), str(model_folder), rate=0.1, token="secret")) as client:
        assert client.get("/api/models").status_code == 401
        assert sent(client, "a.png", encoded(1)).status_code == 401
        assert client.get("/api/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/api/models", headers={"Authorization": "Bearer secret"}).status_code == 200
        assert client.get("/openapi.json").status_code == 401
        assert client.get("/openapi.json").headers["www-authenticate"] == "Bearer"
        described = client.get("/openapi.json", headers={"Authorization": "Bearer secret"}).json()
        assert described["paths"]["/api/findings"]["post"]["security"] == [{"HTTPBearer": []}]
        assert "security" not in described["paths"]["/api/health"]["get"]
        assert client.get("/api/health").status_code == 200
        assert client.get("/").status_code == 200
    for token in ("schlüssel", " ", "secret\n"):
        done = CliRunner().invoke(command_line, ["serve", "--token", token, "--model", str(model_folder / "none")])
        assert isinstance(done.exception, PixelsleuthError)
        assert "of ASCII" in str(done.exception)
    done = CliRunner().invoke(command_line, ["serve", "--host", "0.0.0.0"])
    assert isinstance(done.exception, PixelsleuthError)
    assert "--token" in str(done.exception)


class _Slow:
    """A detector that judges when it is let."""

    def __init__(self, real: Detector) -> None:
        self.real, self.let = real, threading.Event()
        self.calibration, self.model, self.name, self.scorer = real.calibration, real.model, real.name, real.scorer
        self.batches: list[int] = []
        self.restored: list[bool] = []

    def detect_many(self, paths: list[Path], **how: Any) -> Any:
        self.batches.append(len(paths))
        self.restored.append(how["restore"])
        assert self.let.wait(30)
        return self.real.detect_many(paths, **how)


def test_a_full_queue_says_come_again_and_what_waited_is_judged_together(model_folder: Path) -> None:
    slow: Any = _Slow(Detector.load(model_folder))
    judge = Judge.of(slow, str(model_folder))
    queue = JobQueue(slow, judge, 0.1, waiting=3)
    with TestClient(application(slow, str(model_folder), queue=queue)) as client:
        handed = [client.post("/api/jobs", files={"file": ("a.png", encoded(8_000))}).json()["id"]]
        while queue.waiting:
            pass
        handed += [
            client.post("/api/jobs", files={"file": ("a.png", encoded(8_001 + k))}).json()["id"] for k in range(3)
        ]
        for path in ("/api/jobs", "/api/findings"):
            refused = client.post(path, content=b"not even a form")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "30"
        assert client.get(f"/api/jobs/{handed[0]}").json()["state"] == "working"
        assert client.get(f"/api/jobs/{handed[0]}/report").status_code == 409
        slow.let.set()
        for number in handed:
            job = queue.get(number)
            assert job is not None
            job.outcome.result(30)
            assert job.state == "done"
        assert slow.batches == [1, 3]
    with pytest.raises(CalibrationError):
        JobQueue(slow, judge, 1e-6)
    assert issubclass(Full, PixelsleuthError)


def test_restorations_are_made_for_the_page_alone(model_folder: Path) -> None:
    slow: Any = _Slow(Detector.load(model_folder))
    queue = JobQueue(slow, Judge.of(slow, str(model_folder)), 0.1)
    with TestClient(application(slow, str(model_folder), queue=queue)) as client, ThreadPoolExecutor(2) as pool:
        slow.let.set()
        record = sent(client, "a.png", encoded(8_300, True)).json()
        slow.let.clear()
        held = client.post("/api/jobs", files={"file": ("a.png", encoded(8_301))}).json()["id"]
        until(lambda: len(slow.batches) == 2)
        page = client.post("/api/jobs", files={"file": ("a.png", encoded(8_300, True))}).json()["id"]
        plain = [pool.submit(sent, client, "a.png", encoded(8_302 + k)) for k in range(2)]
        until(lambda: queue.waiting == 3)
        slow.let.set()
        assert [answer.result(30).status_code for answer in plain] == [200, 200]
        # Alike ones are judged together, those with restorations apart from those without.
        assert slow.batches == [1, 1, 1, 2]
        assert slow.restored == [False, True, True, False]
        told = [client.get(f"/api/jobs/{number}").json() for number in (held, page)]
        assert {**told[1]["record"], "seconds": 0} == {**record, "seconds": 0}
        assert "restoration" in told[1]["pictures"]


def test_one_bad_input_does_not_fail_those_judged_with_it(model_folder: Path) -> None:
    class Choking(_Slow):
        def detect_many(self, paths: list[Path], **how: Any) -> Any:
            for path, finding in zip(paths, super().detect_many(paths, **how), strict=True):
                if path.read_bytes() == encoded(8_400):
                    raise RuntimeError("choked")
                yield finding

    choking: Any = Choking(Detector.load(model_folder))
    queue = JobQueue(choking, Judge.of(choking, str(model_folder)), 0.1)
    with TestClient(application(choking, str(model_folder), queue=queue)) as client, ThreadPoolExecutor(4) as pool:
        first = pool.submit(sent, client, "a.png", encoded(8_401))
        until(lambda: choking.batches == [1])
        others = [pool.submit(sent, client, "a.png", encoded(seed)) for seed in (8_402, 8_400, 8_403)]
        until(lambda: queue.waiting == 3)
        choking.let.set()
        assert first.result(30).status_code == 200
        assert sorted(answer.result(30).status_code for answer in others) == [200, 200, 422]


def test_one_failure_does_not_end_the_desk(model_folder: Path) -> None:
    class Failing(_Slow):
        def detect_many(self, paths: list[Path], **how: Any) -> Any:
            if not self.let.is_set():
                self.let.set()
                raise RuntimeError("broken")
            return self.real.detect_many(paths, **how)

    failing: Any = Failing(Detector.load(model_folder))
    with TestClient(application(failing, str(model_folder), rate=0.1)) as client:
        answer = sent(client, "a.png", encoded(8_100))
        assert answer.status_code == 422
        assert "judging failed" in answer.json()["reason"]
        assert sent(client, "a.png", encoded(8_100)).status_code == 200


def test_results_are_kept_for_a_while_from_when_they_are_there(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("pixelsleuth.web.jobs.time", SimpleNamespace(monotonic=lambda: clock.now))
    slow: Any = _Slow(Detector.load(model_folder))
    queue = JobQueue(slow, Judge.of(slow, str(model_folder)), 0.1)
    with TestClient(application(slow, str(model_folder), queue=queue)) as client:

        def handed(seed: int) -> str:
            return str(client.post("/api/jobs", files={"file": ("a.png", encoded(seed))}).json()["id"])

        number = handed(8_500)
        # It takes longer than results are kept.
        clock.now += 2 * RESULT_SECONDS
        slow.let.set()
        until(lambda: client.get(f"/api/jobs/{number}").json()["state"] == "done")
        handed(8_501)
        assert client.get(f"/api/jobs/{number}/report").status_code == 200
        # Nothing else comes in, and yet it is forgotten.
        clock.now += 2 * RESULT_SECONDS
        assert client.get(f"/api/jobs/{number}").status_code == 404


def test_results_are_forgotten_though_nobody_asks(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelsleuth.web.jobs.TIDY_SECONDS", 0.1)
    monkeypatch.setattr("pixelsleuth.web.jobs.RESULT_SECONDS", 0.1)
    detector = Detector.load(model_folder)
    queue = JobQueue(detector, Judge.of(detector, str(model_folder)), 0.1)
    with TestClient(application(detector, str(model_folder), queue=queue)) as client:
        client.post("/api/jobs", files={"file": ("a.png", encoded(8_502))})
        until(lambda: not queue._jobs)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs signals of POSIX")
@pytest.mark.parametrize("signals", [["SIGHUP"], ["SIGINT", "SIGINT"], ["SIGTERM"]])
def test_no_upload_outlives_the_server(model_folder: Path, tmp_path: Path, signals: list[str]) -> None:
    """The terminal is closed; Ctrl-C is pressed twice, for a client that never ends its upload holds up the first; a
    service is stopped."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A child of a runner in the background would ignore Ctrl-C.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heard}; from pixelsleuth.cli import main; main()"
    words = [sys.executable, "-c", code, "serve", "--model", str(model_folder), "--port", str(port)]
    server = subprocess.Popen([*words, "--max-false-alarm", "0.1"], env={**os.environ, "TMPDIR": str(tmp_path)})

    def answers() -> bool:
        with socket.socket() as made:
            return made.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, 60)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(posted(b"x", length="Content-Length: 1000", ends=False))
            # Where uploads lie.
            assert len(list(tmp_path.glob("pixelsleuth-*"))) == 1
            for one in signals:
                time.sleep(0.5)
                server.send_signal(getattr(signal, one))
            server.wait(60)
    finally:
        server.kill()
    assert list(tmp_path.glob("pixelsleuth-*")) == []


def test_an_address_that_cannot_be_had_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        named = ["no such host", "a..b", "a" * 70]
        for words in ([], *(["--host", name, "--token", "secret"] for name in named)):
            done = CliRunner().invoke(command_line, ["serve", "--port", taken, *words, "--model", str(tmp_path)])
            assert isinstance(done.exception, PixelsleuthError)
            assert f"port {taken}" in str(done.exception)
