"""`embodichain serve`: serves a trained policy to robots in other processes, over openpi's websocket protocol."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from embodichain.command_line import Parser, natural, positive
from embodichain.errors import ConfigError
from embodichain.lines import strict_json
from learner.commands.kinds import check_device, device, threads
from learner.commands.kinds import trained as trained_path
from learner.commands.speculation import add_sai_options, sai_config
from learner.serving.config import DIALECTS, ServeConfig

if TYPE_CHECKING:
    from learner.serving.server import PolicyServer


def main(arguments: list[str]) -> int:
    """`embodichain serve RUN|CHECKPOINT`: serves until Ctrl-C or SIGTERM, then shuts down and returns 0."""
    options = _parser().parse(arguments)
    config = _config(options)
    path = trained_path(options.path)
    import torch

    from learner.inference.policy_file import load_agent
    from learner.runs.locate import find
    from learner.serving.server import PolicyServer, embodiment

    trained = find(path)
    torch.set_num_threads(options.threads)
    agent = load_agent(trained.checkpoint, check_device(options.device))
    body = embodiment(trained.world)
    server = PolicyServer(agent, body, config, {"robot": trained.world.robot, "tasks": list(trained.world.tasks)})
    server.warm_up()
    if config.host not in ("127.0.0.1", "::1", "localhost") and not config.api_key:
        print(f"warning: anyone who reaches {config.host} can use this policy; --api-key-env asks for a key", file=sys.stderr)

    def ready(port: int) -> None:
        if options.json:
            print(strict_json({"url": f"ws://{config.host}:{port}", "port": port, "metadata": server.metadata}), flush=True)
        else:
            print(f"serving {path} on ws://{config.host}:{port}; cameras {', '.join(body.cameras)} of", end=" ")
            print(f"{body.width} x {body.height}; speculation {server.metadata['speculation']}; Ctrl-C stops", flush=True)

    asyncio.run(_until_signal(server, ready))
    return 0


async def _until_signal(server: PolicyServer, ready: Callable[[int], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.run(ready, stop)


def _config(options: argparse.Namespace) -> ServeConfig:

    api_key = ""
    if options.api_key_env is not None:
        api_key = os.environ.get(options.api_key_env, "")
        if not api_key:
            raise ConfigError(f"the environment variable {options.api_key_env!r} is empty or not set: it must hold the API key")
    rename = {}
    for pair in options.rename:
        theirs, equals, ours = pair.partition("=")
        if not equals or not theirs or not ours:
            raise ConfigError(f"--rename takes THEIRS=OURS, as in observation/image=images/head, got {pair!r}")
        if theirs in rename:
            raise ConfigError(f"--rename gives {theirs!r} two names, {rename[theirs]!r} and {ours!r}: leave one of them out")
        rename[theirs] = ours
    return ServeConfig(
        host=options.host,
        port=options.port,
        api_key=api_key,
        max_message_bytes=options.max_message_mb * 2**20,
        max_memory_mib=options.max_memory_mib,
        rename=rename,
        sai=sai_config(options),
        seed=options.seed,
        dialect=options.dialect,
    )


def _parser() -> Parser:
    parser = Parser("serve", "Serves a trained policy to openpi clients.")
    add = parser.add_argument
    add("path", metavar="RUN|CHECKPOINT", help="a run folder, a checkpoint inside one, or a .safetensors policy")
    add("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine alone)")
    add("--port", type=int, default=8000, help="default 8000; 0 takes a free one")
    add("--api-key-env", metavar="NAME", help="environment variable that holds the key which clients must send")
    add("--dialect", default="openpi", metavar="DIALECT", help=f"how clients speak: {', '.join(DIALECTS)} (default openpi)")
    add("--rename", nargs="+", default=[], metavar="THEIRS=OURS", help="clients' names of keys: observation/image=images/head")
    add_sai_options(parser)
    add("--device", type=device, help="cpu or cuda; by default the GPU when there is one")
    add("--threads", type=threads, default=2, help="CPU threads of the arithmetic (default 2)")
    add(
        "--max-memory-mib",
        type=positive,
        default=4096,
        help="what all sessions together may hold (default 4096); one more is refused",
    )
    add("--max-message-mb", type=positive, default=32, help="larger messages end their connection (default 32)")
    add("--seed", type=natural, default=0, help="of the sampling noise: every session begins with it")
    add("--json", action="store_true", help="print the address and the metadata as one JSON object when ready")
    return parser
