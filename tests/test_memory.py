"""What the machine has free, read from small stand-ins of its files, and how many bytes a Spec is said to need."""

from pathlib import Path

import pytest

from rnnscope import Spec
from rnnscope.memory import free_bytes, human_bytes, needed_bytes

MIB = 2**20


def machine(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = "MemTotal:  9000 kB\nMemFree:  100 kB\nMemAvailable:  4000 kB\n"


def test_the_free_memory_of_the_machine(tmp_path: Path) -> None:
    assert free_bytes(machine(tmp_path, proc__meminfo=MEMINFO)) == 4000 * 1024


def test_a_control_group_may_leave_less(tmp_path: Path) -> None:
    machine(tmp_path, proc__meminfo=MEMINFO)
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("3000000\n")
    (group / "memory.current").write_text("2500000\n")
    (group / "memory.stat").write_text("anon 2000000\ninactive_file 400000\n")
    assert free_bytes(tmp_path) == 3_000_000 - 2_500_000 + 400_000


def test_a_control_group_of_version_1(tmp_path: Path) -> None:
    machine(tmp_path, proc__meminfo=MEMINFO)
    group = tmp_path / "sys/fs/cgroup/memory"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("3000000\n")
    (group / "memory.usage_in_bytes").write_text("2500000\n")
    (group / "memory.stat").write_text("cache 500000\ntotal_inactive_file 100000\n")
    assert free_bytes(tmp_path) == 600_000


def test_a_control_group_without_a_limit_does_not_count(tmp_path: Path) -> None:
    machine(tmp_path, proc__meminfo=MEMINFO)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert free_bytes(tmp_path) == 4000 * 1024


def test_elsewhere_all_memory_counts_as_free(tmp_path: Path) -> None:
    free = free_bytes(tmp_path)
    assert free is None or free > 100 * MIB


def test_the_small_tensors_of_each_step_count() -> None:
    # 4 bytes of y a step are nothing beside the objects that hold them: 10^8 steps need more than 100 GB.
    assert needed_bytes(Spec(seq_len=10**8, batch_size=1, input_size=1, hidden_size=1, num_layers=1)) > 100e9


@pytest.mark.parametrize(
    ("facts", "measured"),
    [
        ({"seq_len": 10**6, "batch_size": 1, "input_size": 1, "hidden_size": 1, "num_layers": 1}, 1372 * MIB),
        ({"seq_len": 1000, "batch_size": 64, "input_size": 512, "hidden_size": 512, "num_layers": 3}, 992 * MIB),
        ({"input_size": 6000, "hidden_size": 6000, "dtype": "float64"}, 2431 * MIB),
        ({"seq_len": 100, "batch_size": 1, "input_size": 250_000, "hidden_size": 1000, "num_layers": 1}, 3082 * MIB),
        ({"seq_len": 1, "batch_size": 100_000, "input_size": 1, "hidden_size": 1000, "num_layers": 1}, 2530 * MIB),
    ],
)
def test_the_estimate_is_over_what_was_measured_and_not_far(facts: dict[str, int], measured: int) -> None:
    # Peak resident memory of `rnnscope compare` with torch 2.13.0 on a CPU.
    assert measured < needed_bytes(Spec(**facts)) < 2.2 * measured  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1536, "1.5 KiB"),
        (2**30, "1 GiB"),
        (24 * 2**30, "24 GiB"),
        (2**60, "1 EiB"),
        (10**30, "8.67e+11 EiB"),
    ],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text
