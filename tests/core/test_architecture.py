"""The architecture of the code: who imports whom, how long things are, what may lie in the repo."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {".git", ".venv", ".host", ".pytest_cache", ".ruff_cache", "__pycache__", "runs"}


def all_files() -> list[Path]:
    """What git tracks; in a copy without git, everything that is not installed or cached."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    names = listed.stdout.decode().split("\0") if listed.returncode == 0 else []
    files = [ROOT / name for name in names] or list(ROOT.rglob("*"))
    ours = [file for file in files if not NOT_OURS & set(file.relative_to(ROOT).parts)]
    return [file for file in ours if file.is_file()]


FILES = all_files()
CODE = [file for file in FILES if file.suffix == ".py"]
CORE = [file for file in CODE if file.is_relative_to(ROOT / "blip3u_core")]
NODES = [file for file in CODE if file.is_relative_to(ROOT / "nodes")]
SHIPPED = [ROOT / "__init__.py", *CORE, *NODES]

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
MAX_FILE_MB = 40

HOST_MODULES = {
    "comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths",
    "latent_preview", "node_helpers", "nodes", "server",
}  # fmt: skip
BROAD = ("", "Exception", "BaseException")
HEAVY_MODULES = ["diffusers", "transformers", "scipy", "torchvision", "matplotlib", "pandas"]
CORE_MAY_IMPORT = {
    "PIL",
    "diffusers",
    "einops",
    "numpy",
    "pydantic",
    "safetensors",
    "tokenizers",
    "torch",
    "tqdm",
    "transformers",
}
EXTRAS = {  # what only some commands need, and which room they are in
    "export": {"pyarrow"},
    "batch": {"pyarrow", "ray"},
    "harnesses": {"accelerate", "lmms_eval", "vlmeval"},
    "weights": {"triton"},  # torch for CUDA brings it; a kernel of few rows
}  # fmt: skip


# The rooms of the core in the order of the data; a room imports from itself and those before it.
ROOMS = [
    "finite",
    "seeds",
    "memory_report",
    "atomic_files",
    "images",
    "euler",
    "weights",
    "language",
    "features",
    "decoder",
    "chat",
]
# What a script uses and what a command line runs; each may use those before it.
TOP = ["stages", "pipeline", "convert", "run_settings", "export", "batch", "harnesses"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(file: Path) -> list[str]:
    """Absolute dotted names that a file imports anywhere, relative ones resolved from the root."""
    found = []
    package = list(file.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                names = [node.module] if node.module else [alias.name for alias in node.names]
                found += [".".join(["<pack>", *base, name]) for name in names]
            else:
                found.append(node.module or "")
    return found


@pytest.mark.parametrize("file", CORE, ids=name_of)
def test_core_knows_no_host(file: Path) -> None:
    room = file.relative_to(ROOT / "blip3u_core").parts[0]
    allowed = CORE_MAY_IMPORT | EXTRAS.get(room, set()) | set(sys.stdlib_module_names)
    for name in imports(file):
        if name.startswith("<pack>"):
            assert name.startswith("<pack>.blip3u_core"), f"{name} is outside the core"
        else:
            assert name.split(".")[0] in allowed, f"{name} is not for the core"


@pytest.mark.parametrize("file", CORE, ids=name_of)
def test_rooms_import_one_way(file: Path) -> None:
    room = file.relative_to(ROOT / "blip3u_core").parts[0].removesuffix(".py")
    if file.name == "__init__.py":
        assert not imports(file)
        return
    assert room in ROOMS + TOP, f"{room} is no room that the architecture knows"
    below = [*ROOMS, *TOP]
    below = below[: below.index(room) + 1]
    for name in imports(file):
        if name.startswith("<pack>.blip3u_core."):
            assert name.split(".")[2] in below, f"{room} must not import {name}"


@pytest.mark.parametrize("file", NODES, ids=name_of)
def test_nodes_use_the_host_through_one_door(file: Path) -> None:
    behind_the_door = file.is_relative_to(ROOT / "nodes" / "host")
    for name in imports(file):
        top = name.split(".")[0]
        assert top not in ("nodes", "blip3u_core"), f"{name}: relative imports only"
        assert not (behind_the_door and top == "comfy_api" and ".io" in name)
        if not behind_the_door:
            assert top not in HOST_MODULES - {"comfy_api"}, f"{name} belongs into nodes/host"
        if behind_the_door and name.startswith("<pack>.nodes"):
            assert name.startswith("<pack>.nodes.host"), f"nodes/host must not know {name}"


def test_every_node_checks_what_it_is_given() -> None:
    for file in (ROOT / "nodes").glob("*.py"):
        if file.name != "checks.py":
            assert "(io.ComfyNode)" not in file.read_text("utf-8"), f"{file.name}: CheckedNode"


def test_every_node_has_words_that_it_is_found_by() -> None:
    """A node without them would fail on hosts from 0.12 on, and only there."""
    ids = {i for file in NODES for i in re.findall(r'node_id="(\w+)"', file.read_text("utf-8"))}
    found = ast.parse((ROOT / "nodes" / "search.py").read_text("utf-8")).body
    (aliases,) = [ast.literal_eval(n.value) for n in found if isinstance(n, ast.AnnAssign)]
    assert len(ids) > 25
    assert set(aliases) == ids
    assert all(aliases.values())


def test_nothing_is_imported_before_the_host_asks() -> None:
    assert imports(ROOT / "__init__.py") == ["<pack>.nodes"]
    top_level = ast.parse((ROOT / "__init__.py").read_text("utf-8")).body
    assert not [node for node in top_level if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("module", ["blip3u_core"])
def test_core_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY_MODULES!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("file", CODE, ids=name_of)
def test_files_and_functions_are_short(file: Path) -> None:
    text = file.read_text("utf-8")
    assert text.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("file", CORE, ids=name_of)
def test_every_public_part_of_the_core_says_what_it_is(file: Path) -> None:
    def silent(node: ast.AST) -> list[str]:
        named = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        parts = [part for part in ast.iter_child_nodes(node) if isinstance(part, named)]
        public = [part for part in parts if not part.name.startswith("_")]
        inner = [name for p in public if isinstance(p, ast.ClassDef) for name in silent(p)]
        return [part.name for part in public if not ast.get_docstring(part)] + inner

    assert silent(ast.parse(file.read_text("utf-8"))) == []


@pytest.mark.parametrize("file", SHIPPED, ids=name_of)
def test_shipped_code_has_no_forbidden_habits(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else ""
            raises_again = isinstance(node.body[-1], ast.Raise)
            assert raises_again or caught not in BROAD, f"line {node.lineno} swallows Cancel"
        if isinstance(node, ast.Global):
            pytest.fail("module state")
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "torch.manual_seed"), called
            assert not called.endswith(".cuda"), "the host chooses the device"
            if called.endswith("load_state_dict"):
                loose = [
                    k
                    for k in node.keywords
                    if k.arg == "strict" and "False" in ast.unparse(k.value)
                ]
                assert not loose, "every key must be accounted for"
            assert not [k for k in node.keywords if k.arg == "trust_remote_code"]


@pytest.mark.parametrize("file", SHIPPED, ids=name_of)
def test_the_registry_finds_nothing_to_refuse(file: Path) -> None:
    """Its scanner looks for plain words, in method calls and comments too."""
    assert not re.search(r"eval\(|exec\(|subprocess|import requests", file.read_text("utf-8"))


def test_no_file_is_huge_or_a_pickle() -> None:
    for file in FILES:
        assert file.stat().st_size < MAX_FILE_MB * 1e6, name_of(file)
        assert file.suffix not in (".bin", ".pt", ".pth", ".ckpt", ".pkl"), name_of(file)


def test_no_path_of_one_machine_is_written_down() -> None:
    machine = re.compile(r"(?<![\w.])/(?:home|root|work|tmp|Users)/[\w.-]+")
    texts = {".py", ".md", ".toml", ".txt", ".json", ".yaml", ".yml", ".sh", ""}
    found = []
    for file in FILES:
        if file.suffix in texts and file != Path(__file__) and file.name != "LICENSE":
            lines = file.read_text("utf-8", "replace").splitlines()
            found += [f"{name_of(file)}: {line[:120]}" for line in lines if machine.search(line)]
    assert found == []


def test_requirements_leave_the_host_alone() -> None:
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted
    for line in wanted:
        assert not re.match(r"(torch|torchvision|torchaudio|flash|bitsandbytes|opencv)\b", line)
        assert "==" not in line, f"{line}: a pin would replace the host's own version"
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for line in wanted:
        assert f'"{line}"' in project, f"pyproject.toml does not name {line}"


VERSION = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)[1]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
NOTES = json.loads((ROOT / "tests" / "harness" / "workflow_notes.json").read_text("utf-8"))


@pytest.mark.parametrize("file", WORKFLOWS, ids=name_of)
def test_workflow_has_all_its_forms(file: Path) -> None:
    canvas = json.loads(file.read_text("utf-8"))
    api = json.loads((file.parent / "api" / file.name).read_text("utf-8"))
    assert file.with_suffix(".jpg").is_file(), "no thumbnail"
    notes = ("MarkdownNote", "Note")
    boxes = {box["id"]: box for box in canvas.get("definitions", {}).get("subgraphs", [])}
    inside = [node for box in boxes.values() for node in box["nodes"]]
    nodes = [n for n in (*canvas["nodes"], *inside) if n["type"] not in (*notes, *boxes)]
    assert sorted(n["type"] for n in nodes) == sorted(n["class_type"] for n in api.values())
    assert len(canvas["nodes"]) <= 9, "more than a person reads at a glance"
    (note,) = [n for n in canvas["nodes"] if n["type"] == "MarkdownNote"]
    assert note["widgets_values"] == [NOTES[file.stem]]
    assert "\n\n**中文** " in NOTES[file.stem], "nothing for those who read Chinese"
    assert all(group["title"] for group in canvas["groups"])


CANVASES = [*WORKFLOWS, *sorted((ROOT / "subgraphs").glob("*.json"))]


@pytest.mark.parametrize("file", CANVASES, ids=name_of)
def test_every_node_says_where_it_comes_from(file: Path) -> None:
    """Which pack and version, for those who open it without us, and where the weights are."""
    canvas = json.loads(file.read_text("utf-8"))
    boxes = canvas.get("definitions", {}).get("subgraphs", [])
    nodes = [node for level in (canvas, *boxes) for node in level["nodes"]]
    ours = [node for node in nodes if node["type"].startswith("BLIP3U_")]
    assert ours
    for node in ours:
        assert node["properties"].get("cnr_id") == "blip3-u", node["type"]
        assert node["properties"].get("ver") == VERSION, node["type"]
        if node["type"] == "BLIP3U_LoadModel":
            assert {"name", "url", "directory"} == set(node["properties"]["models"][0])


def test_every_node_is_saved_as_it_is_today() -> None:
    """So that what people save now is opened by tests/browser/test_saved.py for ever."""
    files = (ROOT / "tests" / "browser").glob("saved_by_*.json")
    saved = {node["type"] for file in files for node in json.loads(file.read_text())["nodes"]}
    ours = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text("utf-8"))
    assert set(ours) <= saved, "save them: python -m harness.make_saved in tests/"


@pytest.mark.parametrize("file", WORKFLOWS, ids=name_of)
def test_templates_draw_fast_and_say_how_to_draw_exactly(file: Path) -> None:
    api = json.loads((file.parent / "api" / file.name).read_text("utf-8"))
    canvas = json.loads(file.read_text("utf-8"))
    (note,) = [node for node in canvas["nodes"] if node["type"] == "MarkdownNote"]
    decoders = [n["inputs"] for n in api.values() if n["class_type"] == "BLIP3U_Decode"]
    ways = {(n["sampler_name"], n["scheduler"], n["steps"]) for n in decoders}
    assert ways <= {("euler", "karras", 14)}
    exact = "*scheduler* checkpoint, *steps* 50" in note["widgets_values"][0]
    assert exact == bool(decoders)


def test_every_api_graph_has_its_canvas() -> None:
    names = {file.name for file in (ROOT / "workflows" / "api").glob("*.json")}
    assert names == {file.name for file in WORKFLOWS}


def test_ruff_finds_nothing() -> None:
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
