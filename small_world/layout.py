"""Where an object stands of which no place is said: the habits of the world.

The first object stands in the centre, the second to its right, the third to its left; the second
of a relation stands one step from the first. The place depends only on the words so far, so that
all nine queries, which never speak with one another before the DiT, agree on it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from small_world.world import Object

Cell = tuple[int, int]
USUAL: tuple[Cell, ...] = ((1, 1), (1, 2), (1, 0))
USUAL_LINE = (1, 2, 0)  # of rows when only the column is said, and the other way round
BESIDE_CENTER = {"left of": (1, 2), "right of": (1, 0), "above": (2, 1), "below": (0, 1)}


def usual_cells(row: int | None, col: int | None) -> Iterator[Cell]:
    """Cells that fit what is said of the place, the most usual first."""
    if row is None and col is None:
        yield from USUAL
    for a in USUAL_LINE if row is None else (row,):
        for b in USUAL_LINE if col is None else (col,):
            yield a, b


def settled(
    things: Sequence[Object],
    said: Sequence[tuple[int | None, int | None]],
    relation: str | None = None,
) -> list[Object]:
    """The objects, in the order of their mention, each where it is said to be or usually is.

    Args:
        things: one to three objects in the order of their mention.
        said: (row, col) of each, None for what is not said.
        relation: of the first object towards the second, when it is said.
    """
    taken = {place for place in said if None not in place}
    result = []
    for number, (thing, place) in enumerate(zip(things, said, strict=True)):
        if None in place:
            usual = usual_cells(*place)
            if relation and number == 1:
                usual = iter((BESIDE_CENTER[relation],))
            place = next(cell for cell in usual if cell not in taken)
            taken.add(place)
        result.append(replace(thing, row=place[0], col=place[1]))
    return result
