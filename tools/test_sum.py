#!/usr/bin/env python3
"""Adds up JUnit reports: prints "N passed, M failed" and exits 1 unless all of some passed."""
import argparse
import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def count(path):
    """(passed, failed) of one report; a test that did not run has not passed."""
    failed = total = 0
    for case in ElementTree.parse(path).iter("testcase"):
        total += 1
        children = {child.tag for child in case}
        not_run = case.get("status") in ("notrun", "disabled", "fail")
        if not_run or children & {"failure", "error", "skipped"}:
            failed += 1
    return total - failed, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--at-least-failed", type=int, default=0, metavar="N")
    args = parser.parse_args()
    passed = failed = 0
    for report in sorted(args.folder.glob("*.xml")):
        good, bad = count(report)
        print(f"{report.stem}: {good} passed, {bad} failed")
        passed, failed = passed + good, failed + bad
    failed = max(failed, args.at_least_failed)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
