"""svllreid demo"""


def demo() -> None:
    """Render people, train both stages of the tiny model on the CPU, test, and show what was learned."""
