"""A small generator on loopback that behaves or misbehaves as its path says, and the mesh it makes."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import trimesh

_UPRIGHT = trimesh.transformations.rotation_matrix(-np.pi / 2, (1, 0, 0))  # glTF's up is Y
RED_MUG = trimesh.creation.annulus(0.030, 0.040, 0.09, transform=_UPRIGHT).export(file_type="glb")
POINTS = trimesh.Scene(trimesh.PointCloud(np.eye(3))).export(file_type="glb")


class Handler(BaseHTTPRequestHandler):
    asked: list[dict] = []  # noqa: RUF012 - of all requests to all servers of a test

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({**request, "accept": self.headers["Accept"], "type": self.headers["Content-Type"]})
        data, status, kind = RED_MUG, 200, "model/gltf-binary"
        headers = {"Asset-Licence": "CC-BY-4.0", "Generator-Name": "potter", "Generator-Version": "7"}
        match self.path.strip("/"):
            case "no_licence":
                del headers["Asset-Licence"]
            case "html":
                kind, data = "text/html", b"<html>"
            case "busy":
                status, kind, data = 503, "text/plain", b"all furnaces are hot"
            case "points":
                data = POINTS
            case "noise":
                data = bytes(range(256))
            case "cut":
                data = RED_MUG[: len(RED_MUG) // 2]
            case "elsewhere":
                status, headers = 302, {"Location": "http://127.0.0.1:1/"}
            case "mute":
                time.sleep(300)
            case "large":
                data = RED_MUG + bytes(1 << 20)
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind}.items():
            self.send_header(name, value)
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(data) + 100 * (self.path == "/broken")))
        self.end_headers()
        if self.path == "/dripping":
            for index in range(len(data)):
                self.wfile.write(data[index : index + 1])
                time.sleep(0.1)
        if self.path == "/endless":
            for _ in range(100):
                self.wfile.write(bytes(1 << 16))
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Clients that hang up on purpose are no news."""


@contextlib.contextmanager
def running():
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
