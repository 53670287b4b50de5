#!/usr/bin/env python3
"""Headers are contracts: each opens with a comment, is guarded as ROOM_FILE_H and compiles alone."""
import concurrent.futures
import os
import platform
import re
import shutil
import subprocess
import sys

import source

FLAGS = """-std=c11 -fsyntax-only -x c -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64
    -Wall -Wextra -Wshadow -Wstrict-prototypes -Wundef -Werror""".split()
# In an isa/ folder, door.h takes in door_ISA.h: that part is no header by itself, so its door is
# compiled for its instruction set, with the flags that cmake/rooms.cmake gives it.
ISA_PART = re.compile(r"(\w+)_(ref|avx2|avx512|neon)\.h")
ISA_FLAGS = re.compile(r"set\(flags_(\w+) ([^)]*)\)")
NEON_CROSS = "aarch64-linux-gnu-gcc"
PACKAGES = ["jansson", "libmicrohttpd", "sqlite3", "libcrypto", "libcurl", "libpcre2-8",
            "libutf8proc", "cmocka"]
ERROR_LINES_SHOWN = 8


def package_flags():
    result = subprocess.run(["pkg-config", "--cflags", *PACKAGES], check=True,
                            capture_output=True, text=True)
    return result.stdout.split()


def guard_of(name):
    """src/base/mem.h → BASE_MEM_H, tests/test.h → TESTS_TEST_H."""
    parts = name.with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" else parts
    return re.sub(r"[^A-Z0-9]", "_", "_".join(parts).upper()) + "_H"


def compiler_for(isa):
    """A compiler whose machine has the instruction set, or None."""
    native = os.environ.get("CC", "cc")
    arm = platform.machine() in ("aarch64", "arm64")
    if isa == "ref" or arm == (isa == "neon"):
        return native
    return shutil.which(NEON_CROSS) if isa == "neon" else None


def compile_command(root, path, package):
    """How to compile the header alone, or None where no compiler here can."""
    isa = "ref"
    flags = package
    if "isa" in path.parts:
        part = ISA_PART.fullmatch(path.name)
        if part:
            path, isa = path.with_name(part.group(1) + ".h"), part.group(2)
        flags = [f"-DKERNELS_ISA={isa}", f"-DKERNELS_ISA_{isa}=1"]
        if isa != "ref":
            found = dict(ISA_FLAGS.findall((root / "cmake/rooms.cmake").read_text("utf-8")))
            flags += found[isa].split()
    compiler = compiler_for(isa)
    if compiler is None:
        return None
    return [compiler, *FLAGS, *flags, "-I", str(root / "src"), "-I", str(root / "tests"), str(path)]


def check_header(root, path, package):
    name = path.relative_to(root)
    text = path.read_text(encoding="utf-8")
    problems = []
    if not text.startswith("/*"):
        problems.append(f"{name}: does not open with its contract")
    guard = guard_of(name)
    if f"#ifndef {guard}\n#define {guard}\n" not in text:
        problems.append(f"{name}: has no include guard {guard}")
    command = compile_command(root, path, package)
    if command is None:
        print(f"headers: {name}: no compiler here for its instruction set")
        return problems
    compiled = subprocess.run(command, capture_output=True, text=True)
    if compiled.returncode:
        first = "\n".join(compiled.stderr.splitlines()[:ERROR_LINES_SHOWN])
        problems.append(f"{name}: does not compile alone\n{first}")
    return problems


def check(root):
    headers = source.files(root, "src/*.h", "tests/*.h")
    package = package_flags()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda path: check_header(root, path, package), headers)
    return [problem for problems in found for problem in problems]


if __name__ == "__main__":
    sys.exit(source.report("headers", check(source.ROOT)))
