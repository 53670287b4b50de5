"""What the checks share: which files there are, and C text without comments and strings."""
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent

_LEXEME = re.compile(
    r"""//(?:\\\n|[^\n])*        # line comment, spliced lines included
      | /\*.*?\*/               # block comment
      | "(?:\\.|[^"\\\n])*"     # string
      | '(?:\\.|[^'\\\n])*'     # character
    """,
    re.DOTALL | re.VERBOSE,
)


def files(root, *patterns):
    """Files under root that git tracks or would track, sorted; patterns are git's."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z", "--", *patterns],
        check=True, capture_output=True, text=True).stdout
    names = sorted(set(filter(None, listed.split("\0"))))
    return [root / name for name in names if (root / name).is_file()]


def strip(text, keep_strings=False):
    """Blanks comments, and unless told otherwise strings, keeping every line where it was."""
    def blank(match):
        lexeme = match.group()
        if lexeme[0] in "\"'":
            return lexeme if keep_strings else lexeme[0] * 2 + "\n" * lexeme.count("\n")
        return " " + "\n" * lexeme.count("\n")
    return _LEXEME.sub(blank, text)


def report(check, problems):
    """Prints the problems, one a line, and returns the exit status."""
    for problem in problems:
        print(f"{check}: {problem}")
    return 1 if problems else 0
