#!/usr/bin/env python3
"""Includes point down only.

Every room has a floor; a file includes its own room and rooms on lower floors, as "room/file.h".
A header in a subfolder is private to its room. Some doors are narrower than floors say (NEVER),
and each outside library is behind the one room that wraps it (BEHIND). CMakeLists.txt must name,
for each room, every room that its files include.
"""
import re
import sys

import source

FLOOR = {
    "base": 0,
    "formats": 1, "text": 1, "kernels": 1, "telemetry": 1,
    "engine": 2, "store": 2, "http": 2,
    "registry": 3, "infer": 3, "train": 3,
    "api": 4, "worker": 4,
    "cli": 5,
}

# Room → rooms that it may not include although they are lower: the wall between the hub and the
# tensors, and models seen only through the engine's door.
NEVER = {
    "registry": {"kernels", "engine", "http"},
    "infer": {"kernels", "http"},
    "train": {"kernels", "http"},
    "api": {"kernels", "engine"},
    "worker": {"kernels", "http"},
    "cli": {"http"},  # version and doctor name the instruction set
}

# Headers of such a room that hold no tensor: the elementary functions that every result rests on.
EVEN_SO = {"kernels/det_math.h", "kernels/half.h"}

# Header of an outside library → the rooms that may include it.
BEHIND = {
    r"microhttpd\.h": {"http"},
    r"sqlite3\.h": {"store"},
    r"libpq-fe\.h": {"store"},
    r"curl/.*": {"base"},
    r"openssl/.*": {"base"},
    r"pcre2\.h": {"text"},
    r"utf8proc\.h": {"text"},
    r"(?!xmm).*intrin\.h|arm_neon\.h": {"kernels"},
    r"xmmintrin\.h": {"kernels", "base"},  # base sets the rounding mode
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
ROOM_LINE = re.compile(r"^\s*(?:kernels_)?(?:room|program)\(([^)]*)\)", re.MULTILINE)


def cmake_rooms(root):
    """Room → rooms it names in CMakeLists.txt."""
    named = {}
    for line in ROOM_LINE.findall((root / "CMakeLists.txt").read_text(encoding="utf-8")):
        words = line.split()
        name = next((word for word in words if word in FLOOR), None)
        if name:
            named[name] = {word[5:] for word in words if word.startswith("room_")}
    return named


def check_include(room, kind, target, named):
    """Why a file of `room` may not include target, or None."""
    if kind == "<":
        for header, rooms in BEHIND.items():
            if re.fullmatch(header, target) and room not in rooms:
                return f"<{target}> belongs to {', '.join(sorted(rooms))} alone"
        return None
    parts = target.split("/")
    other = parts[0]
    if len(parts) < 2 or other not in FLOOR:
        return f'"{target}" is not named as "room/file.h"'
    if other == room:
        return None
    if FLOOR[other] >= FLOOR[room]:
        return f'"{target}" points up or sideways: {room} is on floor {FLOOR[room]}, ' \
               f"{other} on floor {FLOOR[other]}"
    if other in NEVER.get(room, ()) and target not in EVEN_SO:
        return f'"{target}": {room} may not see {other}'
    if len(parts) > 2:
        return f'"{target}" is private to {other}'
    if other not in named.get(room, ()):
        return f'"{target}": CMakeLists.txt does not list room_{other} for {room}'
    return None


def check(root):
    problems = []
    named = cmake_rooms(root)
    for room, others in sorted(named.items()):
        for other in sorted(others):
            if other not in FLOOR or FLOOR[other] >= FLOOR[room]:
                problems.append(f"CMakeLists.txt: {room} lists room_{other}, which is not lower")
    for path in source.files(root, "src/*.c", "src/*.h"):
        name = path.relative_to(root)
        room = name.parts[1]
        if room not in FLOOR:
            problems.append(f"{name}: no room named {room}")
            continue
        text = source.strip(path.read_text(encoding="utf-8"), keep_strings=True)
        for match in INCLUDE.finditer(text):
            why = check_include(room, *match.groups(), named)
            if why:
                line = text.count("\n", 0, match.start()) + 1
                problems.append(f"{name}:{line}: {why}")
    return problems


if __name__ == "__main__":
    sys.exit(source.report("includes", check(source.ROOT)))
