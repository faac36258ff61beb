"""What each command gives to programs: one document for JSON, flat records for TSV, in full precision.

How they are written down is render.py's business; what people read of the same result is in the pages.
"""

import platform
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rnnscope import __version__
from rnnscope.files.storage import Checkpoint, Conversion, Rnn
from rnnscope.network.dims import Shape, parameters
from rnnscope.network.parts import all_parts, notes
from rnnscope.scripts.script import Script
from rnnscope.shapes.result import Shapes, check_rows
from rnnscope.sweeps.result import Finding, Sweep
from rnnscope.timing.result import Bench, Timing
from rnnscope.tracing.result import Trace
from rnnscope.verdict.comparison_document import comparison_document, comparison_records
from rnnscope.verdict.result import Comparison

Result = Shapes | Comparison | Trace | Sweep | Bench | Script | Checkpoint | Conversion


def document(result: Result) -> dict[str, Any]:
    """The facts of a result, as plain data for JSON."""
    head = {
        "schema": 1,
        "command": result.command,
        "rerun": result.rerun,
        "environment": {
            "rnnscope": __version__,
            "python": platform.python_version(),
            "torch": result.torch_version,
            "device": result.device_name,
        },
    }
    if isinstance(result, Checkpoint):
        return head | {"file": result.file, "rnns": [_rnn(each) for each in result.rnns]}
    if isinstance(result, Conversion):
        return head | _conversion_document(result)
    if isinstance(result, Sweep):
        return head | _sweep_document(result)
    head |= {"spec": result.spec.facts, "sources": asdict(result.sources)}
    if isinstance(result, Script):
        return head | {"script": result.text}
    if isinstance(result, Trace):
        return head | _trace_document(result)
    if isinstance(result, Bench):
        return head | _bench_document(result)
    return head | (_shapes_document(result) if isinstance(result, Shapes) else comparison_document(result))


def records(result: Result) -> Iterator[dict[str, Any]]:
    """One flat record a tensor or network, for TSV."""
    if isinstance(result, Checkpoint):
        return ({**_rnn(each), "notes": "; ".join(each.notes)} for each in result.rnns)
    if isinstance(result, Conversion):
        return ({"old": old, "new": new} for old, new in result.names.items())
    if isinstance(result, Script):
        return ({"line": number, "text": line} for number, line in enumerate(result.text.splitlines(), 1))
    if isinstance(result, Sweep):
        return map(_finding, result.findings)
    if isinstance(result, Trace):
        return (asdict(each) for each in result.equalities)
    if isinstance(result, Bench):
        return (_timing(result, each) for each in result.timings)
    return _shapes_records(result) if isinstance(result, Shapes) else comparison_records(result)


def _rnn(rnn: Rnn) -> dict[str, Any]:
    spec = rnn.spec
    network = ("kind", "input_size", "hidden_size", "num_layers", "bidirectional", "bias", "proj_size", "dtype")
    return {
        "prefix": rnn.prefix,
        "path": rnn.path,
        "form": rnn.form,
        **{name: getattr(spec, name) for name in network},
        "parameter_count": rnn.parameter_count,
        "notes": list(rnn.notes),
    }


def _sweep_document(sweep: Sweep) -> dict[str, Any]:
    first = sweep.first_different
    return {
        "verdict": sweep.verdict,
        "counts": dict(sweep.total.counts),
        "max_abs": sweep.total.max_abs,
        "axes": [asdict(each) for each in sweep.tallies],
        "messages": [
            {"status": status, "message": message, "count": count} for status, message, count in sweep.messages
        ],
        "first_different": first and first.rerun,
        "smallest_different": sweep.smallest,
        "configurations": [_finding(each) for each in sweep.findings],
    }


def _finding(found: Finding) -> dict[str, Any]:
    return {
        "outcome": found.outcome,
        "cause": found.cause,
        "max_abs": found.max_abs,
        "rerun": found.rerun,
        "message": found.message,
    }


def _conversion_document(conversion: Conversion) -> dict[str, Any]:
    return {
        "file": conversion.file,
        "out": conversion.out,
        "to": conversion.to,
        "rnn": _rnn(conversion.rnn),
        "names": conversion.names,
        "verdict": conversion.comparison.verdict,
        "outputs": [asdict(each) for each in conversion.comparison.outputs],
    }


def _shapes_document(shapes: Shapes) -> dict[str, Any]:
    check_rows(shapes.spec)
    facts: dict[str, Any] = {
        "tensors": [asdict(each) for each in shapes.tensors],
        "parameters": [asdict(each) for each in parameters(shapes.spec)],
        "parts": [asdict(each) for each in all_parts(shapes.spec)],
        "notes": list(notes(shapes.spec)),
        "parameter_count": shapes.parameter_count,
        "parameter_bytes": shapes.parameter_bytes,
        "macs": shapes.macs,
    }
    if shapes.actual is not None:
        facts |= {"actual": shapes.actual, "mismatches": [asdict(each) for each in shapes.mismatches]}
    return facts


def _shapes_records(shapes: Shapes) -> Iterator[dict[str, Any]]:
    check_rows(shapes.spec)
    found = {(each.path, each.name): each.actual for each in shapes.mismatches}

    def came_out(shape: Shape | None, names: dict[str, str | None]) -> dict[str, Shape | None]:
        if shapes.actual is None:
            return dict.fromkeys(shapes.paths)
        return {path: found.pop((path, names[path] or ""), shape) for path in shapes.paths}

    for each in shapes.tensors:
        columns = came_out(each.shape if each.role == "output" else None, dict.fromkeys(shapes.paths, each.name))
        yield {"name": each.name, "role": each.role, "dims": each.dims, "shape": each.shape, **columns}
    for parameter in parameters(shapes.spec):
        columns = came_out(parameter.shape, parameter.names)
        name = parameter.names[shapes.paths[0]]
        facts = {"name": name, "role": "parameter", "dims": parameter.dims, "shape": parameter.shape}
        yield facts | columns
    for (path, name), shape in list(found.items()):  # what no formula names
        columns = dict.fromkeys(shapes.paths) | {path: shape}
        yield {"name": name, "role": "parameter", "dims": None, "shape": None, **columns}


def _trace_document(trace: Trace) -> dict[str, Any]:
    place = trace.first_nonfinite
    return {
        "equalities": [asdict(each) for each in trace.equalities],
        "equal_by_chance": trace.by_chance,
        "item": trace.item,
        "step": trace.step,
        "steps": list(_steps(trace)),
        "module_max_abs": trace.distance,
        "first_nonfinite": place and asdict(place),
    }


def _steps(trace: Trace) -> Iterator[dict[str, Any]]:
    """One record a layer, direction and step; with its numbers where they were asked for."""
    for (layer, direction), walked in trace.walked.items():
        saturated = {name: walked.saturated(name) for name in walked.gates}
        for step in range(trace.length):
            found: dict[str, Any] = {"step": step, "layer": layer, "direction": direction}
            found["saturated"] = {name: each[step] for name, each in saturated.items()}
            if trace.values:
                found |= {name: each[step].tolist() for name, each in walked.states.items()}
                found["gates"] = {name: each[step].tolist() for name, each in walked.gates.items()}
            yield found


def _bench_document(bench: Bench) -> dict[str, Any]:
    return {
        "rows": [_timing(bench, each) for each in bench.timings],
        "seq_lens": list(bench.seq_lens),
        "yardstick": bench.yardstick,
        "grad": bench.grad,
        "min_time_s": bench.min_time,
        "threads": bench.threads,
        "cpus": bench.cpus,
        "load": bench.load,
        "back_ends": dict(bench.back_ends),
        "verdict": bench.verdict,
    }


def _timing(bench: Bench, timing: Timing) -> dict[str, Any]:
    """One row; null where it was not measured."""
    measured, ratio, growth = timing.measured, bench.ratio(timing), bench.growth(timing)
    return {
        "subject": timing.subject,
        "device": timing.device,
        "dtype": timing.dtype,
        "seq_len": timing.seq_len,
        "median_s": timing.median if measured else None,
        "iqr_s": timing.iqr if measured else None,
        "p25_s": timing.p25 if measured else None,
        "p75_s": timing.p75 if measured else None,
        "noisy": timing.noisy if measured else None,
        "blocks": len(timing.times),
        "runs": timing.runs,
        "steps_per_s": timing.steps_per_s if measured else None,
        "ratio": ratio and ratio.value,
        "ratio_least": ratio and ratio.least,
        "ratio_greatest": ratio and ratio.greatest,
        "told": ratio and ratio.told,
        "growth": growth and growth.times,
        "growth_of_steps": growth and growth.steps,
        "peak_bytes": timing.peak_bytes,
        "compile_s": timing.compile_s,
        "message": timing.message,
    }
