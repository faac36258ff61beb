"""What the machine has free, read from small stand-ins of its files, and how many bytes a Spec is said to need."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import Cli

from rnnscope import Spec
from rnnscope.network import costs as memory
from rnnscope.network.costs import free_bytes, human_bytes, needed_bytes

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


def group(root: Path, path: str, **files: str) -> None:
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


STAT = "anon 2000000\ninactive_file 400000\ntotal_inactive_file 300000\n"


@pytest.mark.parametrize("folder", ["", "outer", "outer/inner"])
def test_a_control_group_or_one_above_it_may_leave_less(tmp_path: Path, folder: str) -> None:
    machine(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/outer/inner\n")
    group(tmp_path, "outer/inner", memory__max="max\n")
    group(tmp_path, folder, memory__max="3000000\n", memory__current="2500000\n", memory__stat=STAT)
    assert free_bytes(tmp_path) == 3_000_000 - 2_500_000 + 400_000


def test_a_control_group_of_version_1(tmp_path: Path) -> None:
    machine(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="5:cpu:/\n4:memory:/job\n")
    files = {"memory__limit_in_bytes": "3000000\n", "memory__usage_in_bytes": "2500000\n", "memory__stat": STAT}
    group(tmp_path, "memory/job", **files)
    assert free_bytes(tmp_path) == 800_000


def test_a_control_group_without_a_limit_does_not_count(tmp_path: Path) -> None:
    machine(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/\n")
    group(tmp_path, "", memory__max="max\n")
    assert free_bytes(tmp_path) == 4000 * 1024


def test_elsewhere_all_memory_counts_as_free(tmp_path: Path) -> None:
    free = free_bytes(tmp_path)
    assert free is None or free > 100 * MIB


def test_the_small_tensors_of_each_step_count() -> None:
    # 4 bytes of y a step are nothing beside the objects that hold them: 10^8 steps need more than 100 GB.
    assert needed_bytes(Spec(seq_len=10**8, batch_size=1, input_size=1, hidden_size=1, num_layers=1)) > 100e9


def test_the_states_of_every_step_count_where_each_is_compared_by_itself() -> None:
    spec = Spec(kind="lstm", bidirectional=True, num_layers=3, seq_len=100, batch_size=7)
    # (h and c: 2·20) · (D·K·L·N: 2·3·100·7) · 8 bytes, 9 times.
    assert needed_bytes(spec, resync=True) - needed_bytes(spec) == 40 * 4200 * 8 * 9


def test_a_chaotic_network_whose_states_do_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from rnnscope import RnnscopeError, compare
    from rnnscope.network.weights import draw_weights
    from rnnscope.verdict import problem as problems

    monkeypatch.setattr(problems, "draw_weights", lambda spec: {n: 10 * w for n, w in draw_weights(spec).items()})
    monkeypatch.setattr(memory, "free_bytes", lambda: MIB)
    with pytest.raises(RnnscopeError, match="every step by itself needs about 11 MiB of memory, and 1 MiB is"):
        compare(Spec(hidden_size=64, seq_len=250))
    assert compare(Spec(hidden_size=64, seq_len=250, memory_check=False)).exit_code == 0


PEAK = """
import re, sys
from rnnscope.cli.shell import run
run(["compare", "-q", "--no-memory-check", *sys.argv[1:]])
print(re.search(r"VmHWM:[^0-9]*([0-9]+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "--seq-len 1000000 --batch 1 --input-size 1 --hidden-size 1 --layers 1",
        "--seq-len 1000 --batch 64 --input-size 512 --hidden-size 512 --layers 3",
        "--seq-len 1000 --batch 64 --input-size 512 --hidden-size 512 --layers 3 --batch-first --dtype bfloat16",
        "--input-size 6000 --hidden-size 6000 --dtype float64",
        "--seq-len 100 --batch 1 --input-size 250000 --hidden-size 1000 --layers 1",
        "--seq-len 1 --batch 100000 --input-size 1 --hidden-size 1000 --layers 1",
        "--seq-len 1 --batch 1 --input-size 1 --hidden-size 1 --layers 1000",
        "--input-size 1 --hidden-size 20 --layers 20 --seq-len 200 --batch 1000",
        "--kind lstm --seq-len 500 --batch 64 --input-size 256 --hidden-size 512 --bidirectional --layers 3",
        "--kind gru --seq-len 500 --batch 64 --input-size 256 --hidden-size 512 --bidirectional --right equations",
        "--kind gru --seq-len 300 --batch 64 --input-size 256 --hidden-size 256 --grad --bidirectional",
        "--kind lstm --seq-len 30000 --batch 1 --input-size 1 --hidden-size 1 --layers 1 --grad",
        "--kind gru --seq-len 30000 --batch 1 --input-size 1 --hidden-size 1 --layers 1 --grad --right equations",
        "--kind rnn --seq-len 50000 --batch 1 --input-size 1 --hidden-size 1 --layers 2 --grad",
        "--seq-len 4000 --batch 32 --input-size 128 --hidden-size 256 --no-reference",
        "--seq-len 4000 --batch 32 --input-size 128 --hidden-size 256 --no-reference --batch-first --kind lstm",
        "--seq-len 100000 --batch 1 --no-reference --chunk 1000",
        "--seq-len 100000 --batch 1 --chunk 1000",
    ],
)
def test_a_comparison_stays_within_the_estimate_and_not_far(
    words: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimates: list[int] = []
    monkeypatch.setattr(memory, "free_bytes", lambda: 0)
    monkeypatch.setattr(memory, "human_bytes", lambda count: estimates.append(count))
    cli("compare", *words.split())
    done = subprocess.run([sys.executable, "-c", PEAK, *words.split()], capture_output=True, text=True, check=True)
    peak = int(done.stdout) * 1024
    assert peak < estimates[0] < 2.5 * peak


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
