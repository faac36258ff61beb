"""`python -m graveyard.by_hand NAME...`: how far the faulty side and the right twin are from what is expected.

In plain torch, without any verdict: whoever writes a bug sees that it acts, and that its twin is right.
"""

import sys
import tempfile
from pathlib import Path

from graveyard.grave import bugs


def main() -> None:
    for name, bug in bugs().items():
        if name not in sys.argv[1:] and sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for faulty in (True, False):
                expected, actual, exact = bug.form.pair(faulty, Path(folder))
                for tensor, each in expected.items():
                    other = actual.get(tensor)
                    if other is None or other.shape != each.shape:
                        apart = f"another shape: {tuple(each.shape)}, {other is not None and tuple(other.shape)}"
                    else:
                        far = (other.double() - each.double()).abs().max().item()
                        wrong = (other.double() - exact[tensor]).abs().max().item()
                        apart = f"{far:.3g} apart, {wrong:.3g} from float64, max |.| {each.abs().max().item():.3g}"
                    print(f"{name} {'faulty' if faulty else 'right '} {tensor}: {apart}")


if __name__ == "__main__":
    main()
