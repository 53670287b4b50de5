#!/usr/bin/env python3
"""Text is tidy: no trailing space, no tab in C, one newline at the end, LF only, no path of one
machine, nothing left to do. Fixtures, corpora and the licence are bytes and not looked at."""
import re
import sys

import source

SKIPPED = re.compile(r"^(tests/fixtures/|tests/fuzz/corpus/|LICENSE$)|\.(png|ico|gguf|safetensors)$")
TABS_ALLOWED = re.compile(r"(^|/)(Makefile|.*\.mk|go\.mod)$")
# Folders of the machines that this was written on. In two halves, or this file would be found.
MACHINE_PATH = re.compile("/" + r"(?:tmp/wt|work|root|Users|home/[a-z]\w*)" + r"/[\w.]")
UNFINISHED = re.compile("TO" + r"DO\b|\bFIX" + r"ME\b|\bX" + r"XX\b")
SOURCES = re.compile(r"\.(c|h|py|sh|cmake|md|yml|yaml|ts|tsx|js|css)$|(^|/)(Makefile|CMakeLists\.txt)$")


def check_text(name, data):
    """Problems of one file; data are its bytes."""
    problems = []
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return [f"{name}: is not UTF-8"]
    if "\r" in text:
        problems.append(f"{name}: has a carriage return")
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        problems.append(f"{name}: does not end in one newline")
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{name}:{number}"
        if line != line.rstrip():
            problems.append(f"{where}: trailing space")
        if "\t" in line and not TABS_ALLOWED.search(name):
            problems.append(f"{where}: tab")
        if MACHINE_PATH.search(line):
            problems.append(f"{where}: a path of one machine")
        if SOURCES.search(name) and UNFINISHED.search(line):
            problems.append(f"{where}: unfinished work belongs in an issue")
    return problems


def check(root):
    problems = []
    for path in source.files(root):
        name = path.relative_to(root).as_posix()
        data = path.read_bytes()
        if not SKIPPED.search(name) and b"\0" not in data:
            problems += check_text(name, data)
    return problems


if __name__ == "__main__":
    sys.exit(source.report("text", check(source.ROOT)))
