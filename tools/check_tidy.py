#!/usr/bin/env python3
"""clang-tidy over the files of src/ in a compile_commands.json, in parallel.

A clean result is remembered in .cache/tidy under a hash of everything that it depends on: the tool,
.clang-tidy, the compile command, the file and each of our headers that it reaches. A rerun looks
only at what changed.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import source

INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)


def closure(path, folders, seen):
    """Adds path and every quoted include that it reaches below our folders to seen."""
    if path in seen:
        return
    seen[path] = path.read_bytes()
    for name in INCLUDE.findall(seen[path]):
        for folder in [path.parent, *folders]:
            header = folder / os.fsdecode(name)
            if header.is_file():
                closure(header.resolve(), folders, seen)
                break


def arguments(entry):
    """The compile command without compiler, output and input."""
    words = entry.get("arguments") or shlex.split(entry["command"])
    kept = []
    skip = False
    for word in words[1:]:
        if skip:
            skip = False
        elif word == "-o":
            skip = True
        elif word != "-c" and word != entry["file"]:
            kept.append(word)
    return kept


class Tidy:
    def __init__(self, root, tool, cache):
        self.root = root
        self.tool = tool
        self.cache = cache
        version = subprocess.run([tool, "--version"], check=True, capture_output=True).stdout
        self.base = version + (root / ".clang-tidy").read_bytes()

    def key(self, path, args):
        seen = {}
        closure(path, [self.root / "src", self.root / "tests"], seen)
        digest = hashlib.sha256(self.base)
        digest.update(repr([arg.replace(str(self.root), "") for arg in args]).encode())
        for name in sorted(seen):
            digest.update(str(name.relative_to(self.root)).encode() + b"\0" + seen[name] + b"\0")
        return digest.hexdigest()

    def run(self, entry):
        """(path, findings or None when clean)."""
        path = pathlib.Path(entry["file"]).resolve()
        args = arguments(entry)
        mark = self.cache / self.key(path, args)
        if mark.exists():
            return path, None
        result = subprocess.run([self.tool, "--quiet", str(path), "--", *args],
                                cwd=entry["directory"], capture_output=True, text=True)
        if result.returncode == 0:
            mark.touch()
            return path, None
        return path, result.stdout or result.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("build", type=pathlib.Path, help="folder with compile_commands.json")
    parser.add_argument("--under", default="src", help="check files below this folder (src)")
    parser.add_argument("files", nargs="*", help="only these files")
    args = parser.parse_args()
    tool = shutil.which("clang-tidy-14") or shutil.which("clang-tidy")
    if tool is None:
        print("tidy: clang-tidy is not installed (scripts/bootstrap check)")
        return 1
    root = source.ROOT
    cache = root / ".cache" / "tidy"
    cache.mkdir(parents=True, exist_ok=True)
    entries = json.loads((args.build / "compile_commands.json").read_text(encoding="utf-8"))
    under = (root / args.under).resolve()
    only = {pathlib.Path(name).resolve() for name in args.files}
    entries = [entry for entry in entries
               if under in pathlib.Path(entry["file"]).resolve().parents
               and (not only or pathlib.Path(entry["file"]).resolve() in only)]
    # The long ones first, so that none is left alone at the end.
    entries.sort(key=lambda entry: -os.path.getsize(entry["file"]))
    tidy = Tidy(root, tool, cache)
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, findings in pool.map(tidy.run, entries):
            if findings:
                bad += 1
                print(f"tidy: {path.relative_to(root)}\n{findings.rstrip()}")
    if not entries:
        print(f"tidy: no file below {args.under} in {args.build}/compile_commands.json")
    return 1 if bad or not entries else 0


if __name__ == "__main__":
    sys.exit(main())
