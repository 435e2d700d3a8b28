#!/usr/bin/python3
"""Validates every recorded answer of a tool against the JSON Schema that docs/json/ promises for it."""

import json
import pathlib
import sys

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]


def schema_of(answer: object) -> pathlib.Path:
    """docs/json/pc.brick.status-v1.json for an answer whose first field is "schema": "pc.brick.status/1"."""
    if not isinstance(answer, dict) or "schema" not in answer:
        raise ValueError("no field `schema`")
    noun, version = str(answer["schema"]).rsplit("/", 1)
    return ROOT / "docs" / "json" / f"{noun}-v{version}.json"


def check(sample: pathlib.Path) -> tuple[pathlib.Path, str | None]:
    answer = json.loads(sample.read_text())
    path = schema_of(answer)
    if not path.exists():
        return path, f"{path.relative_to(ROOT)} is missing"
    schema = json.loads(path.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    # A name, not an address: references within the file are resolved within it.
    schema.pop("$id", None)
    for error in jsonschema.Draft202012Validator(schema).iter_errors(answer):
        return path, f"{error.json_path}: {error.message}"
    return path, None


def main() -> int:
    samples = sorted(ROOT.glob("tools/*/tests/golden/*.json"))
    if not samples:
        print("no recorded answers found", file=sys.stderr)
        return 1
    faults = 0
    used = set()
    for sample in samples:
        try:
            path, fault = check(sample)
            used.add(path)
        except (ValueError, jsonschema.SchemaError) as error:
            fault = str(error)
        if fault:
            faults += 1
            print(f"{sample.relative_to(ROOT)}: {fault}", file=sys.stderr)
    for path in sorted(set((ROOT / "docs" / "json").glob("*.json")) - used):
        faults += 1
        print(f"{path.relative_to(ROOT)}: no recorded answer uses it", file=sys.stderr)
    print(f"{len(samples)} answers, {faults} faults", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
