import shlex
import sys
import time

import pytest
from generator_parts import RED_MUG, Handler, running

from embodichain.assets.reading.generator import GenerateRequest, GeneratorConfig, generate
from embodichain.errors import AssetError, ConfigError

MUG = GenerateRequest(prompt="a red mug", seed=5)


@pytest.fixture(scope="module")
def url():
    with running() as address:
        yield address


def test_a_generator_is_asked_and_answers_as_the_contract_says(url, tmp_path):
    (tmp_path / "photo.png").write_bytes(b"picture")
    answer = generate(GenerateRequest(prompt="a red mug", image=tmp_path / "photo.png", seed=5), GeneratorConfig(url=f"{url}/make"))
    assert answer.glb == RED_MUG
    assert (answer.licence, answer.generator, answer.version, answer.size_m) == ("CC-BY-4.0", "potter", "7", None)
    asked = Handler.asked[-1]
    assert (asked["format"], asked["prompt"], asked["seed"]) == ("embodichain/generate/1", "a red mug", 5)
    assert (asked["image"], asked["accept"], asked["type"]) == ("cGljdHVyZQ==", "model/gltf-binary", "application/json")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_licence", "states no licence.*--licence"),
        ("html", "answers with text/html, expected model/gltf-binary"),
        ("busy", "status 503: all furnaces are hot"),
        ("points", "holds no triangles"),
        ("noise", "no binary glTF"),
        ("cut", "damaged binary glTF"),
        ("broken", "broke off after"),
        ("elsewhere", "refuses with status 302"),
        ("large", "more than the 100000 bytes"),
        ("endless", "more than the 100000 bytes"),
        ("mute", "has not answered within 1 s"),
        ("dripping", "has not answered within 1 s"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_reason(url, path, reason):
    start, patience_s = time.monotonic(), 1.0 if "has not answered" in reason else 100.0
    with pytest.raises(AssetError, match=rf"^generate: .*{reason}"):
        generate(MUG, GeneratorConfig(url=f"{url}/{path}", timeout_s=patience_s, max_bytes=100_000))
    assert time.monotonic() - start < 100.0, "it ends by our patience, not by the server's"


def test_a_licence_that_the_user_knows_wins(url):
    assert generate(MUG, GeneratorConfig(url=f"{url}/no_licence", licence="CC0-1.0")).licence == "CC0-1.0"
    assert generate(MUG, GeneratorConfig(url=f"{url}/make", licence="CC0-1.0")).licence == "CC0-1.0"


def test_a_generator_that_is_not_there_is_named():
    with pytest.raises(AssetError, match=r"127\.0\.0\.1:9.*is it running"):
        generate(MUG, GeneratorConfig(url="http://127.0.0.1:9/"))


POTTER = """
import json, sys
prompt, out, seed = sys.argv[1:4]
assert prompt == {prompt!r}, prompt
open(out, "wb").write(bytes.fromhex({data!r}))
json.dump({{"licence": "MIT", "generator": "wheel", "version": seed, "size": 0.1}}, open(out + ".json", "w"))
"""


def command(script, tmp_path, tail="{prompt} {out} {seed}"):
    file = tmp_path / "make it.py"
    file.write_text(script)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(file))} {tail}"


def test_a_command_is_run_without_a_shell(tmp_path):
    prompt = 'a "red" mug; $(touch x) {out} {seed}'
    script = POTTER.format(prompt=prompt, data=RED_MUG.hex())
    answer = generate(GenerateRequest(prompt=prompt, seed=5), GeneratorConfig(command=command(script, tmp_path)))
    assert answer.glb == RED_MUG
    assert (answer.licence, answer.generator, answer.version, answer.size_m) == ("MIT", "wheel", "5", 0.1)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys; print('no clay'); sys.exit(3)", "exit code 3: no clay"),
        ("print('done')", "wrote no file"),
        ("import sys; open(sys.argv[2], 'w').write('x' * 100)", "no binary glTF"),
        ("import sys, time\nwith open(sys.argv[2], 'wb') as f:\n while True: f.write(bytes(9999)); f.flush()", "more than the"),
        ("import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])", "within 2 s"),
        ("import sys; open(sys.argv[2], 'wb').write(b'x'); open(sys.argv[2] + '.json', 'w').write('{')", "no binary glTF|no JSON"),
    ],
)
def test_a_command_that_fails_is_refused_with_its_reason(tmp_path, script, reason):
    start, patience_s = time.monotonic(), 2.0 if reason == "within 2 s" else 100.0
    with pytest.raises(AssetError, match=rf"^generate: .*({reason})"):
        generate(MUG, GeneratorConfig(command=command(script, tmp_path), timeout_s=patience_s, max_bytes=1 << 20))
    assert time.monotonic() - start < 100.0, "it ends by our patience, not by the command's"


def test_a_command_that_does_not_exist_is_named():
    with pytest.raises(AssetError, match="cannot start 'no_such_potter'"):
        generate(MUG, GeneratorConfig(command="no_such_potter {out}"))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "either"),
        ({"url": "http://a", "command": "b {out}"}, "either"),
        ({"url": "ftp://a/b"}, "http"),
        ({"command": "make {prompt}"}, "{out}"),
        ({"url": "http://a", "timeout_s": 0.0}, "limits"),
    ],
)
def test_a_generator_that_cannot_be_asked_is_refused_at_once(values, reason):
    with pytest.raises(ConfigError, match=reason):
        GeneratorConfig(**values)
    with pytest.raises(ConfigError, match="prompt or an image"):
        GenerateRequest(prompt=" ")
