"""`pixelsleuth serve`."""

from __future__ import annotations

import contextlib
import signal
import socket
from typing import Annotated, Any

import typer

from pixelsleuth.commands.terminal import ModelOption, RateOption, console
from pixelsleuth.errors import PixelsleuthError, needs_extra
from pixelsleuth.records import MAX_FALSE_ALARM

#: Seconds that requests get to end once the server is stopped.
END_SECONDS = 5


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; other than this machine's own needs --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 8000,
    model: ModelOption = "faces",
    max_false_alarm: RateOption = None,
    token: Annotated[str, typer.Option(help="What callers of the API must send as a bearer token.")] = "",
    max_upload: Annotated[int, typer.Option(help="Most bytes of one upload.", min=1)] = 100_000_000,
) -> None:
    """Serve the web page and the REST API; nothing is stored."""
    import ipaddress

    if max_false_alarm is not None and not 0 < max_false_alarm < 1:
        raise PixelsleuthError(f"--max-false-alarm: expected a rate between 0 and 1, got {max_false_alarm}")
    local = host == "localhost"
    with contextlib.suppress(ValueError):
        local = local or ipaddress.ip_address(host).is_loopback
    if not local and not token:
        raise PixelsleuthError(f"--host {host}: others could reach it; give --token TEXT, or listen at 127.0.0.1")
    _check_address(host, port)
    if not token.isascii() or not token.isprintable() or token != token.strip():
        raise PixelsleuthError("--token: expected letters, digits and signs of ASCII, without a space at either end")
    with needs_extra("web", "serve"):
        import uvicorn

        from pixelsleuth.web.app import application
    from pixelsleuth.detector import Detector

    detector = Detector.load(model)
    rate = detector.calibration.rate_for(max_false_alarm, MAX_FALSE_ALARM)
    if max_false_alarm is None and rate > MAX_FALSE_ALARM:
        console.print(detector.calibration.raised(MAX_FALSE_ALARM).sentence, highlight=False)
    app = application(detector, model, rate=rate, most_bytes=max_upload, token=token)
    console.print(f"http://{f'[{host}]' if ':' in host else host}:{port}  (Ctrl-C stops it)", highlight=False)
    # Without an end to its patience a client that never ends its upload would keep the server from ending.
    server = uvicorn.Server(uvicorn.Config(
        app, host=host, port=port, log_level="warning", timeout_keep_alive=10, timeout_graceful_shutdown=END_SECONDS,
    ))  # fmt: skip
    _end_with_the_terminal(server)
    server.run()


def _end_with_the_terminal(server: Any) -> None:
    """Let a terminal that is closed end the server as Ctrl-C does; by itself it would leave uploads behind. Under
    `nohup` it runs on."""
    hung_up = getattr(signal, "SIGHUP", None)
    if hung_up is not None and signal.getsignal(hung_up) is signal.SIG_DFL:
        signal.signal(hung_up, lambda *_: setattr(server, "should_exit", True))


def _check_address(host: str, port: int) -> None:
    """Raise PixelsleuthError where nothing can be served there."""
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            socket.create_server(address, family=family).close()
    except (OSError, UnicodeError) as error:
        why = str(getattr(error, "strerror", None) or "no such name").partition(" (")[0]
        raise PixelsleuthError(f"cannot listen at {host}, port {port}: {why}; give another --host or --port") from None
