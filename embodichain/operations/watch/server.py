"""Serves the page, its events and metrics over HTTP. Read-only, except for actions that require a token."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI, Header, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse

from embodichain.errors import ConfigError
from embodichain.lines import strict_json
from embodichain.operations.watch.exposition import exposition
from embodichain.operations.watch.view import RunView, told_apart
from embodichain.processes import call, send_signal
from embodichain.ray_engine.start import NoCluster, Refused
from embodichain.ray_engine.visit import visit
from embodichain.ring.budget import MAX_READS_LIMIT
from embodichain.types import WISHES_FILE

_EVERY_S = 1.0
"""Interval of updates of the page [s]."""
_CLUSTER_S = 30.0
"""Interval at which a cluster is inspected [s]."""
_TYPES = {"watch.js": "text/javascript", "watch.css": "text/css"}
_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
"""Content security policy: no external resources, and no scripts except the page's own."""


Token = Annotated[str, Header(alias="Authorization")]


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Settings of the page."""

    runs: tuple[Path, ...]
    """Run folders to show; several are compared."""
    address: str = ""
    """Address of a Ray cluster whose nodes are listed; empty for none."""
    host: str = "127.0.0.1"
    port: int = 8265
    token: str = ""
    """Token that is required to change a run's replay bound or to stop a run; empty forbids both."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port must be 0..65535, got {self.port}")
        if not self.runs and not self.address:
            raise ConfigError("there is nothing to watch: give run folders, or --address")
        if self.token and len(self.token) < 16:
            raise ConfigError("a token that is easily guessed protects nothing: give at least 16 characters")


class Watcher:
    """Snapshots of all runs, made at most once a second for all clients, and the state of the cluster."""

    def __init__(self, config: WatchConfig) -> None:
        """Raises RunError for a folder that is no run."""
        paths = list(dict.fromkeys(path.resolve() for path in config.runs))
        self.views = [RunView(path, name) for path, name in zip(paths, told_apart(paths), strict=True)]
        self._lock = threading.Lock()
        self._made_at = -1e9
        self._made: dict[str, Any] = {}
        self._address = config.address
        self._cluster: dict[str, Any] | None = {"address": config.address, "state": "asked"} if config.address else None
        if config.address:
            threading.Thread(target=self._ask, name="cluster", daemon=True).start()

    def snapshot(self) -> dict[str, Any]:
        """The data of the page."""
        with self._lock:
            if time.monotonic() - self._made_at >= _EVERY_S / 2:
                self._made = {"time": time.time(), "runs": [view.snapshot() for view in self.views], "cluster": self._cluster}
                self._made_at = time.monotonic()
            return self._made

    def _ask(self) -> None:
        """Inspects the cluster at intervals, each time in a new process, so that a lost cluster does no harm."""
        while True:
            try:
                nodes = [node._asdict() for node in call(visit, self._address).nodes]
                self._cluster = {"address": self._address, "state": "there", "nodes": nodes}
            except NoCluster as error:
                self._cluster = {"address": self._address, "state": "not there", "what": str(error)}
            except Refused as error:
                self._cluster = {"address": self._address, "state": "refuses", "what": str(error)}
            except Exception as error:  # any failure of the child is shown on the page, and retried later
                self._cluster = {"address": self._address, "state": "does not answer", "what": str(error)[:300]}
            time.sleep(_CLUSTER_S)


def application(config: WatchConfig) -> FastAPI:
    """The server; raises RunError for a folder that is no run."""
    watcher = Watcher(config)
    app = FastAPI(title="EmbodiChain", docs_url=None, redoc_url=None, openapi_url=None)
    page = files("embodichain.operations.watch") / "page"

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.get("/")
    def index() -> HTMLResponse:
        return HTMLResponse((page / "index.html").read_text(encoding="utf-8"))

    @app.get("/{name}.{kind}")
    def static(name: str, kind: str) -> Response:
        full = f"{name}.{kind}"
        if full not in _TYPES:
            raise HTTPException(404, f"there is no {full}")
        return Response((page / full).read_bytes(), media_type=_TYPES[full])

    @app.get("/api/snapshot")
    def snapshot() -> Response:
        return Response(strict_json(watcher.snapshot()), media_type="application/json")

    @app.get("/api/events")
    async def events(request: Request) -> StreamingResponse:
        return StreamingResponse(_events(watcher, request), media_type="text/event-stream")

    @app.get("/api/runs/{index}/live.png")
    def live(index: int) -> Response:
        return _png(_view(watcher, index).live_picture())

    @app.get("/api/runs/{index}/pictures/{name}")
    def picture(index: int, name: str) -> Response:
        return _png(_view(watcher, index).picture(name))

    @app.get("/metrics")
    def metrics() -> PlainTextResponse:
        text = exposition(watcher.snapshot()["runs"])
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/healthz")
    def healthz() -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    @app.get("/readyz")
    def readyz() -> PlainTextResponse:
        """200 when every run streams, is evaluated or has ended well."""
        states = {run["name"]: run["state"] for run in watcher.snapshot()["runs"]}
        bad = {name: state for name, state in states.items() if state not in ("streaming", "evaluating", "ended")}
        text = "".join(f"{name}: {state}\n" for name, state in (bad or states).items()) or "no run\n"
        return PlainTextResponse(text, status_code=503 if bad else 200)

    @app.post("/api/runs/{index}/max-reads")
    def max_reads(index: int, max_reads: Annotated[int, Body(embed=True)], authorization: Token = "") -> dict[str, Any]:
        _allow(config, authorization)
        view = _view(watcher, index)
        if not 1 <= max_reads <= MAX_READS_LIMIT:
            raise HTTPException(422, f"K must be 1..{MAX_READS_LIMIT}, got {max_reads}")
        partial = view.path / f".{WISHES_FILE}.{secrets.token_hex(4)}.partial"
        try:
            partial.write_text(json.dumps({"max_reads": max_reads}), encoding="utf-8")
            partial.replace(view.path / WISHES_FILE)  # the run reads this file every two seconds; only it may change its ring
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise HTTPException(409, f"the run's folder cannot be written: {error.strerror}") from None
        return {"asked": {"max_reads": max_reads}}

    @app.post("/api/runs/{index}/stop")
    def stop(index: int, authorization: Token = "") -> dict[str, Any]:
        _allow(config, authorization)
        view = _view(watcher, index)
        pid = view.pid
        if not _interrupt(view, pid):
            raise HTTPException(409, "the run does not stream now")
        return {"stopping": pid}

    return app


def serve(config: WatchConfig, ready: Callable[[str], None] = lambda url: None) -> None:
    """Serves until Ctrl-C; calls `ready` with the page's URL once it listens.

    Raises RunError for a folder that is no run, ConfigError if the address cannot be used or the port is taken.
    """
    app, family = application(config), socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listening = socket.create_server((config.host, config.port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot listen on {config.host}:{config.port}: {reason}; choose another --port") from error
    with listening:
        ready(f"http://{f'[{config.host}]' if ':' in config.host else config.host}:{listening.getsockname()[1]}")
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run([listening])


async def _events(watcher: Watcher, request: Request) -> AsyncIterator[str]:
    """Server-sent events. Each contains a whole snapshot, so that a page that reconnects misses nothing."""
    while not await request.is_disconnected():
        made = await asyncio.to_thread(watcher.snapshot)
        yield f"data: {strict_json(made)}\n\n"
        await asyncio.sleep(_EVERY_S)


def _view(watcher: Watcher, index: int) -> RunView:
    if not 0 <= index < len(watcher.views):
        raise HTTPException(404, f"there is no run {index}; there are {len(watcher.views)}")
    return watcher.views[index]


def _interrupt(view: RunView, pid: int) -> bool:
    """Ends the run as Ctrl-C does: a checkpoint, a report, and --resume goes on. Returns False when `pid` does not work on it.

    A killed run leaves its number and its ring behind, and the system gives the number to another process. So only a process that
    holds the run's folder is told to stop.
    """
    try:
        return send_signal(pid, signal.SIGINT, is_meant=lambda: view.holds_folder(pid))
    except PermissionError:
        raise HTTPException(403, f"the process {pid} belongs to another user, who alone can stop it") from None


def _png(data: bytes | None) -> Response:
    if data is None:
        raise HTTPException(404, "there is no such picture")
    return Response(data, media_type="image/png")


def _allow(config: WatchConfig, authorization: str) -> None:
    """Raises an HTTP error unless the request has the token."""
    if not config.token:
        raise HTTPException(403, "this page only shows: start it with a token to allow actions")
    # Headers come decoded as Latin-1, whatever the client's bytes mean; a token of the environment may be any bytes.
    if not hmac.compare_digest(authorization.encode("latin-1"), f"Bearer {config.token}".encode(errors="surrogateescape")):
        raise HTTPException(401, "the token is not the one that this page was started with")
