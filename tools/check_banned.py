#!/usr/bin/env python3
"""Calls that do not belong in this program, found outside comments and strings."""
import re
import sys

import source

# Everywhere, tests included: unbounded, not thread-safe, or deaf to errors.
DANGEROUS = """strcpy strcat stpcpy sprintf vsprintf gets strtok strncpy strncat alloca
    atoi atol atoll atof scanf fscanf sscanf vscanf vfscanf vsscanf
    system popen rand srand random srandom tmpnam mktemp
    localtime gmtime ctime asctime setjmp longjmp sigsetjmp siglongjmp
    fork vfork""".split()

# In src/: memory comes from base/mem.h, which alone may call these.
MEMORY = """malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf
    aligned_alloc posix_memalign""".split()

# In src/ below the command line: a library neither prints nor ends the process.
PROCESS = """printf vprintf puts putchar perror exit abort quick_exit""".split()

ALLOWED = {"base/mem.c": set(MEMORY)}


def calls(names):
    # Not a member's name, and not the tail of a longer one.
    return re.compile(r"(?<![\w.])(?<!->)(" + "|".join(names) + r")\s*\(")


# free handed on as a pointer escapes the accounting as surely as a call.
POINTER = re.compile(r"[=(,]\s*(malloc|calloc|realloc|free|strdup)\s*[,;)}]")
TO_STREAM = re.compile(r"\b(v?fprintf|fputs|fputc|fwrite)\s*\([^;]*\b(stdout|stderr)\b")


def find(pattern, text):
    for match in pattern.finditer(text):
        yield text.count("\n", 0, match.start(1)) + 1, match.group(1)


def check_text(name, text):
    """Problems of one file; name is its path from the root, with slashes."""
    text = source.strip(text)
    found = list(find(calls(DANGEROUS), text))
    if name.startswith("src/"):
        inside = name[len("src/"):]
        found += find(calls(MEMORY), text)
        found += find(POINTER, text)
        if not inside.startswith("cli/"):
            found += find(calls(PROCESS), text)
            found += find(TO_STREAM, text)
        found = [hit for hit in found if hit[1] not in ALLOWED.get(inside, ())]
    return [f"{name}:{line}: {call} is banned here" for line, call in sorted(set(found))]


def check(root):
    problems = []
    for path in source.files(root, "src/*.c", "src/*.h", "tests/*.c", "tests/*.h"):
        name = path.relative_to(root).as_posix()
        problems += check_text(name, path.read_text(encoding="utf-8"))
    return problems


if __name__ == "__main__":
    sys.exit(source.report("banned", check(source.ROOT)))
