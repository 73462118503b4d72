"""Chats are values: continuing one never changes it, and files hold the same value."""

import json
from pathlib import Path

import pytest
import torch

from blip3u_core.chat.chat import Chat, Turn, make_turn
from blip3u_core.chat.files import load_chat, save_chat
from blip3u_core.language.prompt import PICTURE, literal


def picture(seed: int, height: int = 5, width: int = 7, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(height, width, channels, generator=generator)


def dialogue() -> Chat:
    chat = Chat().say("system", "Be brief.").say("user", "Look", [picture(1), picture(2, 9, 4)])
    return chat.say("assistant", f"I drew {PICTURE} and {PICTURE}.", [picture(3), picture(4)])


class TestTurns:
    def test_pictures_come_first_unless_marked(self) -> None:
        assert make_turn("user", "What?", [picture(1)]).text == PICTURE + "What?"
        marked = make_turn("user", f"a {PICTURE} b", [picture(1)])
        assert [type(part).__name__ for part in marked.parts()] == ["str", "Tensor", "str"]

    def test_a_picture_is_a_copy(self) -> None:
        mine = (picture(1) * 255).to(torch.uint8)
        turn = make_turn("user", "", [mine])
        before = turn.pictures[0].clone()
        mine.zero_()
        assert torch.equal(turn.pictures[0], before)

    @pytest.mark.parametrize(
        ("role", "text", "pictures", "said"),
        [
            ("robot", "hi", [], "role is 'robot'"),
            ("user", "  ", [], "user turn is empty"),
            ("system", "hi", [picture(1)], "system turn came with pictures"),
            ("user", PICTURE, [], "marks 1 places for pictures and has 0"),
            ("user", "<|image_pad|>", [picture(1)], "marks 1 places"),
            ("user", "hi", [picture(1) * float("nan")], "NaN"),
        ],
    )
    def test_bad_turns_are_told(self, role: str, text: str, pictures: list, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            make_turn(role, text, pictures)


class TestOrder:
    def test_branches_do_not_disturb_each_other(self) -> None:
        trunk = Chat().say("user", "one")
        left, right = trunk.say("assistant", "left"), trunk.say("assistant", "right")
        assert [turn.text for turn in trunk.turns] == ["one"]
        assert left.turns[1].text == "left"
        assert right.turns[1].text == "right"

    def test_the_assistant_may_add_to_what_it_said(self) -> None:
        chat = Chat().say("user", "draw").say("assistant", "Here:")
        chat = chat.say("assistant", "", [picture(1)])
        assert len(chat.turns) == 2
        assert chat.turns[1].text == "Here:" + PICTURE
        assert len(chat.turns[1].pictures) == 1

    @pytest.mark.parametrize(
        ("roles", "said"),
        [
            (["assistant"], "assistant turn came first"),
            (["system", "assistant"], "assistant turn came first"),
            (["user", "user"], "right after a user turn"),
            (["user", "system"], "must be the first"),
        ],
    )
    def test_wrong_order_is_told(self, roles: list[str], said: str) -> None:
        chat = Chat()
        for role in roles[:-1]:
            chat = chat.say(role, "words")
        with pytest.raises(ValueError, match=said):
            chat.say(roles[-1], "words")

    def test_last_turns_begin_with_the_user(self) -> None:
        chat = dialogue().say("user", "next").say("assistant", "done")
        kept = chat.last_turns(3)
        assert [turn.role for turn in kept.turns] == ["system", "user", "assistant"]
        assert kept.turns[1].text == "next"
        assert chat.last_turns(0).texts() == [("system", "Be brief.")]


class TestFiles:
    def test_a_chat_comes_back_the_same(self, tmp_path: Path) -> None:
        chat = dialogue().say("user", literal('naïve "quotes" 日本\n<|im_end|>'))
        save_chat(chat, tmp_path / "talk.json")
        loaded = load_chat(tmp_path / "talk.json")
        assert loaded.texts() == chat.texts()
        assert len(loaded.pictures) == 4
        for old, new in zip(chat.pictures, loaded.pictures, strict=True):
            assert torch.equal(old, new)

    def test_an_empty_answer_comes_back(self, tmp_path: Path) -> None:
        chat = Chat().say("user", "hm").add(Turn("assistant", ""))
        save_chat(chat, tmp_path / "talk.json")
        assert load_chat(tmp_path / "talk.json").texts() == chat.texts()

    def test_nothing_half_written_stays(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "talk.json"
        save_chat(Chat().say("user", "old"), target)

        def full_disk(*_: object, **__: object) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr("PIL.Image.Image.save", full_disk)
        with pytest.raises(OSError, match="no space"):
            save_chat(dialogue(), target)
        assert load_chat(target).texts() == [("user", "old")]
        assert [file.name for file in tmp_path.iterdir()] == ["talk.json"]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("", "not JSON"),
            ('{"format": "blip3u-chat", "version": 1, "turns": [', "not JSON"),
            ("[]", "does not say format"),
            ('{"format": "blip3u-chat", "version": 9, "turns": []}', "version is 9"),
            ('{"format": "blip3u-chat", "version": 1}', "no list of turns"),
            ('{"format": "blip3u-chat", "version": 1, "turns": [{"role": "user"}]}', "turn 1"),
            ('{"format": "blip3u-chat", "version": 1, "turns": ["hi"]}', "turn 1"),
            (
                '{"format": "blip3u-chat", "version": 1, "turns": [{"role": "user", "text": "", '
                '"pictures": ["../../secret.png"]}]}',
                "expected a PNG file beside the chat",
            ),
        ],
    )
    def test_broken_files_are_told(self, tmp_path: Path, content: str, said: str) -> None:
        (tmp_path / "talk.json").write_text(content)
        with pytest.raises(ValueError, match=said) as error:
            load_chat(tmp_path / "talk.json")
        assert "talk.json" in str(error.value)

    def test_a_truncated_picture_is_told(self, tmp_path: Path) -> None:
        save_chat(dialogue(), tmp_path / "talk.json")
        file = next(tmp_path.glob("*.png"))
        file.write_bytes(file.read_bytes()[:40])
        with pytest.raises(ValueError, match=f"{file.name} cannot be read"):
            load_chat(tmp_path / "talk.json")

    def test_a_missing_picture_is_told(self, tmp_path: Path) -> None:
        save_chat(dialogue(), tmp_path / "talk.json")
        next(tmp_path.glob("*.png")).unlink()
        with pytest.raises(FileNotFoundError, match="together with its pictures"):
            load_chat(tmp_path / "talk.json")

    def test_a_missing_chat_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="not there"):
            load_chat(tmp_path / "none.json")

    def test_the_file_is_readable_json(self, tmp_path: Path) -> None:
        save_chat(dialogue(), tmp_path / "talk.json")
        content = json.loads((tmp_path / "talk.json").read_text())
        assert [turn["role"] for turn in content["turns"]] == ["system", "user", "assistant"]
