"""The Dockerfile and the compose.yaml of each server kit: what they say about users, files, ports and health."""

import json
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
KITS = ("litserve", "torchserve", "triton")
WORDS = {
    "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD",
}  # fmt: skip


def parse_dockerfile(text: str) -> list[tuple[str, str]]:
    """Split into instructions and their arguments; a line that ends with a backslash goes on."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in whole.splitlines()]


def find_image_problems(text: str, context: Path) -> list[str]:
    """What is wrong with a Dockerfile."""
    steps = parse_dockerfile(text)
    words = [word for word, _ in steps]
    last = dict(steps)
    found = [f"{word} is no instruction" for word in words if word not in WORDS]
    if words.count("FROM") != 1 or words[0] != "FROM" or ":" not in last["FROM"] or last["FROM"].endswith(":latest"):
        found.append("one FROM with a version comes first")
    if not last.get("USER", "0").isdigit() or int(last.get("USER", "0")) < 1000:  # a number, so that it can be checked
        found.append("the user is not a number from 1000 on")
    if "USER" in words and {"RUN", "COPY"} & set(words[words.index("USER") :]):
        found.append("the server's user could own files of the image")
    if "HEALTHCHECK" not in words or "--timeout=" not in last["HEALTHCHECK"]:
        found.append("no health check with a timeout")
    for word in ("ENTRYPOINT", "CMD"):
        if not is_list(last.get(word, "")):
            found.append(f"{word} is not a list, so a shell would take the signals")
    if "HEALTHCHECK" in words and not is_list(last["HEALTHCHECK"].partition(" CMD ")[2]):
        found.append("the health check is not a list")
    for _, arguments in (step for step in steps if step[0] == "COPY"):
        found += [f"there is no {name}" for name in arguments.split()[:-1] if not list(context.glob(name))]
    return found


def is_list(text: str) -> bool:
    """Whether the arguments are a list of words in JSON."""
    try:
        words = json.loads(text)
    except ValueError:
        return False
    return isinstance(words, list) and bool(words) and all(isinstance(word, str) for word in words)


def find_service_problems(service: dict[str, Any]) -> list[str]:
    """What is wrong with a service of a compose file."""
    found = [f"{name} is not set" for name in ("mem_limit", "pids_limit", "stop_grace_period") if not service.get(name)]
    if service.get("read_only") is not True or not any(entry.startswith("/tmp") for entry in service.get("tmpfs", ())):
        found.append("the root is not read-only with a tmpfs for /tmp")
    if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", ()):
        found.append("the processes keep privileges")
    if service.get("privileged") or service.get("network_mode") or service.get("user") in ("root", "0", 0):
        found.append("the container is not apart from the host")
    ports = service.get("ports") or []
    if not ports or not all(str(port).startswith("127.0.0.1:") for port in ports):
        found.append("a port is open beyond the host's loopback")
    if not all(volume.endswith(":ro") for volume in service.get("volumes", ())):
        found.append("a volume can be written")
    return found


def read_kit(kit: str) -> tuple[str, dict[str, Any], Path]:
    """The Dockerfile, the only service, and the folder of the build."""
    folder = ROOT / "export" / kit
    (service,) = yaml.safe_load((folder / "compose.yaml").read_text())["services"].values()
    context = (folder / service["build"]["context"]).resolve()
    return (context / service["build"]["dockerfile"]).read_text(), service, context


@pytest.mark.parametrize("kit", KITS)
def test_the_image(kit: str) -> None:
    text, _, context = read_kit(kit)
    assert text == (ROOT / "export" / kit / "Dockerfile").read_text()
    assert find_image_problems(text, context) == []


@pytest.mark.parametrize("kit", KITS)
def test_the_service(kit: str) -> None:
    text, service, _ = read_kit(kit)
    assert find_service_problems(service) == []
    exposed = dict(parse_dockerfile(text))["EXPOSE"].split()
    assert [str(port).rsplit(":", 1)[1] for port in service["ports"]] == exposed


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("USER 10001\n", "", "the user is not a number"),
        ("USER 10001", "USER 0", "the user is not a number"),
        ("python:3.12-slim", "python", "one FROM with a version"),
        ("HEALTHCHECK", "LABEL", "no health check"),
        ('["/models/lite0.onnx"]', "/models/lite0.onnx", "CMD is not a list"),
        ("README.md", "NOTES.md", "there is no NOTES.md"),
        ("ENV HOME", "RUN touch a\nENV HOME", "could own files"),
    ],
)
def test_a_worse_image_is_found(old: str, new: str, problem: str) -> None:
    text, _, context = read_kit("litserve")
    assert old in text
    assert any(problem in found for found in find_image_problems(text.replace(old, new, 1), context))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"read_only": False}, "read-only"),
        ({"tmpfs": []}, "read-only"),
        ({"ports": ["8000:8000"]}, "loopback"),
        ({"cap_drop": []}, "privileges"),
        ({"volumes": ["/a:/models"]}, "written"),
        ({"network_mode": "host"}, "apart"),
        ({"mem_limit": None}, "mem_limit"),
    ],
)
def test_a_worse_service_is_found(change: dict[str, Any], problem: str) -> None:
    _, service, _ = read_kit("litserve")
    assert any(problem in found for found in find_service_problems({**service, **change}))


def test_torchserve_opens_what_the_container_publishes() -> None:
    text, service, _ = read_kit("torchserve")
    configuration = (ROOT / "export" / "torchserve" / "config.properties").read_text()
    for name, port in (("inference", "8080"), ("metrics", "8082")):
        assert f"{name}_address=http://127.0.0.1:{port}\n" in configuration
    assert "(inference|metrics)_address" in text
    assert {str(port).rsplit(":", 1)[1] for port in service["ports"]} == {"8080", "8082"}
