"""The library's rooms import only what lies below them, and no file grows out of hand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
LIBRARY = SCRIPTS / "trap2"
LONGEST = 400

# From the bottom up.  A room (a folder of the library) imports rooms of earlier floors, and none of
# its own.  Only the door `cli` is no room.
FLOORS = (
    ("runtime",),
    ("data", "updates"),
    ("models", "merging"),
    ("protection", "evaluation"),
    ("training", "integrations"),
    ("attacks",),
    ("suites",),
    ("report",),
    ("cli",),
)
ROOMS = [
    *("runtime", "data", "models", "updates", "protection", "training"),
    *("merging", "evaluation", "attacks", "suites", "report", "integrations"),
]


def modules(library: Path) -> dict[str, Path]:
    """The library's modules by dotted name, ``trap2.data.demo.tasks``."""
    found = {}
    for path in sorted(library.rglob("*.py")):
        parts = [library.name, *path.relative_to(library).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the library that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; write trap2.…"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else str(node.module) for name in names}
    return found & known.keys()


def room(module: str) -> str:
    return module.split(".")[1]


def upward_imports(library: Path) -> list[str]:
    """Every import that goes to the same floor or up, as a sentence; __main__ opens the door."""
    heights = {name: height for height, rooms in enumerate(FLOORS) for name in rooms}
    known = modules(library)
    top = library.name
    return [
        f"{module} imports {target}"
        for module, path in known.items()
        for target in sorted(imports(path, known) - {top})
        if module != f"{top}.__main__"
        if module == top
        or (room(module) != room(target) and heights[room(target)] >= heights[room(module)])
    ]


def test_twelve_rooms_and_the_door_have_their_places():
    folders = sorted(p.parent.name for p in LIBRARY.glob("*/__init__.py"))
    assert folders == sorted([*ROOMS, "cli"])
    assert sorted(name for floor in FLOORS for name in floor) == folders
    assert {path.name for path in LIBRARY.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_the_architecture_page_has_the_rooms_in_this_order():
    page = (SCRIPTS.parents[1] / "docs" / "architecture.md").read_text("utf-8")
    table = page.split("| room | what it is for |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == [*ROOMS, "cli"]


def test_rooms_import_only_downwards():
    assert upward_imports(LIBRARY) == []


def test_modules_of_one_room_do_not_import_each_other_in_a_circle():
    known = modules(LIBRARY)
    waiting = {m: imports(p, known) - {"trap2", m} for m, p in known.items()}
    while waiting:
        free = [module for module, needs in waiting.items() if not needs & waiting.keys()]
        assert free, f"a circle among {sorted(waiting)}"
        for module in free:
            del waiting[module]


def test_scripts_import_the_library_and_no_script():
    known = modules(LIBRARY)
    scripts = {path.stem for path in SCRIPTS.glob("*.py")}
    for path in SCRIPTS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                assert not scripts & {alias.name for alias in node.names}, path
            elif isinstance(node, ast.ImportFrom):
                assert node.module not in scripts, path
                parts = str(node.module).split(".")
                assert parts[0] != "trap2" or ".".join(parts) in known, path


def test_no_file_is_longer_than_400_lines():
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in SCRIPTS.rglob("*.py")}
    assert {path: n for path, n in lengths.items() if n > LONGEST} == {}


def test_an_import_that_goes_up_is_found(tmp_path):
    library = tmp_path / "trap2"
    (library / "data").mkdir(parents=True)
    for name in ("__init__", "runtime", "merging", "data/__init__"):
        (library / f"{name}.py").write_text("")
    (library / "data/demo.py").write_text("from trap2 import runtime, merging\n")
    (library / "runtime.py").write_text("def late():\n    from trap2.data.demo import paint\n")
    assert upward_imports(library) == [
        "trap2.data.demo imports trap2.merging",
        "trap2.runtime imports trap2.data.demo",
    ]
