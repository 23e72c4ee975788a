"""Interface to an external image- or text-to-3D generator, over HTTP or as a command. The contract is in `docs/generators.md`.

A request has a prompt, optionally an image, and a seed; the answer is one binary glTF file and its licence. Nothing in the answer
is trusted: time, size, type and content are checked before the mesh enters the chain.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import shlex
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embodichain.errors import AssetError, ConfigError
from embodichain.processes import end_group, exit_code

FORMAT = "embodichain/generate/1"
CONTENT_TYPE = "model/gltf-binary"
_HEADERS = {"licence": "Asset-Licence", "generator": "Generator-Name", "version": "Generator-Version", "size": "Asset-Size-Metres"}
_CHUNK = 1 << 20
_LEAST_GLB = 28  # a header, and one chunk with an empty object


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    """The generator and its limits; exactly one of `url` and `command` is given.

    `command` is split like a shell line, without a shell; `{prompt}`, `{out}`, `{seed}` and `{image}` stand for their values.
    """

    url: str = ""
    command: str = ""
    timeout_s: float = 600.0
    max_bytes: int = 256 << 20
    licence: str = ""
    """Licence of the answers; it overrides what the generator states. One of the two is needed."""

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.command):
            raise ConfigError("give a generator either by --generator URL or by --generator-command 'program {prompt} {out}'")
        try:
            scheme = urllib.parse.urlsplit(self.url).scheme if self.url and urllib.parse.urlsplit(self.url).port != 0 else ""
            shlex.split(self.command)
        except ValueError as error:  # a port that is none, a quotation that does not end
            raise ConfigError(f"generator {self.url or self.command!r} cannot be understood: {error}") from error
        if self.url and scheme not in ("http", "https"):
            raise ConfigError(f"generator {self.url!r} is no http:// or https:// address")
        if self.command and "{out}" not in self.command:
            raise ConfigError(f"generator command {self.command!r} has no {{out}}: the file it must write")
        if not (self.timeout_s > 0.0 and self.max_bytes >= _LEAST_GLB):
            raise ConfigError(f"time and size limits must be positive, got {self.timeout_s} s and {self.max_bytes} bytes")

    @property
    def name(self) -> str:
        """Name of the generator in error messages."""
        return self.url or shlex.split(self.command)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """A request: a prompt, an image file or both, and a seed."""

    prompt: str = ""
    image: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.prompt.strip() and self.image is None:
            raise ConfigError("a generator needs a prompt or an image")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """The answer of a generator: one binary glTF file, and the statements about it."""

    glb: bytes
    licence: str
    generator: str
    version: str = ""
    size_m: float | None = None
    """Longest edge [m], if the generator states it."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.glb).hexdigest()


def generate(request: GenerateRequest, config: GeneratorConfig) -> Generated:
    """Asks the generator once.

    Raises:
        AssetError: it cannot be reached, is too slow, fails, answers too much, or its answer is no binary glTF mesh or has no
            licence.
    """
    glb, said = _by_http(request, config) if config.url else _by_command(request, config)
    _check_glb(glb, config)
    licence = config.licence or str(said.get("licence") or "").strip()
    if not licence:
        raise AssetError(f"generate: {config.name} states no licence; give one by --licence if you know it")
    return Generated(
        glb=glb,
        licence=licence,
        generator=str(said.get("generator") or config.name),
        version=str(said.get("version") or ""),
        size_m=_size(said.get("size"), config),
    )


def _by_http(request: GenerateRequest, config: GeneratorConfig) -> tuple[bytes, Mapping[str, Any]]:
    body: dict[str, Any] = {"format": FORMAT, "prompt": request.prompt, "seed": request.seed, "max_bytes": config.max_bytes}
    if request.image is not None:
        body["image"] = base64.b64encode(_image(request.image)).decode()
    address = urllib.parse.urlsplit(config.url)
    deadline = time.monotonic() + config.timeout_s
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    # No redirection is followed and no proxy used, so that prompts go only to the given address.
    connection = kind(address.hostname or "", address.port, timeout=config.timeout_s)
    headers = {"Content-Type": "application/json", "Accept": CONTENT_TYPE, "User-Agent": "embodichain"}
    try:
        connection.connect()
        sock = connection.sock
        path = urllib.parse.urlunsplit(("", "", address.path or "/", address.query, ""))
        connection.request("POST", path, json.dumps(body).encode(), headers)
        sock.settimeout(_left(deadline))
        reply = connection.getresponse()
        if reply.status != 200:
            text = reply.read(2000).decode("utf-8", "replace").strip()
            raise AssetError(f"generate: {config.name} refuses with status {reply.status}: {text[:300] or reply.reason}")
        found = reply.headers.get_content_type()
        if found != CONTENT_TYPE:
            raise AssetError(f"generate: {config.name} answers with {found}, expected {CONTENT_TYPE}")
        if reply.length is not None and reply.length > config.max_bytes:
            raise _too_large(config)
        expected, data = reply.length, bytearray()
        while chunk := reply.read1(_CHUNK):
            data += chunk
            if len(data) > config.max_bytes:
                raise _too_large(config)
            if not reply.isclosed():  # since Python 3.13 the last byte closes the reply, and its socket with it
                sock.settimeout(_left(deadline))
        if expected is not None and len(data) < expected:
            raise AssetError(f"generate: {config.name} broke off after {len(data)} of {expected} bytes")
        return bytes(data), {name: reply.headers.get(header) for name, header in _HEADERS.items()}
    except TimeoutError as error:
        raise _late(config) from error
    except (http.client.HTTPException, OSError) as error:
        raise AssetError(f"generate: {config.name} cannot be reached ({error or type(error).__name__}); is it running?") from error
    finally:
        connection.close()


def _left(deadline: float) -> float:
    """Seconds until the deadline; raises TimeoutError after it."""
    left = deadline - time.monotonic()
    if left <= 0.0:
        raise TimeoutError
    return left


def _by_command(request: GenerateRequest, config: GeneratorConfig) -> tuple[bytes, Mapping[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="embodichain-generate-") as folder:
        out = Path(folder) / "asset.glb"
        values = {"prompt": request.prompt, "out": str(out), "seed": str(request.seed), "image": str(request.image or "")}
        words = [_filled(word, values) for word in shlex.split(config.command)]
        log = Path(folder) / "log"
        try:
            with log.open("wb") as sink:
                process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
                )
        except OSError as error:
            raise AssetError(f"generate: cannot start {words[0]!r}: {error.strerror}") from error
        try:
            status = _waited(process, out, config)
        finally:
            end_group(process)
        said = log.read_bytes()[-600:].decode("utf-8", "replace").strip()
        if status:
            raise AssetError(f"generate: {config.name} failed with exit code {status}: {said[-300:] or 'it said nothing'}")
        if not out.is_file():
            raise AssetError(f"generate: {config.name} wrote no file {{out}}: {said[-300:] or 'it said nothing'}")
        if out.stat().st_size > config.max_bytes:
            raise _too_large(config)
        return out.read_bytes(), _sidecar(Path(f"{out}.json"), config)


def _filled(word: str, values: Mapping[str, str]) -> str:
    """Replaces the placeholders in a word of the command in one pass, so that braces in a prompt remain as they are."""
    parts = []
    while word:
        found = {name: at for name in values if (at := word.find(f"{{{name}}}")) >= 0}
        if not found:
            break
        name = min(found, key=lambda key: found[key])
        parts += [word[: found[name]], values[name]]
        word = word[found[name] + len(name) + 2 :]
    return "".join([*parts, word])


def _waited(process: subprocess.Popen[bytes], out: Path, config: GeneratorConfig) -> int:
    """The exit status; raises when the command is too slow or writes too much."""
    deadline = time.monotonic() + config.timeout_s
    while True:
        if (code := exit_code(process)) is not None:
            return code
        if time.monotonic() > deadline:
            raise _late(config)
        if out.exists() and out.stat().st_size > config.max_bytes:
            raise _too_large(config)
        time.sleep(0.02)


def _sidecar(path: Path, config: GeneratorConfig) -> Mapping[str, Any]:
    """The statements of a command about its file in `{out}.json`: licence, generator, version, size; empty without a file."""
    if not path.exists():
        return {}
    try:
        said = json.loads(path.read_text())
    except ValueError as error:
        raise AssetError(f"generate: {config.name} wrote {path.name}, which is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise AssetError(f"generate: {config.name} wrote {path.name}, which is no JSON object")
    return said


def _check_glb(data: bytes, config: GeneratorConfig) -> None:
    """Checks the header, the length, and that there are triangles; the chain judges their quality."""
    if len(data) < _LEAST_GLB or data[:4] != b"glTF":
        raise AssetError(f"generate: {config.name} answers with {len(data)} bytes that are no binary glTF: {data[:16]!r}")
    version, length, first, kind = (int.from_bytes(data[start : start + 4], "little") for start in (4, 8, 12, 16))
    if version != 2 or length != len(data) or kind != 0x4E4F534A or first + 20 > length:
        raise AssetError(
            f"generate: {config.name} answers with damaged binary glTF (version {version}, {length} of {len(data)} bytes)"
        )
    try:
        content = json.loads(data[20 : 20 + first])
        primitives = [entry for mesh in content.get("meshes", []) for entry in mesh["primitives"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(f"generate: {config.name} answers with binary glTF whose description cannot be read: {error}") from error
    if not any(entry.get("mode", 4) in (4, 5, 6) for entry in primitives):
        raise AssetError(f"generate: {config.name} answers with binary glTF that holds no triangles")


def _size(said: Any, config: GeneratorConfig) -> float | None:
    if said in (None, ""):
        return None
    try:
        size = float(said)
    except (TypeError, ValueError):
        size = -1.0
    if not 0.0 < size < 1e4:
        raise AssetError(f"generate: {config.name} says the asset's size is {said!r}; expected metres")
    return size


def _image(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AssetError(f"generate: cannot read image {path}: {error.strerror}") from error


def _late(config: GeneratorConfig) -> AssetError:
    return AssetError(f"generate: {config.name} has not answered within {config.timeout_s:g} s")


def _too_large(config: GeneratorConfig) -> AssetError:
    return AssetError(f"generate: {config.name} answers with more than the {config.max_bytes} bytes that are allowed")
