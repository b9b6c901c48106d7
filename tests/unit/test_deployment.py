"""The files of deploy/ name what is there: extras, options of `vd serve`, routes, the port; and all name the same."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from typer.main import get_command

from versatile_diffusion.cli.app import app
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.workers import LocalWorker
from versatile_diffusion.serving.access import OPEN_PATHS
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.keys import KEYS_VARIABLE, Keys, is_loopback, require_keys

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@dataclass(frozen=True)
class Instruction:
    """A line of a Dockerfile, such as RUN, with what stands behind it."""

    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        """In the form of JSON, or of a shell."""
        return yaml.safe_load(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)


def instructions() -> list[Instruction]:
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE))
    return [Instruction(*line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, from its FROM on."""
    found: list[list[Instruction]] = []
    for instruction in instructions():
        if instruction.name == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


BUILD, SERVER = stages()


def only(name: str, stage: list[Instruction] = SERVER) -> Instruction:
    """The last instruction of a name, which is the one that counts."""
    return [instruction for instruction in stage if instruction.name == name][-1]


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / name).read_text())["services"]["server"]


def manifests() -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


def pod() -> dict[str, Any]:
    return manifests()["Deployment"]["spec"]["template"]["spec"]


def unit() -> list[tuple[str, str]]:
    lines = (DEPLOY / "vd.service").read_text().splitlines()
    return [(line.partition("=")[0], line.partition("=")[2]) for line in lines if re.match(r"\w+=", line)]


def served(words: list[str], **given: str) -> Mapping[str, Any]:
    """The options of a command line of `vd serve`, as our own command reads them."""
    command, *options = words
    assert command == "serve"
    serve = get_command(app).get_command(None, "serve")  # pyright: ignore
    return serve.make_context("serve", [given.get(option, option) for option in options]).params


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """Asks a server with keys, and without a key."""
    with TestClient(build_app(Engine(LocalWorker({})), keys=Keys(["a key that is long"]))) as asking:
        yield asking


def test_the_image_is_built_from_what_is_there() -> None:
    versions = [line.partition(" ")[2] for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines() if line]
    assert f"PYTHON={PROJECT['requires-python'].removeprefix('>=')}" in versions
    copied = [word for each in BUILD if each.name == "COPY" for word in each.words[:-1]]
    for name in copied:
        assert (ROOT / name).exists(), f"there is no {name} to copy"
    needed = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "src", "constraints.txt"}
    assert set(copied) == needed, "a wheel is made of these"
    assert all(visible(name) for name in copied) and not visible("runs") and not visible(".git")
    (extras,) = [each.rest.partition("=")[2] for each in BUILD if each.rest.startswith("EXTRAS=")]
    assert "serve" in extras.split(",") and set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
    assert all("--constraint constraints.txt" in each.rest for each in BUILD if "pip install" in each.rest)
    torch = [each.rest for each in BUILD if "download.pytorch.org" in each.rest]
    assert len(torch) == 1 and "+${COMPUTE}" in torch[0], "another one would be taken from PyPI"


def visible(name: str) -> bool:
    """Whether .dockerignore lets a file into the build: the last line that fits it says so."""
    seen = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch(name, line.removeprefix("!")):
            seen = line.startswith("!")
    return seen


def test_the_container_is_no_root_and_keeps_models_in_its_volume() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user := only("USER").rest), (
        "Kubernetes cannot tell that a name is not root"
    )
    (made,) = [each.rest for each in SERVER if each.name == "RUN"]
    volume = only("VOLUME").rest
    assert f"--uid {user.partition(':')[0]}" in made and f"--owner vd --group vd {volume}" in made
    variables = dict(word.split("=", 1) for each in SERVER if each.name == "ENV" for word in each.words)
    assert PurePosixPath(variables["HF_HOME"]).is_relative_to(volume)
    names = [each.name for each in SERVER]
    assert names.index("RUN") < names.index("VOLUME"), "what is made in a volume after it was declared is lost"


def test_the_container_serves_with_keys_at_the_default_port() -> None:
    assert only("ENTRYPOINT").words == ["vd"]
    options = served(only("CMD").words)
    assert str(options["port"]) == only("EXPOSE").rest and options["port"] == served(["serve"])["port"]
    assert not is_loopback(options["host"]), "nobody outside of the container would reach it"
    with pytest.raises(ValueError, match=KEYS_VARIABLE):
        require_keys(options["host"], Keys.read(None, None))


def test_the_healthcheck_asks_what_is_open(client: TestClient) -> None:
    check = only("HEALTHCHECK").rest
    python, flag, code = yaml.safe_load(check[check.index("CMD") + 4 :])
    assert (python, flag) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")
    (port, path) = re.findall(r"'http://127\.0\.0\.1:(\d+)(/\w+)'", code)[0]
    assert port == only("EXPOSE").rest and path in OPEN_PATHS
    assert client.get(path).status_code == 200


def test_a_healthcheck_fails_where_nothing_answers() -> None:
    check = only("HEALTHCHECK").rest
    _, flag, code = yaml.safe_load(check[check.index("CMD") + 4 :])
    result = subprocess.run([sys.executable, "-I", flag, code.replace(":8000", ":9")], capture_output=True)
    assert result.returncode != 0


@pytest.mark.parametrize("name", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_a_probe_asks_what_is_open(name: str, client: TestClient) -> None:
    (container,) = pod()["containers"]
    asked, ports = container[name]["httpGet"], {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports[asked["port"]] == served(container["args"])["port"]
    assert asked["path"] in OPEN_PATHS
    # as the kubelet asks: by the pod's address, without a key
    assert client.get(asked["path"], headers={"Host": "10.1.2.3:8000"}).status_code == 200


def test_the_pod_is_confined_and_finds_its_models() -> None:
    spec, (container,) = pod(), pod()["containers"]
    context = container["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] and context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"] and context["capabilities"] == {"drop": ["ALL"]}
    user, group = only("USER").rest.split(":")
    same = spec["securityContext"]
    assert (str(same["runAsUser"]), str(same["runAsGroup"]), str(same["fsGroup"])) == (user, group, group)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["models"] == only("VOLUME").rest and "/tmp" in mounts.values()
    assert mounts.keys() == {volume["name"] for volume in spec["volumes"]}
    (claim,) = [volume["persistentVolumeClaim"] for volume in spec["volumes"] if volume["name"] == "models"]
    assert claim["claimName"] == manifests()["PersistentVolumeClaim"]["metadata"]["name"]
    assert container["resources"].keys() == {"requests", "limits"}
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert KEYS_VARIABLE in variables and variables["OMP_NUM_THREADS"] == container["resources"]["limits"]["cpu"]
    labels = manifests()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifests()["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    service = manifests()["Service"]["spec"]
    assert service["selector"].items() <= labels.items()
    assert service["ports"][0]["targetPort"] in {port["name"] for port in container["ports"]}


def test_compose_runs_the_same_image() -> None:
    service = compose()
    options = served(service["command"])
    (published,) = service["ports"]
    assert published == f"127.0.0.1:{options['port']}:{only('EXPOSE').rest}", "only this machine, unless one says more"
    assert not is_loopback(options["host"]) and KEYS_VARIABLE in service["environment"]
    assert service["volumes"] == [f"models:{only('VOLUME').rest}"] and service["read_only"]
    assert service["cap_drop"] == ["ALL"] and service["tmpfs"] == ["/tmp"]
    build = service["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    on_gpus = compose("compose.cuda.yaml")
    arguments = {each.rest.partition("=")[0] for each in instructions() if each.name == "ARG"}
    assert on_gpus["build"]["args"].keys() <= arguments and on_gpus["build"]["args"]["COMPUTE"].startswith("cu")


def test_the_unit_starts_the_server_for_this_machine(tmp_path: Path) -> None:
    lines = dict(unit())
    (tmp_path / "keys").write_text("a key that is long\n")
    program, *words = shlex.split(lines["ExecStart"])
    options = served(words, **{"%d/keys": str(tmp_path / "keys")})
    assert program.endswith("/vd") and is_loopback(options["host"]) and options["keys"] == tmp_path / "keys"
    assert lines["LoadCredential"].startswith("keys:")
    assert "MemoryDenyWriteExecute" not in lines, "oneDNN writes the code that it runs"
    assert lines["KillMode"] == "mixed", "the process that computes is ended by the server"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "vd.service").read_text()
    (tmp_path / "vd.service").write_text(text.replace("/opt/vd/bin/vd", sys.executable))
    verify = ["systemd-analyze", "verify", str(tmp_path / "vd.service")]
    result = subprocess.run(verify, capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    (tmp_path / "vd.service").write_text(text.replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in subprocess.run(verify, capture_output=True, text=True).stderr
