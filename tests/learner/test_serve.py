"""A real server process meets the unmodified openpi client: what it answers, refuses, survives, and how it ends."""

import asyncio
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest
import websockets.sync.client
from learner_parts import SIDE, SMALL, fitted, shaken, trajectory
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.asyncio.server import serve as listen
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from embodichain import cli, robots
from embodichain.errors import ConfigError
from embodichain.motion.action import ActionCodec
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.background import SpeculativePolicy
from learner.inference.config import SaiConfig
from learner.inference.policy import Policy
from learner.inference.policy_file import Setup, load_agent, save_agent
from learner.runs.locate import find
from learner.serving.config import ServeConfig
from learner.serving.server import PolicyServer, embodiment

KEY, CAMERAS, PROMPT = "s3cret", ("head", "left_wrist", "right_wrist"), "turn the switch on"


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory, trajectories):
    agent = fitted(SMALL, RingDataset(MemorySource(trajectories), DataConfig(batch_size=4, window=3)))
    shaken(agent.model)
    path = tmp_path_factory.mktemp("policy") / "policy.safetensors"
    save_agent(agent, path, Setup(robot="dual_piper", width=SIDE, height=SIDE))
    return path


def start(path, *options: str) -> tuple[subprocess.Popen[str], int]:
    """A server process and its port, once it is ready."""
    command = [sys.executable, "-m", "embodichain.cli", "serve", str(path), "--port", "0", "--json", "--threads", "1", *options]
    environment = {**os.environ, "POLICY_KEY": KEY}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    return process, json.loads(line)["port"]


def stopped(process: subprocess.Popen[str], number: int) -> str:
    """Standard error of a server that a signal has ended."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return errors


@pytest.fixture(scope="module")
def port(policy_file):
    process, port = start(
        policy_file, "--api-key-env", "POLICY_KEY", "--sai", "video+action", "--s-mid", "1", "--max-message-mb", "1"
    )
    left_open = WebsocketClientPolicy("127.0.0.1", port, KEY)
    yield port
    assert "Traceback" not in stopped(process, signal.SIGTERM), "and it ends though a client is still there"
    with pytest.raises(ConnectionClosedOK, match="1001"):
        left_open.infer(request(0))


def client(port: int) -> WebsocketClientPolicy:
    return WebsocketClientPolicy("127.0.0.1", port, KEY)


def pictures(t: int, number: int) -> np.ndarray:
    rgb = trajectory(number)["rgb"][t % 6]
    return np.stack([rgb[0], rgb[1], rgb[0][::-1]])


LIMITS = ActionCodec(robots.get("dual_piper")).limits


def state(t: int, number: int) -> np.ndarray:
    """A measurement that can be made of the robot."""
    return LIMITS.bounded(trajectory(number)["proprio"][t % 6])


def request(t: int, number: int = 0, **extra) -> dict:
    rgb = dict(zip(CAMERAS, pictures(t, number), strict=True))
    return {"images": rgb, "state": state(t, number), "prompt": PROMPT, **extra}


def play(policy: WebsocketClientPolicy, frames: int, number: int = 0) -> np.ndarray:
    return np.stack([policy.infer(request(t, number))["actions"] for t in range(frames)])


def healthy(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=120) as reply:
        return reply.status == 200 and reply.read() == b"OK\n"


def test_openpis_client_gets_what_the_policy_in_this_process_says(port, policy_file):
    policy = SpeculativePolicy(load_agent(policy_file), SaiConfig(s_mid=1.0))
    policy.limits = LIMITS
    policy.begin(PROMPT)
    expected = np.stack([policy.act(pictures(t, 0), state(t, 0)) for t in range(4)])
    policy.close()
    remote = client(port)
    metadata = remote.get_server_metadata()
    assert metadata["cameras"] == list(CAMERAS) and metadata["image_shape"] == [SIDE, SIDE, 3]
    assert metadata["action_horizon"] == 16 and metadata["state_sizes"] == {"unified": 30, "native": 14}
    first = remote.infer(request(0))
    assert first["policy_timing"]["infer_ms"] > 0 and set(first["server_timing"]) == {"infer_ms"}
    rest = [remote.infer(request(t)) for t in range(1, 4)]
    assert all(reply["server_timing"]["infer_ms"] >= reply["policy_timing"]["infer_ms"] for reply in rest)
    assert all(reply["server_timing"]["prev_total_ms"] > 0 for reply in rest)
    assert rest[0]["policy_timing"]["outcome"] == "speculated"
    answered = np.stack([first["actions"], *(reply["actions"] for reply in rest)])
    # Not bit for bit: sums of float32 round by where the arrays lie in memory, and these are two processes.
    np.testing.assert_allclose(answered, expected, rtol=1e-5, atol=1e-5)


def test_clients_at_the_same_time_are_answered_as_if_alone(port):
    alone = [play(client(port), 4, number) for number in range(3)]
    together: dict[int, np.ndarray] = {}

    def drive(number: int) -> None:
        together[number] = play(client(port), 4, number)

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert healthy(port), "health is answered while the policy computes"
    for number in range(3):
        assert np.array_equal(together[number], alone[number])


def test_a_new_connection_knows_nothing_of_the_last(port):
    assert np.array_equal(play(client(port), 3), play(client(port), 3))


def test_faults_come_back_as_text_and_the_session_goes_on(port):
    expected = play(client(port), 2)
    remote = client(port)
    first = remote.infer(request(0))["actions"]
    message = request(1)
    for wrong, reason in (
        ({**message, "state": np.zeros(5)}, "state"),
        ({**message, "images": {"nose": np.zeros((SIDE, SIDE, 3), np.uint8)}}, "unknown camera 'nose'"),
        ({**message, "images": {name: np.zeros((SIDE, SIDE, 3)) for name in CAMERAS}}, "uint8"),
    ):
        with pytest.raises(RuntimeError, match=f"(?s)Error in inference server.*{reason}"):
            remote.infer(wrong)
    connection = remote._ws
    for data in (pickle.dumps({"prompt": PROMPT}), b"", b"\xc1", "text"):
        connection.send(data)
        answer = connection.recv()
        assert isinstance(answer, str) and "message" in answer
    assert np.array_equal(np.stack([first, remote.infer(message)["actions"]]), expected)


def test_an_oversized_message_ends_its_connection_alone(port):
    bystander = client(port)
    first = bystander.infer(request(0))["actions"]
    with pytest.raises(ConnectionClosedError, match=r"1009.*exceeds limit"):
        client(port).infer({"images": {"head": np.zeros(2 * 2**20, np.uint8)}})
    second = bystander.infer(request(1))["actions"]
    assert np.array_equal(np.stack([first, second]), play(client(port), 2))


def test_clients_that_vanish_in_the_middle_of_a_request_disturb_nobody(port):
    bystander, chunks = client(port), []
    for t in range(4):
        gone = client(port)
        gone._ws.send(msgpack_numpy.packb(request(t)))
        if t % 2:
            gone._ws.socket.shutdown(socket.SHUT_RDWR)  # without a goodbye
        else:
            gone._ws.send(msgpack_numpy.packb(request(t + 1)))
            gone._ws.close()
        chunks.append(bystander.infer(request(t))["actions"])
    assert healthy(port)
    assert np.array_equal(np.stack(chunks), play(client(port), 4))


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Api-Key wrong"}, {"Authorization": f"Bearer {KEY}"}, {"Authorization": KEY}]
)
def test_without_the_right_key_nobody_is_let_in_but_health_checks(port, headers):
    with pytest.raises(InvalidStatus) as refused:
        websockets.sync.client.connect(f"ws://127.0.0.1:{port}", additional_headers=headers)
    assert refused.value.response.status_code == 401
    assert healthy(port)


def knock(port: int, sent: bytes) -> int:
    """The status of the answer to a handshake with these bytes as its `Authorization` header."""
    lines = [
        b"GET / HTTP/1.1",
        b"Host: localhost",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
        b"Authorization: " + sent,
    ]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        plain.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        return int(plain.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    ("key", "right"),
    [("s3cret", b"s3cret"), ("cl\u00e9 \U0001f511", "cl\u00e9 \U0001f511".encode()), (os.fsdecode(b"\xff\xfe"), b"\xff\xfe")],
)
def test_a_key_of_any_letters_lets_in_who_sends_its_bytes_and_nobody_else(key, right):
    server = PolicyServer.__new__(PolicyServer)  # admission needs the settings alone
    server._config, server._open = ServeConfig(api_key=key), 0

    async def scenario() -> None:
        async def greet(connection):
            await connection.send("welcome")

        async with listen(greet, "127.0.0.1", 0, process_request=server._admit) as listening:
            port = listening.sockets[0].getsockname()[1]
            assert await asyncio.to_thread(knock, port, b"Api-Key " + right) == 101
            for wrong in (b"", b"\xff", right[:-1], right + b"\xe9", right.decode(errors="replace").encode() + b"?"):
                assert await asyncio.to_thread(knock, port, b"Api-Key " + wrong) == 401
            assert await asyncio.to_thread(knock, port, right) == 401

    asyncio.run(scenario())


@pytest.mark.parametrize("key", ["s3cret\n", " s3cret", "s3\rcret", "s3cret\t", "s3\0cret", "s3cret\x7f", "s3\ud800cret"])
def test_a_key_that_no_header_can_hold_is_refused_at_the_start(key):
    with pytest.raises(ConfigError, match="api_key begins or ends with a blank, or holds") as refused:
        ServeConfig(api_key=key)
    assert "s3" not in str(refused.value), "a secret is not shown"


def test_web_pages_are_refused(port):
    headers = {"Authorization": f"Api-Key {KEY}", "Origin": "https://example.com"}
    with pytest.raises(InvalidStatus) as refused:
        websockets.sync.client.connect(f"ws://127.0.0.1:{port}", additional_headers=headers)
    assert refused.value.response.status_code == 403


@pytest.mark.slow
def test_ctrl_c_ends_a_server_in_the_middle_of_requests(policy_file):
    process, port = start(policy_file)
    remote = WebsocketClientPolicy("127.0.0.1", port)
    failures: list[Exception] = []
    busy = threading.Event()

    def drive() -> None:
        try:
            while True:
                remote.infer(request(0))
                busy.set()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=drive)
    thread.start()
    assert busy.wait(120.0)
    errors = stopped(process, signal.SIGINT)
    thread.join(timeout=120)
    assert not thread.is_alive()
    assert "Traceback" not in errors
    assert isinstance(failures[0], ConnectionClosedError | ConnectionClosedOK)


def test_a_port_in_use_and_an_unknown_mode_are_refused_before_anyone_waits(policy_file):
    agent, body = load_agent(policy_file), embodiment(find(policy_file).world)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = PolicyServer(agent, body, ServeConfig(port=taken.getsockname()[1]))
        with pytest.raises(ConfigError, match="choose another --port"):
            asyncio.run(server.run(lambda port: None, asyncio.Event()))
    with pytest.raises(ConfigError, match="video"):
        PolicyServer(agent, body, ServeConfig(sai=SaiConfig(variant="action")))


def test_a_state_that_cannot_be_is_refused_and_no_command_leaves_the_robots_limits(port, policy_file):
    remote = client(port)
    good = remote.infer(request(0))["actions"]
    for channel, word in ((14, "left joint 0"), (7, "right end effector x"), (29, "right gripper")):
        wrong = state(1, 0).copy()
        wrong[channel] = 1e30
        with pytest.raises(RuntimeError, match=rf"cannot be: channel {channel} \({word}.*1e\+30.*lies within"):
            remote.infer(request(1) | {"state": wrong})
    for channel, degrees in ((14, 120.0), (29, 70.0)):
        wrong = state(1, 0).copy()
        wrong[channel] = degrees  # and millimetres
        with pytest.raises(RuntimeError, match="send joints in radians and openings in metres"):
            remote.infer(request(1) | {"state": wrong})
    pressed = state(0, 0).copy()
    pressed[29] = 0.0793  # fingers that lean on something, as MuJoCo measured them
    remote.infer(request(0) | {"state": pressed})
    replies = [good, *(remote.infer(request(t))["actions"] for t in range(1, 5))]
    for actions in replies:
        assert (actions >= LIMITS.low).all() and (actions <= LIMITS.high).all()
    free = SpeculativePolicy(load_agent(policy_file), SaiConfig(s_mid=1.0))
    free.begin(PROMPT)
    beyond = free.act(pictures(0, 0), state(0, 0))
    free.close()
    assert (beyond < LIMITS.low).any() or (beyond > LIMITS.high).any(), "this model would leave them"


def test_whoever_executes_less_than_a_chunk_says_so(port):
    remote = client(port)
    assert remote.get_server_metadata()["execution_horizon"] == [0, 16]
    answers = []
    for count in (0, 5, 16, None):
        first = remote.infer(request(0, reset=True))["actions"]
        assert first.shape == (16, 30)
        told = {} if count is None else {"executed": first[:count]}
        remote.infer(request(1, **told))
        answers.append(remote.infer(request(2))["actions"])  # this server thinks ahead: what was executed shows a chunk later
    assert np.allclose(answers[3], answers[2], atol=1e-5), "all of a chunk is what is assumed"
    assert np.abs(answers[0] - answers[2]).max() > 1e-4 and np.abs(answers[1] - answers[2]).max() > 1e-4
    with pytest.raises(RuntimeError, match=r"executed: needs shape \[0..16, 30\]"):
        remote.infer(request(2, executed=np.zeros((17, 30), np.float32)))


def test_a_fault_of_the_server_is_told_without_its_insides_and_ends_one_connection_alone(policy_file, caplog, monkeypatch):
    server = PolicyServer(load_agent(policy_file), embodiment(find(policy_file).world), ServeConfig(port=0, max_connections=2))
    plain = Policy.act

    def broken(self, rgb, proprio, executed=None):
        if proprio[0] == LIMITS.high[0]:
            raise RuntimeError("out of memory at 0x1234")
        return plain(self, rgb, proprio, executed)

    monkeypatch.setattr(Policy, "act", broken)

    async def drive() -> None:
        stop, ports = asyncio.Event(), asyncio.Queue()
        running = asyncio.create_task(server.run(ports.put_nowait, stop))
        port = await ports.get()
        await asyncio.to_thread(clients, port)
        stop.set()
        await running

    def clients(port: int) -> None:
        one, two = (WebsocketClientPolicy("127.0.0.1", port) for _ in range(2))
        with pytest.raises(InvalidStatus) as refused:
            websockets.sync.client.connect(f"ws://127.0.0.1:{port}")
        assert refused.value.response.status_code == 503
        with pytest.raises(RuntimeError, match="its log says why") as told:
            one.infer(request(0) | {"state": LIMITS.high.copy()})
        assert "0x1234" not in str(told.value)
        assert two.infer(request(0))["actions"].shape == (16, 30)
        with pytest.raises(ConnectionClosedError, match="1011"):
            one.infer(request(0))

    asyncio.run(drive())
    assert "0x1234" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["serve", "nowhere/run"], "nothing at nowhere/run"),
        (["serve", "tests"], "not a run folder"),
        (["serve", "README.md"], "no config.yaml beside it"),
        (["serve", "x", "--api-key-env", "NOT_SET_AT_ALL"], "NOT_SET_AT_ALL"),
        (["serve", "x", "--rename", "head"], "THEIRS=OURS"),
        (["serve", "x", "--port", "70000"], "70000"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(capsys, arguments, reason):
    assert cli.main(arguments) == 2
    errors = capsys.readouterr().err.strip()
    assert reason in errors and len(errors.splitlines()) == 1
