"""The help pages: one a node and language, complete, and alike in all languages.

The host's frontend asks for docs/<node>/<locale>.md, then for docs/<node>.md, and resolves pictures
of both against docs/.
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "web" / "docs"
WORDS = {
    language: json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    for language in ("en", "zh")
}
NODES = sorted(WORDS["en"])
CHINESE = re.compile("[一-鿿]")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]*)\)")
NAMES = re.compile(r"^- \*\*(.+?)\*\*", re.MULTILINE)  # what begins an item: inputs and outputs
FIGURE = re.compile(r"(?<![\w.])\d+(?:[./]\d+)*")


def page(node: str, language: str) -> str:
    folder = "" if language == "en" else f"/{language}"
    return (DOCS / f"{node}{folder}.md").read_text("utf-8")


def outline(text: str) -> list[str]:
    """The kinds of blocks in order: headings, items, rows of tables, indented commands."""
    return re.findall(r"^(?:#+ |- |\||    )", text, re.MULTILINE)


def code(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text)) | set(
        re.findall(r"^    (.*)$", text, re.MULTILINE)
    )


def test_pages_and_nodes_are_one_to_one() -> None:
    files = {file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md")}
    assert files == {f"{node}{end}" for node in NODES for end in (".md", "/zh.md")}


@pytest.mark.parametrize("node", NODES)
def test_the_chinese_page_says_what_the_english_one_says(node: str) -> None:
    english, chinese = page(node, "en"), page(node, "zh")
    assert outline(chinese) == outline(english)
    assert set(FIGURE.findall(english)) <= set(FIGURE.findall(chinese))
    assert code(english) <= code(chinese)
    named = {
        word for head in NAMES.findall(english) for word in re.findall(r"(?<!\w)[a-z]\w+", head)
    }
    missing = [word for word in named if not re.search(rf"\b{word}\b", chinese, re.ASCII)]
    assert not missing


@pytest.mark.parametrize("node", NODES)
def test_the_chinese_page_uses_the_words_on_the_node(node: str) -> None:
    words, text = WORDS["zh"][node], page(node, "zh")
    assert text.startswith(f"# {words['display_name']}\n")
    for part in (*words["inputs"].values(), *words.get("outputs", {}).values()):
        assert part["name"] in text, part["name"]
    prose = re.sub(r"`[^`]*`|\*[^*]*\*|https?:\S+", "", text)
    paragraphs = [part for part in re.split(r"\n\s*\n", prose) if re.search(r"[a-z]{3}", part)]
    english = [p for p in paragraphs if not CHINESE.search(p) and not p.startswith("    ")]
    assert not english, "left untranslated"


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("node", NODES)
def test_links_resolve(node: str, language: str) -> None:
    text = page(node, language)
    pictures = PICTURE.findall(text)
    assert [target for _, target in pictures] == [f"assets/{node}.png"]
    assert (DOCS / pictures[0][1]).is_file()
    assert pictures[0][0] == WORDS[language][node]["display_name"]
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)]*)\)", text)
    assert all(link.startswith("https://") for link in links), "the host resolves no other link"


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("node", NODES)
def test_nothing_is_left_unsaid(node: str, language: str) -> None:
    for line in page(node, language).splitlines():
        assert not re.fullmatch(r"- \*\*.*[:\uff1a]\s*", line), f"no word about {line}"


def test_menus_and_sockets_have_chinese_names() -> None:
    words = json.loads((ROOT / "locales" / "zh" / "main.json").read_text("utf-8"))
    code = "".join(file.read_text("utf-8") for file in (ROOT / "nodes").glob("*.py"))
    menus = set(re.findall(r'"BLIP3-U/(\w+)"', code)) - {"loaders"}  # the host's own word
    assert menus
    assert menus <= set(words["nodeCategories"])
    assert set(re.findall(r'"(BLIP3U_(?:LLM|CHAT))"', code)) == set(words["dataTypes"])
