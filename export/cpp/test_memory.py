"""The bound of the program's memory. The sanitizers reserve terabytes, so it is built without them, in a driver."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

DRIVER = """
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include "memory.hpp"
int main(int argc, char** argv) {
  const int given = std::atoi(argv[1]);
  const auto bytes = explainable::bound_memory(given ? std::optional(given) : std::nullopt);
  std::printf("%llu", bytes ? static_cast<unsigned long long>(bytes->bytes) : 0ull);
  for (int n = 2; n < argc; ++n) {
    try {
      const std::unique_ptr<char[]> memory(new char[std::strtoull(argv[n], nullptr, 10) << 20]);
      std::printf(" given");
    } catch (const std::bad_alloc& error) {
      std::printf(" refused%s", explainable::explain_bound(error.what(), bytes).c_str());
    }
  }
  std::printf("|%s", explainable::explain_bound("The photo is truncated.", bytes).c_str());
}
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, need: Callable[..., None]) -> Path:
    need("g++")
    folder = tmp_path_factory.mktemp("memory")
    (folder / "driver.cpp").write_text(DRIVER)
    here = Path(__file__).parent
    command = ["g++", "-std=c++20", "-Wall", "-Wextra", "-Werror", f"-I{here}", here / "memory.cpp", "driver.cpp"]
    subprocess.run([*command, "-o", "driver"], cwd=folder, check=True)
    return folder / "driver"


def run(driver: Path, *arguments: object) -> str:
    return subprocess.run([driver, *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def test_an_allocation_beyond_the_bound_fails(driver: Path) -> None:
    told = "refused The program may take 1.0 GiB; --memory GIB gives it more, for an artifact whose maker you trust."
    assert run(driver, 1, 500, 2000, 500) == f"{2**30} given {told} given|"


def test_half_of_the_machine_by_default(driver: Path) -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    machine = int(next(line.split()[1] for line in lines if line.startswith("MemTotal"))) << 10
    bound = int(run(driver, 0).removesuffix("|"))
    assert bound == pytest.approx(machine / 2, rel=0.02)


def test_a_bound_of_the_users_own_stays(driver: Path) -> None:
    command = f"ulimit -S -d {2**19}; exec {driver} 4 1000"  # KiB
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    advice = "raise `ulimit -d`, for an artifact whose maker you trust."
    told = f"The program may take 0.5 GiB, by a limit of your own; {advice}"
    assert done.stdout == f"{2**29} refused {told}|"
