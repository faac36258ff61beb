"""What the machine has free, read from small stand-ins of its files, and how many bytes a Spec is said to need."""

from dataclasses import replace
from pathlib import Path

import pytest

from rnnscope import Spec
from rnnscope.network import costs as memory
from rnnscope.network.costs import Work, free_bytes, human_bytes, needed_bytes

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


def test_gradients_of_items_leave_objects_for_each_of_them() -> None:
    spec = Spec(seq_len=100, batch_size=50, num_layers=1)
    more = needed_bytes(spec, Work(grad=True, subjects=("module", "items"))) - needed_bytes(spec, Work(grad=True))
    assert more == 49 * 100 * 14_000


@pytest.mark.parametrize("subject", ["compiled", "compiled@cpu/float64"])
def test_the_compiler_takes_memory(subject: str) -> None:
    assert needed_bytes(Spec(), Work(subjects=("module", subject))) - needed_bytes(Spec()) == 210 * MIB


@pytest.mark.parametrize("subjects", [("module", "cells"), ("module", "cells", "equations")])
def test_each_subject_of_a_benchmark_keeps_its_weights(subjects: tuple[str, ...]) -> None:
    wide = Spec(hidden_size=1000, input_size=1000, num_layers=1, bias=False, seq_len=1, batch_size=1)
    narrow = replace(wide, input_size=1)
    work = Work(command="bench", reference=False, subjects=subjects)
    more = needed_bytes(wide, work) - needed_bytes(narrow, work)
    copies = 2.6 + (len(subjects) - 2) / 2  # of 999,000 weights, beside 999 elements of x
    assert more == pytest.approx(copies * 999_000 * 8, rel=2e-3)


def test_every_step_by_itself_is_a_batch_of_all_steps() -> None:
    spec = Spec(kind="lstm", bidirectional=True, num_layers=3, seq_len=100, batch_size=7)
    alone = replace(spec, seq_len=1, batch_size=700)
    # Beside it stand the states, h and c of 2·3·700 steps, twice more, and the objects of 2·3·100 steps and not of 2.
    assert needed_bytes(spec, Work(resync=True)) - needed_bytes(alone) == 2 * 40 * 4200 * 8 + (600 - 2) * 1300


def test_more_steps_than_torch_can_count_are_needed_too() -> None:
    assert needed_bytes(Spec(seq_len=2**62, batch_size=2**62), Work(resync=True)) > 2**63


def test_a_chunk_takes_its_steps_and_the_blocks_that_it_is_cut_out_of() -> None:
    spec, work = Spec(seq_len=10**9, batch_size=1), Work(reference=False, chunk=1000)
    assert needed_bytes(spec, work) == needed_bytes(replace(spec, seq_len=1000 + 2 * 256), Work(reference=False))


def test_a_chaotic_network_whose_states_do_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from rnnscope import RnnscopeError, compare
    from rnnscope.network.weights import draw_weights
    from rnnscope.verdict import problem as problems

    monkeypatch.setattr(problems, "draw_weights", lambda spec: {n: 10 * w for n, w in draw_weights(spec).items()})
    monkeypatch.setattr(memory, "free_bytes", lambda: MIB)
    # 1,249 steps more than one: 2·64 of h, 10.5 times 8 bytes, 64 of y, 8.5 times, 10 of x, 2.7 times.
    with pytest.raises(RnnscopeError, match=r"every step by itself needs about 18\.9 MiB of memory, and 1 MiB is"):
        compare(Spec(hidden_size=64, seq_len=250))
    assert compare(Spec(hidden_size=64, seq_len=250, memory_check=False)).exit_code == 0


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
