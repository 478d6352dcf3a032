"""Runs one end-to-end scenario: main.py SCENARIO SYSTEM [BINARY]; exits 0 when everything held."""

import importlib
import logging
import sys

from ensemble import Ensemble


def main():
    scenario, system = sys.argv[1:3]
    binary = sys.argv[3] if len(sys.argv) > 3 else None
    logging.basicConfig(level=logging.CRITICAL)
    module = importlib.import_module(scenario)
    if hasattr(module, "run_alone"):
        module.run_alone(system, binary)
        return
    with Ensemble(system, binary) as ensemble:
        module.run(ensemble)


if __name__ == "__main__":
    main()
