"""The row of a configuration: what `rnnscope compare --json` would say of it, or why nothing could be compared.

A row depends on its configuration alone: not on the rows before it, nor on who made it, nor where in a file it stands.
What is a fact of a machine, the environment, is not in it.
"""

from dataclasses import asdict
from typing import Any

import rnnscope
from rnnscope.comparability import check_comparable
from rnnscope.configurations import Configuration
from rnnscope.documents import document
from rnnscope.errors import RnnscopeError
from rnnscope.loaded import Loaded
from rnnscope.memory import check_memory
from rnnscope.spec import SPEC_FLAGS, Spec
from rnnscope.verdicts import Comparison

Row = dict[str, Any]
"""schema, command, rerun, status (compared, not_comparable or failed), message, left, right, spec; and where it was
compared all that the document of a comparison has but the environment."""


def row_of(configuration: Configuration) -> Row:
    """Compare what a configuration asks for.

    not_comparable: it contradicts itself, which is told from the flags alone. failed: it was tried, and no verdict came
    out: no such device or file, too little memory, a class that is wrong, and whatever else nobody expected.
    """
    row: Row = {"schema": 1, "command": "compare", "rerun": configuration.rerun, "status": "not_comparable"}
    spec = {name: flag.default for name, flag in SPEC_FLAGS.items()} | configuration.of_spec
    row |= {"message": None, "spec": spec, "left": configuration.left, "right": configuration.right}
    try:
        question = configuration.question
        loaded = None if configuration.has_files else Loaded(configuration.sources, Spec(**configuration.of_spec))
        if loaded is not None:
            check_comparable(loaded.spec, configuration.left, configuration.right, question)
            row["spec"] = _spec_facts(loaded.spec)
    except RnnscopeError as error:
        return row | {"message": _sentence(error)}
    try:
        loaded = loaded or rnnscope.load(
            configuration.sources, configuration.of_spec, configuration.left, configuration.right
        )
        row["spec"] = _spec_facts(loaded.spec)
        return row | {"status": "compared"} | _facts(_compared(configuration, loaded))
    except RnnscopeError as error:
        return row | {"status": "failed", "message": _sentence(error)}
    except Exception as error:  # one configuration is not the end of the others
        return row | {"status": "failed", "message": f"unexpected {type(error).__name__}: {error}"}


def _compared(configuration: Configuration, loaded: Loaded) -> Comparison:
    question = vars(configuration.question)
    if loaded.spec.memory_check:
        check_memory(loaded.spec, **{name: question[name] for name in ("grad", "reference", "resync", "map")})
    left, right = configuration.left, configuration.right
    return rnnscope.compare(loaded.spec, left, right, loaded=loaded, **question)


def _facts(comparison: Comparison) -> Row:
    """What is found, without what the configuration says; each device is named as it was asked for."""
    facts = document(comparison)
    for name in ("schema", "command", "rerun", "environment", "spec", "left", "right"):
        del facts[name]
    return facts


def _spec_facts(spec: Spec) -> Row:
    return asdict(spec) | ({"batch_size": None} if spec.unbatched else {})


def _sentence(error: RnnscopeError) -> str:
    return error.message if error.hint is None else f"{error.message}; {error.hint}"
