#!/usr/bin/python3
"""Bad input, for every tool: the exit code of the design, one clear line, and nothing changed. Needs root, the tools in
target/debug (or PC_BIN), gcc, jose, socat, tang. An argument picks the cases whose name it is part of."""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import machine
from cases import all_cases


def main() -> int:
    cases = [case for case in all_cases() if not sys.argv[1:] or sys.argv[1] in case.name]
    with tempfile.TemporaryDirectory() as place:
        clock = Path(place) / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", clock, source], check=True)
        for case in cases:
            if "CLOCK_OFFSET" in case.env:
                case.env["LD_PRELOAD"] = str(clock)
        for member in (False, True):
            machine.template(member)
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(machine.faults_of, cases))
    for case, faults in zip(cases, found, strict=True):
        if faults:
            print(f"{case.name}:", *faults, sep="\n    ")
    bad = sum(map(bool, found))
    print(f"{len(cases)} cases, {bad} of them not as they must be")
    return 1 if bad or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
