"""Shows an exhibit in the browser with viser: layers, sliders for joints, and a timeline of an episode."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from types import TracebackType

import numpy as np
import viser

from embodichain.types import Pose, rotate
from embodichain.viewing.exhibit import Exhibit, Layer, Timeline

_SHOWN_AT_FIRST = (Layer.LOOKS, Layer.GRASPS)
_PLAYED_HZ = 25.0
_CONTACT_COLOR = (230, 40, 40)
_SCENE = "/exhibit"


class Page:
    """Serves one exhibit to any number of browsers until it is closed; a context manager.

    Args:
        exhibit: What to show.
        host: Address to listen on; 127.0.0.1 allows only local connections.
        port: TCP port; if it is taken, the next free one is used.
    """

    def __init__(self, exhibit: Exhibit, *, host: str = "127.0.0.1", port: int = 8090) -> None:
        self._exhibit = exhibit
        with _quiet():
            self._server = viser.ViserServer(host=host, port=port, label=exhibit.title, verbose=False)
        self._frames: dict[str, viser.FrameHandle] = {}
        self._ended = threading.Event()
        self._server.scene.set_up_direction("+z")
        self._build()
        self._controls()

    @property
    def url(self) -> str:
        """URL of the page."""
        return f"http://{self._server.get_host()}:{self._server.get_port()}"

    def close(self) -> None:
        """Stops serving; safe to call twice."""
        if not self._ended.is_set():
            self._ended.set()
            with _quiet():
                self._server.stop()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------ what is there

    def _build(self) -> None:
        scene, start = self._server.scene, self._exhibit.start()
        if not self._exhibit.around:
            scene.add_grid(f"{_SCENE}/ground", width=2.0, height=2.0, cell_size=0.05, section_size=0.5)
        for name in dict.fromkeys(part.frame for part in self._exhibit.parts):
            self._frames[name] = scene.add_frame(_path(name), show_axes=False)
        self._pose(start)
        self._layers: dict[Layer, list[viser.SceneNodeHandle]] = {layer: [] for layer in self._exhibit.layers}
        for number, part in enumerate(self._exhibit.parts):
            red, green, blue, opacity = part.color
            node = scene.add_mesh_simple(
                f"{_path(part.frame)}/{part.layer}{number}",
                part.mesh.vertices.astype(np.float32),
                part.mesh.faces.astype(np.uint32),
                color=(round(255 * red), round(255 * green), round(255 * blue)),
                opacity=opacity if opacity < 1.0 else None,
                flat_shading=True,
                side="double",
                visible=part.layer in _SHOWN_AT_FIRST,
            )
            self._layers[part.layer].append(node)
        low, high = self._bounds(start)
        centre, reach = (low + high) / 2, max(float(np.linalg.norm(high - low)), 0.05)
        camera = self._server.initial_camera
        camera.look_at, camera.position = tuple(centre), tuple(centre + reach * np.array((0.75, -0.5, 0.5)))
        camera.near = reach / 1000

    def _bounds(self, poses: Mapping[str, Pose]) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the initial view [m]."""
        points = [
            rotate(poses[part.frame].quaternion, part.mesh.vertices) + poses[part.frame].position
            for part in self._exhibit.parts
            if part.layer in _SHOWN_AT_FIRST and part.frame not in self._exhibit.around
        ]
        everything = np.concatenate(points) if points else np.zeros((1, 3))
        return everything.min(axis=0), everything.max(axis=0)

    def _pose(self, poses: Mapping[str, Pose]) -> None:
        for name, frame in self._frames.items():
            frame.position, frame.wxyz = poses[name].position, poses[name].quaternion

    # ------------------------------------------------------------------------------------------------------ what can be done

    def _controls(self) -> None:
        gui, exhibit = self._server.gui, self._exhibit
        gui.configure_theme(show_logo=False, show_share_button=False)
        gui.add_markdown("\n".join([f"### {exhibit.title}", "", "| | |", "|---|---|", *_rows(exhibit.facts)]))
        for layer, nodes in self._layers.items():
            box = gui.add_checkbox(str(layer), layer in _SHOWN_AT_FIRST)
            box.on_update(_shows(nodes))
        if exhibit.sliders:
            with gui.add_folder("joints"):
                self._sliders = {
                    one.name: gui.add_slider(one.name, one.lower, one.upper, max((one.upper - one.lower) / 200, 1e-6), one.start)
                    for one in exhibit.sliders
                    if one.upper > one.lower
                }
            for slider in self._sliders.values():
                slider.on_update(lambda _: self._move())
        if exhibit.timeline is not None:
            self._scrubber(exhibit.timeline)

    def _move(self) -> None:
        resting = {one.name: one.start for one in self._exhibit.sliders}
        with self._server.atomic():
            self._pose(self._exhibit.posed(resting | {name: slider.value for name, slider in self._sliders.items()}))

    def _scrubber(self, timeline: Timeline) -> None:
        gui, scene, last = self._server.gui, self._server.scene, len(timeline.time_s) - 1
        moment = gui.add_slider("moment", 0, last, 1, 0)
        play = gui.add_checkbox("play", False)
        clock = gui.add_markdown("")
        images = (
            [gui.add_image(timeline.pictures[0, number], label=name) for number, name in enumerate(timeline.cameras)]
            if len(timeline.pictures)
            else []
        )
        names = list(self._exhibit.start())
        rows = {name: names.index(name) for name in self._frames}

        def show() -> None:
            at = int(moment.value)
            with self._server.atomic():
                for name, frame in self._frames.items():
                    pose = timeline.poses[at, rows[name]]
                    frame.position, frame.wxyz = pose[:3], pose[3:]
                points = timeline.contacts[at].astype(np.float32).reshape(-1, 3)
                scene.add_point_cloud(f"{_SCENE}/contacts", points, _CONTACT_COLOR, point_size=0.004, point_shape="circle")
            clock.content = f"{timeline.time_s[at]:.2f} s of {timeline.time_s[last]:.2f} s, {timeline.notes[at]}"
            for number, image in enumerate(images):
                image.image = timeline.pictures[timeline.shown[at], number]

        moment.on_update(lambda _: show())
        show()
        period = float(np.median(np.diff(timeline.time_s))) if last else 1.0
        stride = max(1, round(1.0 / (_PLAYED_HZ * period)))

        def turn() -> None:
            while not self._ended.wait(stride * period):
                if play.value:
                    moment.value = (int(moment.value) + stride) % (last + 1)

        threading.Thread(target=turn, daemon=True).start()


def _quiet() -> redirect_stdout[StringIO]:
    """Suppresses viser's output, because standard output may be read by a program."""
    return redirect_stdout(StringIO())


def _path(frame: str) -> str:
    """The name of a frame in viser's tree, with slashes replaced, as they would make frames children of others."""
    return f"{_SCENE}/{frame.replace('/', ' ')}"


def _rows(facts: Mapping[str, str]) -> list[str]:
    return [f"| {name} | {value.replace('|', ' ')} |" for name, value in facts.items()]


def _shows(nodes: list[viser.SceneNodeHandle]) -> Callable[[viser.GuiEvent], None]:
    def show(event: viser.GuiEvent) -> None:
        for node in nodes:
            node.visible = bool(event.target.value)

    return show
