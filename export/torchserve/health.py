"""Ends with 0 where every worker of every model is READY: python health.py --keys key_file.json [NAME ...]."""

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def ask(url: str, keys: Path, kind: str) -> bytes:
    """Ask the management API with a token of ``key_file.json``."""
    token = json.loads(keys.read_text())[kind]["key"]
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=8) as reply:
        return bytes(reply.read())


def ask_again(url: str, path: str, keys: Path) -> Any:
    """Ask for a record with the management token; where that has ended, get another one first."""
    try:
        return json.loads(ask(f"{url}{path}", keys, "management"))
    except urllib.error.HTTPError as error:
        if error.code not in (400, 401):
            raise
        ask(f"{url}/token?type=management", keys, "API")
        return json.loads(ask(f"{url}{path}", keys, "management"))


def find_problem(url: str, keys: Path, names: list[str]) -> str:
    """Why the server is not ready, or an empty string."""
    try:
        names = names or [model["modelName"] for model in ask_again(url, "/models", keys)["models"]]
        for name in names:
            workers = ask_again(url, f"/models/{name}", keys)[0]["workers"]
            statuses = [worker["status"] for worker in workers]
            if not statuses or set(statuses) != {"READY"}:
                return f"the workers of {name} are {statuses or 'missing'}"
    except (OSError, ValueError, LookupError) as error:
        return f"the management API does not answer: {error!r}"
    return "" if names else "there is no model"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="models; by default all")
    parser.add_argument("--keys", type=Path, default=Path("key_file.json"), help="the file that the server wrote")
    parser.add_argument("--port", type=int, default=8081, help="of the management API")
    chosen = parser.parse_args()
    problem = find_problem(f"http://127.0.0.1:{chosen.port}", chosen.keys, chosen.names)
    print(problem or "ready")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
