"""Parts that a checkpoint lacks: they lie on a socket and stop only the node that uses them."""

from typing import Any


class MissingPart:
    """Stands on a socket whose stage is missing or broken.

    Host: caches look at what sockets carry, and an error other than AttributeError ends the thread
    that runs prompts, for good (seen in 0.33.0). So looking raises nothing else; a stock node that
    calls the part shows our words as an AttributeError, our own nodes ask `present` first.
    """

    def __init__(self, error: FileNotFoundError | ValueError) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(str(self.__dict__.get("error")))


def present(part: Any) -> Any:
    """The part itself. Raises FileNotFoundError or ValueError that says why it is not there."""
    if isinstance(part, MissingPart):
        raise type(part.error)(str(part.error))
    return part
