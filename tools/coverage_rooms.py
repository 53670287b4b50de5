#!/usr/bin/env python3
"""Prints gcovr's JSON summary per room of src/ and fails unless the total is above a line."""
import argparse
import collections
import json
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("summary")
    parser.add_argument("--above", type=float, required=True, metavar="PERCENT")
    args = parser.parse_args()
    with open(args.summary, encoding="utf-8") as file:
        summary = json.load(file)
    rooms = collections.defaultdict(lambda: [0, 0])
    for entry in summary["files"]:
        parts = entry["filename"].split("/")
        if parts[0] == "src":
            rooms[parts[1]][0] += entry["line_covered"]
            rooms[parts[1]][1] += entry["line_total"]
    covered = sum(room[0] for room in rooms.values())
    total = sum(room[1] for room in rooms.values())
    if not total:
        print("coverage: no lines were measured", file=sys.stderr)
        return 1
    print(f"{'room':<12}{'covered':>9}{'lines':>9}{'percent':>9}")
    for name, (hit, lines) in sorted(rooms.items()):
        print(f"{name:<12}{hit:>9}{lines:>9}{100 * hit / max(lines, 1):>8.1f}%")
    percent = 100 * covered / total
    print(f"{'total':<12}{covered:>9}{total:>9}{percent:>8.1f}%")
    if percent <= args.above:
        print(f"coverage: {percent:.1f}% of lines is not above {args.above:g}%", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
