"""What `cluster/` holds is read by other programs: it must be what they take, and name what is there."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml
from command_lines import check_command

from embodichain import cli
from embodichain.operations.watch.exposition import exposition
from embodichain.ray_engine.weather import Cause

CLUSTER = Path(__file__).parent.parent / "cluster"
QUANTITY = {"type": "string", "pattern": r"^\d+(\.\d+)?(m|[KMGT]i?)?$"}
RESOURCES = {
    "type": "object",
    "required": ["requests", "limits"],
    "additionalProperties": {"type": "object", "additionalProperties": QUANTITY},
}
POD = {  # of core/v1, the parts that are used
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["containers"],
            "additionalProperties": False,
            "properties": {
                "containers": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["name", "image"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {"type": "string"},
                            "image": {"type": "string"},
                            "command": {"type": "array", "items": {"type": "string"}},
                            "resources": RESOURCES,
                            "ports": {"type": "array", "items": {"type": "object", "required": ["name", "containerPort"]}},
                            "volumeMounts": {"type": "array", "items": {"type": "object", "required": ["name", "mountPath"]}},
                            "livenessProbe": {"type": "object", "required": ["httpGet"]},
                        },
                    },
                },
                "volumes": {"type": "array", "items": {"type": "object", "required": ["name"]}},
                "shareProcessNamespace": {"type": "boolean"},
                "terminationGracePeriodSeconds": {"type": "integer"},
            },
        }
    },
}
GROUP = {"rayStartParams": {"type": "object", "additionalProperties": {"type": "string"}}, "template": POD}
RAY_CLUSTER = {  # of ray.io/v1, KubeRay 1.4: helm-chart/kuberay-operator/crds/ray.io_rayclusters.yaml
    "type": "object",
    "required": ["headGroupSpec"],
    "additionalProperties": False,
    "properties": {
        "rayVersion": {"const": ray.__version__},
        "enableInTreeAutoscaling": {"type": "boolean"},
        "autoscalerOptions": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "idleTimeoutSeconds": {"type": "integer"},
                "upscalingMode": {"enum": ["Default", "Aggressive", "Conservative"]},
            },
        },
        "authOptions": {"type": "object", "properties": {"mode": {"enum": ["token", "disabled"]}}},
        "headGroupSpec": {
            "type": "object",
            "required": ["template", "rayStartParams"],
            "properties": GROUP,
            "additionalProperties": False,
        },
        "workerGroupSpecs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["groupName", "template", "rayStartParams", "minReplicas", "maxReplicas"],
                "additionalProperties": False,
                "properties": GROUP
                | {"groupName": {"type": "string"}}
                | {name: {"type": "integer", "minimum": 0} for name in ("replicas", "minReplicas", "maxReplicas")},
            },
        },
    },
}
RAY_JOB = {
    "type": "object",
    "required": ["entrypoint", "rayClusterSpec"],
    "additionalProperties": False,
    "properties": {
        "entrypoint": {"type": "string"},
        "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        "shutdownAfterJobFinishes": {"type": "boolean"},
        "ttlSecondsAfterFinished": {"type": "integer"},
        "backoffLimit": {"type": "integer"},
        "rayClusterSpec": RAY_CLUSTER,
    },
}


def load(name: str) -> dict:
    return yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "kind", "spec"), [("raycluster.yaml", "RayCluster", RAY_CLUSTER), ("rayjob.yaml", "RayJob", RAY_JOB)]
)
def test_what_kuberay_is_given_is_of_its_kind_and_grows(name, kind, spec):
    given = load(name)
    assert (given["apiVersion"], given["kind"]) == ("ray.io/v1", kind)
    jsonschema.validate(given["spec"], spec)
    cluster = given["spec"].get("rayClusterSpec", given["spec"])
    (group,) = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"] and group["minReplicas"] < group["maxReplicas"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    names = {volume["name"] for volume in head["volumes"]}
    for container in head["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= names
        assert any(mount["mountPath"] == "/dev/shm" for mount in container["volumeMounts"])


def test_ray_up_takes_its_file():
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(load("ray.yaml"), schema)


def commands() -> list[tuple[str, list[str]]]:
    """Every `embodichain` command line in the folder, and where it stands."""
    compose = load("compose.yaml")
    found = [(f"compose {name}", service["command"]) for name, service in compose["services"].items() if "command" in service]
    found.append(("rayjob", load("rayjob.yaml")["spec"]["entrypoint"].split()))
    watch = load("raycluster.yaml")["spec"]["headGroupSpec"]["template"]["spec"]["containers"][1]["command"][-1]
    found.append(("raycluster watch", watch.partition("exec ")[2].split()))
    serve = re.search(r"^ExecStart=(.*)$", (CLUSTER / "embodichain-serve.service").read_text(), re.M)
    assert serve is not None
    found.append(("systemd", ["embodichain", *serve[1].replace("${POLICY}", "builtin:turn_switch").split()[1:]]))
    return [(where, words) for where, words in found if words[0] == "embodichain"]


@pytest.mark.parametrize(("where", "words"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_in_a_file_exists_with_its_options(where, words, tmp_path, monkeypatch, capsys):
    check_command(words, tmp_path, monkeypatch, capsys)


def test_the_services_of_compose_refer_to_what_there_is():
    compose = load("compose.yaml")
    services, volumes = compose["services"], set(compose["volumes"])
    allowed = {"image", "build", "environment", "secrets", "command", "ipc", "pid", "network_mode", "shm_size", "volumes", "ports"}
    allowed |= {"healthcheck", "depends_on", "stop_signal", "stop_grace_period", "restart"}
    for name, service in services.items():
        assert service.keys() <= allowed, name
        for mount in service.get("volumes", ()):
            source = mount.partition(":")[0]
            assert source in volumes or (CLUSTER / source).is_dir(), mount
        for other in service.get("depends_on", ()):
            assert other in services
        for mode in ("ipc", "pid", "network_mode"):
            kind, _, other = str(service.get(mode, "")).partition(":")
            assert kind != "service" or other in services
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} listens beyond this machine"
    assert services["learner"]["ipc"] == services["watch"]["ipc"] == "service:head" and services["head"]["ipc"] == "shareable"
    build = services["head"]["build"]
    assert (CLUSTER / build["context"] / build["dockerfile"]).exists()


def known_metrics() -> set[str]:
    """Every metric that a run can give, from a snapshot in which nothing is missing."""
    names = ("ready", "writing", "free", "quarantined", "oldest_s", "published", "acquired", "retired", "over_reads")
    ring = dict.fromkeys([*names, "blocked_writer_s", "blocked_reader_s"], 1.0)
    run = {"name": "run", "recipe": "r", "state": "streaming", "step": 1, "steps": 2, "samples_per_s": 1.0, "ring": ring}
    run |= {"experience": {"now": 1.0, "target": 2.0}, "age": {"now": 1.0}, "waiting": {"workers": 0.1, "learner": 0.2}}
    run |= {"deaths": dict.fromkeys(Cause, 1), "losses": {"loss": [(1, 1.0)]}}
    return {line.split()[2] for line in exposition([run]).splitlines() if line.startswith("# TYPE")}


def test_rules_and_dashboard_ask_for_metrics_that_there_are():
    rules = load("prometheus/rules.yml")
    dashboard = json.loads((CLUSTER / "grafana" / "embodichain.json").read_text(encoding="utf-8"))
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {name for text in expressions for name in re.findall(r"\bembodichain_\w+", text)}
    assert len(asked) > 12 and asked <= known_metrics()
    for group in rules["groups"]:
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"} and rule["labels"]["severity"] in (
                "page",
                "ticket",
            )
            assert rule["annotations"]["summary"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_runbook_knows_every_alert():
    rows = [line for line in (CLUSTER / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| **")]
    for group in load("prometheus/rules.yml")["groups"]:
        for rule in group["rules"]:
            assert sum(f"alert `{rule['alert']}`" in row for row in rows) == 1, rule["alert"]


def test_the_dockerfiles_copy_what_there_is_and_run_as_nobody_special():
    for name in ("Dockerfile", "Dockerfile.cuda"):
        text = (CLUSTER / name).read_text(encoding="utf-8")
        lines = re.sub(r"\\\n", " ", text).splitlines()
        words = [line.split() for line in lines if line and not line.startswith("#")]
        assert words[0][0] == "FROM" and {line[0] for line in words if line[0].isupper()} <= {
            *("FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "HEALTHCHECK", "ENTRYPOINT", "CMD")
        }
        for line in words:
            if line[0] == "COPY" and not line[1].startswith("--"):
                assert all((CLUSTER.parent / source).exists() for source in line[1:-1]), line
        users = [line[1] for line in words if line[0] == "USER"]
        (user,) = users
        assert user.isdigit() and int(user) > 0 and f"--uid {user} robot" in text, "Kubernetes takes only a number for not root"
        assert all(":" in line[1] and not line[1].endswith(":latest") for line in words if line[0] == "FROM")


def test_what_a_container_writes_belongs_to_whom_it_runs_as():
    """A named volume takes its owner from the image's folder; where the image has none it is root's, and Ray could not begin."""
    services = load("compose.yaml")["services"].values()
    named = {mount.split(":")[1] for service in services for mount in service.get("volumes", ()) if not mount.startswith(".")}
    for name in ("Dockerfile", "Dockerfile.cuda"):
        text = re.sub(r"\\\n", " ", (CLUSTER / name).read_text(encoding="utf-8"))
        made, owned = (set(re.findall(rf"{command} ((?:/[\w/]+ ?)+)", text)[-1].split()) for command in ("mkdir", "chown robot"))
        assert named <= made & owned, name


def test_grafana_has_a_source_for_its_dashboard():
    compose = load("compose.yaml")["services"]
    mounts = dict(mount.split(":")[:2][::-1] for mount in compose["grafana"]["volumes"])
    folder = CLUSTER / mounts["/etc/grafana/provisioning/datasources"]
    (source,) = [found for path in folder.glob("*.yaml") for found in yaml.safe_load(path.read_text())["datasources"]]
    dashboard = load("grafana/embodichain.json")
    (asked,) = [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "datasource"]
    assert source["type"] == asked
    found = re.fullmatch(r"http://(\w+):(\d+)", source["url"])
    assert found is not None
    host, port = found.groups()
    assert compose[host]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_no_file_installs_by_a_name_that_others_have_in_a_registry():
    """Every install is of a path: a name alone would fetch the project that has it on PyPI."""
    installs = [
        (path.name, line)
        for path in sorted(CLUSTER.iterdir())
        if path.is_file()
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"pip install.*(\[all|embodichain\[)", line)
    ]
    assert len(installs) >= 3
    for name, line in installs:
        assert not re.search(r"[ '\"]embodichain(\[|'|\"|$)", line), f"{name}: {line}"


SLURM = {  # what the script asks of a Slurm installation; as there, srun keeps an interrupt for itself
    "scontrol": "echo node0",
    "srun": """
        trap '' INT
        while [[ $1 == -* ]]; do [[ $1 == -w ]] && shift; shift; done
        [[ $1 == hostname ]] && { echo 127.0.0.1; exit; }
        [[ $* == "ray health-check"* ]] && exit
        [[ $1 == ray ]] && exec sleep 60
        exec "$@"
    """,
    "embodichain": """
        trap 'sleep 1; touch "$EMBODICHAIN_OUT.checkpoint"; exit 7' INT TERM
        touch "$EMBODICHAIN_OUT.began"
        while :; do sleep 0.1; done
    """,
}


def test_a_job_at_its_limit_lasts_until_the_learner_has_written_its_checkpoint(tmp_path):
    for name, script in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}")
        (tmp_path / name).chmod(0o755)
    given = {"SLURM_JOB_NAME": "test", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node0", "SLURM_CPUS_PER_TASK": "4"}
    given |= {"SLURM_JOB_NUM_NODES": "1", "EMBODICHAIN_OUT": str(tmp_path / "run")}
    job = subprocess.Popen(
        ["bash", str(CLUSTER / "slurm.sh"), "tiny_cpu"],
        env=os.environ | given | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a child of a job in the background
    )
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "run.began").exists():
            assert time.monotonic() < deadline and job.poll() is None
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)  # as --signal=B:INT@300 does
        assert job.wait(30) == 7 and (tmp_path / "run.checkpoint").exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)


def test_shell_scripts_parse():
    subprocess.run(["bash", "-n", str(CLUSTER / "slurm.sh")], check=True)


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("promtool", ["check", "rules", "prometheus/rules.yml"]),
        ("promtool", ["check", "config", "prometheus/prometheus.yml"]),
        ("hadolint", ["Dockerfile", "Dockerfile.cuda"]),
        ("shellcheck", ["slurm.sh"]),
        ("systemd-analyze", ["verify", "--man=no", "embodichain-serve.service"]),
    ],
)
def test_their_own_checkers_pass_where_they_are(program, arguments):
    found = shutil.which(program, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
    if found is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([found, *arguments], cwd=CLUSTER, capture_output=True, text=True)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "is not executable: No such file" not in line]
    assert done.returncode == 0 or not complaints, complaints


def test_the_runbook_names_what_happens_and_commands_that_exist():
    text = (CLUSTER / "README.md").read_text(encoding="utf-8")
    for subject in ("node is lost", "disk full", "learner starved", "workers blocked", "wrong token", "upgrade", "/dev/shm full"):
        assert f"**{subject}" in text or f"**a {subject}" in text or f"**the {subject}" in text
    for name in re.findall(r"`embodichain (\w+)", text):
        assert name in cli.COMMANDS
    for name in re.findall(r"`([\w.-]+\.(?:yaml|sh|service))`", text):
        assert (CLUSTER / name).exists()


@pytest.mark.slow
@pytest.mark.cluster
def test_the_commands_of_compose_run_by_hand_on_loopback(tmp_path):
    """Head, worker and learner as the file starts them, each in a process of its own, with the token that the file asks for."""
    services = load("compose.yaml")["services"]
    port, token, rays = 26479, tmp_path / "token", tempfile.mkdtemp(prefix="ray-")
    token.write_text("c" * 64)
    environment = os.environ | services["head"]["environment"] | {"RAY_AUTH_TOKEN_PATH": str(token)}
    programs = {"ray": [str(Path(sys.executable).with_name("ray"))], "embodichain": [sys.executable, "-m", "embodichain.cli"]}

    def command(name: str, *more: str) -> list[str]:
        words = [
            re.sub(r"(127\.0\.0\.1|head):6379|=6379", lambda m: f"{'127.0.0.1:' if ':' in m[0] else '='}{port}", word)
            for word in services[name]["command"]
        ]
        words = [word.replace("/runs/run", str(tmp_path / "run")) for word in words]
        return [*programs[words[0]], *words[1:], *more]

    running = []
    try:
        running.append(subprocess.Popen(command("head", f"--temp-dir={rays}"), env=environment, start_new_session=True))
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
                break
            time.sleep(0.1)
        running.append(subprocess.Popen(command("worker"), env=environment, start_new_session=True))
        small = ["--physics", "counting", "--stream.limit", "12", "--max-reads", "2", "--workers", "3"]
        done = subprocess.run(command("learner", *small), env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout.splitlines()[-1])
        assert summary["reads_histogram"] == {"2": summary["published"]} and summary["bound_violations"] == 0
        assert "embodichain_step" in exposition(json.loads(_watched(tmp_path / "run"))["runs"])
    finally:
        for process in reversed(running):  # `ray stop` would end everybody's
            process.terminate()
            process.wait(timeout=60.0)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(rays, ignore_errors=True)


def _watched(run: Path) -> str:
    """What `embodichain watch` says of a run that has ended."""
    command = [sys.executable, "-m", "embodichain.cli", "watch", str(run), "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
