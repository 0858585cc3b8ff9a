"""`python -m numbapool`."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> int | str:
    """Run the command line, or say what has to be installed first."""
    missing = [name for name in ("click", "matplotlib", "PIL", "rich") if find_spec(name) is None]
    if missing:
        return f"python -m numbapool needs {', '.join(missing)}: pip install 'numbapool[demo]'"
    from numbapool.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
