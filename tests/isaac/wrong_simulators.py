"""Simulators that are wrong in one way each: `python wrong_simulators.py HOW SOCKET`."""

import os
import signal
import socket
import sys
import time

import mujoco
import numpy as np

from embodichain.isaac import fake
from embodichain.isaac import wire as wire_module
from embodichain.isaac.fake import Reference
from embodichain.isaac.server import APPLIES
from embodichain.isaac.wire import Wire, serve


class Xyzw(Reference):
    def look(self, tape):
        super().look(tape)
        tape["pose"][..., 3:] = np.roll(tape["pose"][..., 3:], -1, axis=-1)


class PicturesFromBefore(Reference):
    """After a scene is loaded, pictures stay the old ones until a step is made."""

    def __init__(self):
        super().__init__()
        self.old, self.fresh = {}, True

    def load(self, worlds, paths):
        self.fresh = False
        return super().load(worlds, paths)

    def step(self, command, pushes):
        self.fresh = True
        return super().step(command, pushes)

    def render(self, worlds, pictures):
        if self.fresh or not self.old:
            super().render(worlds, pictures)
            self.old = {name: pictures[name].copy() for name in ("rgb", "range", "segmentation")}
        for name, old in self.old.items():
            pictures[name][...] = old


class OtherOrder(Reference):
    def look(self, tape):
        super().look(tape)
        tape["measured"][:, :2] = tape["measured"][:, 1::-1].copy()


class LastInstant(Reference):
    """Contacts of the last physics step of a period alone."""

    def look(self, tape):
        super().look(tape)
        force = np.zeros(6)
        for world, lone in enumerate(self.many.worlds):
            if world not in self.many._live:
                continue
            model, data = lone.world.model, lone.world.data
            found: dict[tuple[int, int], float] = {}
            for number, contact in enumerate(data.contact):
                mujoco.mj_contactForce(model, data, number, force)
                pair = tuple(sorted(int(model.geom_bodyid[geom]) for geom in contact.geom))
                found[pair] = found.get(pair, 0.0) + force[0]
            for row in range(int(tape["num_pairs"][world])):
                pair = tuple(sorted(tape["pair"][world, row].tolist()))
                names = [lone.roster.bodies[body] for body in pair]
                bodies = tuple(sorted(model.body(name).id for name in names))
                tape["force"][world, row] = found.get(bodies, 0.0)


class Degrees(Reference):
    def step(self, command, pushes):
        return super().step(np.radians(command), pushes)

    def look(self, tape):
        super().look(tape)
        tape["measured"][...] = np.degrees(tape["measured"])


class OtherPeriod(Reference):
    """Steps for a hundredth of a second, and says it were a fiftieth."""

    def hello(self, request):
        return super().hello({**request, "robot": {**request["robot"], "control_hz": 100}})

    def look(self, tape):
        super().look(tape)
        tape["time_s"] *= 2


class OldReply(Reference):
    """Answers the third step with the reply to the second."""


class OneCommand(Reference):
    """Steps every world by the first one's command."""

    def step(self, command, pushes):
        return super().step(np.tile(command[:1], (len(command), 1)), pushes)


class StopsTheOthers(Reference):
    """Where a scene is loaded, everything in the other worlds loses its speed."""

    def load(self, worlds, paths):
        for world in set(range(self.many.num_worlds)) - set(worlds):
            if world in self.many._live:
                self.many.worlds[world].world.data.qvel[:] = 0.0
        return super().load(worlds, paths)


class Forgives(Reference):
    """A fault is forgotten after one step."""

    def load(self, worlds, paths):
        self.paths = {**getattr(self, "paths", {}), **dict(zip(worlds, paths, strict=True))}
        return super().load(worlds, paths)

    def step(self, command, pushes):
        faults = super().step(command, pushes)
        for world in faults:
            super().load((world,), (self.paths[world],))
        self.told = faults if pushes else {}
        return self.told


class WeakPush(Reference):
    """Forces are halved."""

    def step(self, command, pushes):
        halved = {world: [(body, [part / 2 for part in force]) for body, force in some] for world, some in pushes.items()}
        return super().step(command, halved)


class Raises(Reference):
    """Fails in its third step, and goes on as if nothing had been."""

    steps = 0

    def step(self, command, pushes):
        self.steps += 1
        if self.steps == 3:
            raise RuntimeError("PhysX is out of memory")
        return super().step(command, pushes)


class NoRoom(Reference):
    """Says that it has room for fewer objects than there are."""

    def sizes(self):
        return super().sizes() | {"objects": 0}

    def look(self, tape):
        pass


class Plain(Reference):
    """Honest, but applies only what the server for Isaac Sim does."""

    def hello(self, request):
        return super().hello(request) | {"applies": APPLIES}


class Cramped(Reference):
    """Honest, with room for two pairs of bodies."""


class Dies(Reference):
    steps = 0

    def step(self, command, pushes):
        self.steps += 1
        if self.steps == 3:
            print("GPU crash dump", flush=True)
            os._exit(5)
        return super().step(command, pushes)


class Hangs(Dies):
    def step(self, command, pushes):
        self.steps += 1
        if self.steps == 3:
            time.sleep(3600)
        return Reference.step(self, command, pushes)


class SegfaultsAtClose(Reference):
    def close(self):
        os.kill(os.getpid(), signal.SIGSEGV)


class HangsAtClose(Reference):
    def close(self):
        time.sleep(3600)


class Talks(Reference):
    """Writes a megabyte wherever a program may, at every step."""

    def step(self, command, pushes):
        for _ in range(1000):
            print("x" * 1000, flush=True)
        print("x" * 1000, file=sys.stderr, flush=True)
        return super().step(command, pushes)


class Repeating(Wire):
    last, count = None, 0

    def send(self, message, descriptor=None):
        if "faults" in message:
            self.count += 1
            if self.count == 3:
                message = self.last
            self.last = message
        super().send(message, descriptor)


WRONG = {made.__name__: made for made in Reference.__subclasses__() + Dies.__subclasses__()}

if __name__ == "__main__":
    how, number = sys.argv[1:]
    if how == "OldReply":
        wire_module.Wire = Repeating
    if how == "Cramped":
        wire_module.MOST_PAIRS = fake.MOST_PAIRS = 2
    with socket.socket(fileno=int(number)) as connection:
        serve(connection, WRONG[how]())
