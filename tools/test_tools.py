#!/usr/bin/env python3
"""The checks' own tests: each check is shown bad examples and must object to every one, and good
ones that it must let pass. A check that cannot fail is worth nothing."""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import check_banned
import check_headers
import check_includes
import check_text
import check_tidy
import source

TOOLS = pathlib.Path(__file__).resolve().parent
GOOD_HEADER = "/* What it is for. */\n#ifndef BASE_GOOD_H\n#define BASE_GOOD_H\n" \
              "#include <stddef.h>\nsize_t good(void);\n#endif\n"


class Tree(unittest.TestCase):
    """A throw-away repository."""

    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.root)
        subprocess.run(["git", "init", "-q", str(self.root)], check=True)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


class Strip(unittest.TestCase):
    def test_comments_and_strings_go_and_lines_stay(self):
        text = 'a /* "b\n*/ c "d // e\\"" // f "g\n\'"\' h'
        self.assertEqual(source.strip(text).split("\n"), ["a  ", ' c ""  ', "'' h"])
        self.assertIn('"d // e\\""', source.strip(text, keep_strings=True))


class Includes(Tree):
    CMAKE = "room(base x)\nroom(text room_base)\nkernels_room(kernels room_base)\n" \
            "room(engine room_text room_kernels room_base)\nroom(http room_base)\n" \
            "room(infer room_engine room_kernels room_base)\nroom(registry room_base)\n" \
            "room(api room_infer room_engine room_registry room_http room_base)\n" \
            "program(mlx-hub cli room_api room_http)\n"
    BAD = [
        ("src/base/a.c", '"text/bpe.h"', "points up"),
        ("src/text/a.c", '"kernels/kernels.h"', "sideways"),
        ("src/infer/a.c", '"kernels/kernels.h"', "may not see"),
        ("src/api/a.c", '"engine/engine.h"', "may not see"),
        ("src/cli/a.c", '"http/http.h"', "may not see"),
        ("src/infer/a.c", '"engine/native/model.h"', "private"),
        ("src/infer/a.c", '"text/bpe.h"', "does not list"),
        ("src/base/a.c", '"mem.h"', "not named"),
        ("src/base/a.c", '"../text/bpe.h"', "not named"),
        ("src/api/a.c", "<microhttpd.h>", "http alone"),
        ("src/api/a.c", "<sqlite3.h>", "store alone"),
        ("src/engine/a.c", "<immintrin.h>", "kernels alone"),
        ("src/nowhere/a.c", '"base/mem.h"', "no room"),
    ]
    GOOD = [
        ("src/api/a.c", '"http/http.h"'),
        ("src/infer/a.c", '"engine/engine.h"'),
        ("src/engine/a.c", '"engine/native/model.h"'),
        ("src/infer/a.c", '"kernels/det_math.h"'),
        ("src/base/a.c", "<stdio.h>"),
    ]

    def test_each_bad_include_is_found(self):
        self.write("CMakeLists.txt", self.CMAKE)
        for name, include, why in self.BAD:
            with self.subTest(name=name, include=include):
                path = self.write(name, f"/* # */\n#  include {include}\n")
                problems = check_includes.check(self.root)
                path.unlink()
                self.assertEqual(len(problems), 1, problems)
                self.assertIn(why, problems[0])

    def test_good_ones_pass(self):
        self.write("CMakeLists.txt", self.CMAKE)
        for name, include in self.GOOD:
            self.write(name, f'#include {include}\n// #include "cli/x.h"\n')
            self.assertEqual(check_includes.check(self.root), [])

    def test_a_room_may_not_list_a_higher_one(self):
        self.write("CMakeLists.txt", "room(base room_text)\nroom(text)\n")
        self.assertEqual(len(check_includes.check(self.root)), 1)


class Banned(unittest.TestCase):
    def test_each_dangerous_call_is_found_everywhere(self):
        for call in check_banned.DANGEROUS:
            for name in ("src/cli/a.c", "tests/base/test_a.c", "src/base/mem.c"):
                with self.subTest(call=call, name=name):
                    self.assertEqual(
                        check_banned.check_text(name, f"int x;\n  y = {call} (z);\n"),
                        [f"{name}:2: {call} is banned here"])

    def test_memory_and_process_calls_are_found_in_rooms(self):
        for call in check_banned.MEMORY + check_banned.PROCESS:
            with self.subTest(call=call):
                self.assertTrue(check_banned.check_text("src/text/a.c", f"{call}(x);"))
                self.assertFalse(check_banned.check_text("tests/text/test_a.c", f"{call}(x);"))
        for text in ("hooks.release = free;", "f(a, free);", 'fprintf(stderr, "x");'):
            with self.subTest(text=text):
                self.assertTrue(check_banned.check_text("src/text/a.c", text))

    def test_allowances(self):
        self.assertFalse(check_banned.check_text("src/base/mem.c", "p = malloc(n); free(p);"))
        self.assertTrue(check_banned.check_text("src/base/fs.c", "p = malloc(n);"))
        self.assertFalse(check_banned.check_text("src/cli/a.c", 'printf("x"); exit(1);'))
        self.assertTrue(check_banned.check_text("src/cli/a.c", "p = malloc(n);"))

    def test_lookalikes_pass(self):
        for text in ("/* strcpy(a, b) */", '"printf(x)"', "mem_free(x);", "x->free(y);", "x.exit(y);",
                     "snprintf(a, n, b);", "strtok_r(a, b, c);", "localtime_r(a, b);", "int system;",
                     "snprintf(out, n, b); fprintf(file, b);"):
            with self.subTest(text=text):
                self.assertEqual(check_banned.check_text("src/text/a.c", text), [])


class Headers(Tree):
    BAD = [
        ("src/base/good.h", GOOD_HEADER.replace("#include <stddef.h>\n", ""), "compile alone"),
        ("src/base/good.h", GOOD_HEADER.replace("BASE_GOOD_H", "GOOD_H"), "include guard"),
        ("src/base/good.h", GOOD_HEADER.split("\n", 1)[1], "contract"),
    ]

    def test_each_bad_header_is_found(self):
        for name, text, why in self.BAD:
            with self.subTest(why=why):
                self.write(name, text)
                problems = check_headers.check(self.root)
                self.assertEqual(len(problems), 1, problems)
                self.assertIn(why, problems[0])

    def test_a_good_one_passes(self):
        self.write("src/base/good.h", GOOD_HEADER)
        self.assertEqual(check_headers.check(self.root), [])


class Text(unittest.TestCase):
    BAD = [
        ("a.c", b"int x; \n", "trailing space"),
        ("a.c", b"\tint x;\n", "tab"),
        ("a.c", b"int x;", "newline"),
        ("a.c", b"int x;\n\n", "newline"),
        ("a.c", b"int x;\r\n", "carriage"),
        ("a.c", b"\xff\n", "UTF-8"),
        ("a.md", b"see /" b"work/main\n", "one machine"),
        ("a.py", b"open('/" b"home/someone/x')\n", "one machine"),
        ("a.sh", b"cd /" b"tmp/wt/x\n", "one machine"),
        ("a.c", b"/* TO" b"DO: more */\n", "unfinished"),
    ]

    def test_each_bad_text_is_found(self):
        for name, data, why in self.BAD:
            with self.subTest(data=data):
                problems = check_text.check_text(name, data)
                self.assertTrue(any(why in problem for problem in problems), problems)

    def test_good_text_passes(self):
        self.assertEqual(check_text.check_text("a.c", b"int x; /* \xc2\xb5s, /tmp/x */\n"), [])
        self.assertEqual(check_text.check_text("Makefile", b"a:\n\tb\n"), [])


class Tidy(unittest.TestCase):
    """On the real configuration, since what it finds is what counts."""
    BAD = "int f(int a);\nint f(int a)\n{\n    int *p = 0;\n    if (a)\n        *p = a;\n" \
          "    return a && a;\n}\n"
    GOOD = "int f(int a);\nint f(int a)\n{\n    return a + 1;\n}\n"

    def run_tidy(self, text):
        root = pathlib.Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, root)
        (root / "src").mkdir()
        (root / "cache").mkdir()
        shutil.copy(source.ROOT / ".clang-tidy", root)
        file = root / "src" / "a.c"
        file.write_text(text, encoding="utf-8")
        tool = shutil.which("clang-tidy-14") or shutil.which("clang-tidy")
        tidy = check_tidy.Tidy(root, tool, root / "cache")
        entry = {"file": str(file), "directory": str(root), "command": f"cc -c -o a.o {file}"}
        return [tidy.run(entry)[1] for _ in range(2)], list((root / "cache").iterdir())

    def test_a_bad_file_is_found_twice_and_not_remembered(self):
        results, remembered = self.run_tidy(self.BAD)
        self.assertTrue(all("NullDereference" in result for result in results), results)
        self.assertEqual(remembered, [])

    def test_a_good_file_passes_and_is_remembered(self):
        results, remembered = self.run_tidy(self.GOOD)
        self.assertEqual(results, [None, None])
        self.assertEqual(len(remembered), 1)


class Sums(unittest.TestCase):
    def run_sum(self, reports, *arguments):
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        for number, report in enumerate(reports):
            (folder / f"{number}.xml").write_text(report, encoding="utf-8")
        result = subprocess.run([sys.executable, TOOLS / "test_sum.py", folder, *arguments],
                                capture_output=True, text=True)
        return result.returncode, result.stdout.splitlines()[-1]

    def test_counts(self):
        good = '<testsuite><testcase name="a" status="run"/><testcase name="b"/></testsuite>'
        bad = '<testsuites><testsuite><testcase name="c"><failure/></testcase></testsuite>' \
              '</testsuites>'
        skipped = '<testsuite><testcase name="d"><skipped/></testcase></testsuite>'
        self.assertEqual(self.run_sum([good]), (0, "2 passed, 0 failed"))
        self.assertEqual(self.run_sum([good, bad]), (1, "2 passed, 1 failed"))
        self.assertEqual(self.run_sum([good, skipped]), (1, "2 passed, 1 failed"))
        self.assertEqual(self.run_sum([good], "--at-least-failed", "1"), (1, "2 passed, 1 failed"))
        self.assertEqual(self.run_sum([]), (1, "0 passed, 0 failed"))


class Coverage(unittest.TestCase):
    def run_rooms(self, covered):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"files": [{"filename": "src/base/a.c", "line_covered": covered,
                                  "line_total": 100}]}, file)
            file.flush()
            return subprocess.run(
                [sys.executable, TOOLS / "coverage_rooms.py", file.name, "--above", "80"],
                capture_output=True).returncode

    def test_the_line_is_not_enough(self):
        self.assertEqual([self.run_rooms(covered) for covered in (81, 80, 0)], [0, 1, 1])


if __name__ == "__main__":
    unittest.main()
