"""A text file beside every picture of a folder; after a Cancel the next run goes on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from ..atomic_files import remove_leftovers, write_atomically
from ..language.generate import OnToken
from ..language.prompt import literal
from ..seeds import item_seed
from .chat import Chat
from .dialogue import ChatModel, chat_context
from .picture_folder import (
    FORMATS,
    caption_of,
    find_unfit,
    pictures_of,
    read_picture,
    sidecar,
)

KEEP = "keep"
REPLACE = "replace"
AT_ONCE = 8  # pictures answered together; so many are asked again after a Cancel
SHOWN = 5  # reasons in an error; all are in the report


@dataclass
class Captions:
    """What became of a folder: nothing in it is left out without a word."""

    texts: dict[str, str] = field(default_factory=dict)  # by file name, new and old
    passed_over: dict[str, str] = field(default_factory=dict)  # file name -> why
    cut_off: list[str] = field(default_factory=list)  # ended by max_new_tokens

    def report(self) -> list[str]:
        """One line for each file that is not as it should be; empty if all went well."""
        lines = [f"{_shown(name)} passed over: {why}." for name, why in self.passed_over.items()]
        return lines + [
            f"{name}: cut off, max_new_tokens ended the text. Raise it and ask again (replace)."
            for name in self.cut_off
        ]


def caption_folder(
    chat_model: ChatModel, folder: Path, question: str, existing: str = KEEP
) -> Captions:
    """Ask about every picture of a folder, each by itself, and write the answers beside them.

    Args:
        chat_model: picture i of the folder, sorted by name, is answered with the seed + i, whatever
            lies there already; its `on_token` counts over all that are to be asked.
        existing: "keep" leaves pictures that have a text already, also one that cannot be read;
            an empty text file counts as none. "replace" writes over it.

    Returns: the texts, and what was passed over: one bad file takes nothing from the others.
    Raises: ValueError for another `existing`, an empty question, and a folder without any picture
        that can be captioned. What was written before an error or Cancel stays, and is kept by
        the next run.
    """
    if existing not in (KEEP, REPLACE):
        raise ValueError(f"existing is {existing!r}, expected {KEEP!r} or {REPLACE!r}. Choose one.")
    if not question.strip():
        raise ValueError("the question is empty, expected what to ask about each picture.")
    question = literal(question)
    remove_leftovers(folder)
    files = pictures_of(folder)
    captions = Captions(passed_over=find_unfit(folder, files))
    missing = [
        index
        for index, file in enumerate(files)
        if file.name not in captions.passed_over
        and (existing == REPLACE or _has_no_text(file, captions))
    ]
    progress = _Progress(chat_model, len(missing))
    for part in _readable_runs(chat_model, files, missing, question, captions):
        _caption(chat_model, files, part, question, captions, progress)
        progress.pictures_done = missing.index(part[-1][0]) + 1
    if not captions.texts:
        raise ValueError(_nothing_captioned(folder, captions))
    captions.texts = {
        file.name: captions.texts[file.name] for file in files if file.name in captions.texts
    }
    return captions


def _has_no_text(file: Path, captions: Captions) -> bool:
    """Whether it is to be asked about; notes the text that it has, or that nobody can read."""
    try:
        text = caption_of(file)
    except ValueError as error:
        captions.passed_over[file.name] = str(error)
        return False
    if text:
        captions.texts[file.name] = text
    return not text


def _readable_runs(
    chat_model: ChatModel,
    files: Sequence[Path],
    missing: Sequence[int],
    question: str,
    captions: Captions,
) -> Iterator[list[tuple[int, Tensor]]]:
    """Numbers and pictures to be asked about together: without gaps, AT_ONCE at most.

    A picture that cannot be read, or that the language model cannot take, is passed over.
    """
    run: list[tuple[int, Tensor]] = []
    for index in missing:
        if run and (len(run) == AT_ONCE or index != run[-1][0] + 1):
            yield run
            run = []
        try:
            picture = read_picture(files[index])
            chat_context(chat_model.llm, Chat().say("user", question, [picture]))
        except ValueError as error:
            captions.passed_over[files[index].name] = str(error).rstrip(".")
        else:
            run.append((index, picture))
    if run:
        yield run


def _caption(
    chat_model: ChatModel,
    files: Sequence[Path],
    part: list[tuple[int, Tensor]],
    question: str,
    captions: Captions,
    progress: "_Progress",
) -> None:
    names = [files[index].name for index, _ in part]
    asking = replace(
        chat_model,
        sampling=replace(chat_model.sampling, seed=item_seed(chat_model.sampling.seed, part[0][0])),
        on_token=progress.on_token(len(part)),
        on_cut_off=lambda answer: captions.cut_off.append(names[answer]),
    )
    chats = [Chat().say("user", question, [picture]) for _, picture in part]
    answers = asking.answer(chats, in_words=True)
    for (index, _), (text, _) in zip(part, answers, strict=True):
        _write(sidecar(files[index]), text)
        captions.texts[files[index].name] = text.strip()


def _write(file: Path, text: str) -> None:
    try:
        write_atomically(file, lambda stream: stream.write(f"{text}\n".encode()))
    except OSError as error:
        raise ValueError(
            f"{file} cannot be written ({error.strerror}), expected a folder with room that this "
            "user may write to. Mend that and run again: the texts written so far are kept."
        ) from error


def _nothing_captioned(folder: Path, captions: Captions) -> str:
    said = f"{folder} holds no pictures that can be captioned, expected {', '.join(FORMATS)} files."
    if not captions.passed_over:
        return f"{said} Put some there, or name another folder."
    reasons = captions.report()
    more = f" And {len(reasons) - SHOWN} more." if len(reasons) > SHOWN else ""
    return " ".join([said, *reasons[:SHOWN]]) + more


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


@dataclass
class _Progress:
    """Counts tokens over all pictures, so that one bar shows the whole folder."""

    chat_model: ChatModel
    num_pictures: int
    pictures_done: int = 0

    def on_token(self, at_once: int) -> OnToken | None:
        """An `on_token` for the next `at_once` pictures."""
        shown = self.chat_model.on_token
        if shown is None:
            return None
        share = self.chat_model.sampling.max_new_tokens
        before, total = self.pictures_done * share, self.num_pictures * share

        def show(text: str, done: int, of: int) -> None:
            shown(text, before + at_once * share * done // of, total)

        return show
