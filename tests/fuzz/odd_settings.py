"""Keys and values of configurations, good and odd, as words and as trees."""

from svllreid.config import known_keys

KEYS = [name for name, _ in known_keys()]
SECTIONS = sorted({name.rpartition(".")[0] for name in KEYS} - {""})
WORDS = [
    "", "~", "null", "true", "off", "yes", "0", "1", "-1", "007", "1e-6", "1e400", "-.inf", ".nan", "0x1F", "0b11",
    "1_000", "12:30:45", "2024-01-05", "[]", "{}", "[1, 2]", "[32, 16]", "(1, 2)", "('a')", "(", "[", "{", "]", "- a",
    "a: b", "#", "a #b", "'", '"', '"\\x00"', '"\\ud800"', "'a", "&a b", "*a", "!!python/object/apply:os.system [ls]",
    "!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]", "!!float x", "!!int 1.5", "!!bool x", "!!timestamp x", "!x y",
    "<<", "%", "@", "`", "|", ">", "? a", "---", "...", "--- a\n--- b", "\t", "ä", "人", "\u202e", "\ufeff", "\x85",
    "a\u2028b", "Gr\udcf6", "\ud800", "[', a]", "None", "market1501", "[market1501, veri]", "folder:/data/mine",
    "ViT-B-16", "tiny", "on", "SIMCLR", "100000", "1000000000", "[100000, 100000]", "1" * 400, "9" * 5000,
    "a" * 70000, "../../etc/passwd", "~/x", "\\", "${HOME}", "{{x}}", "=", "=1", "32", "16-mixed", "tf32",
    "[[1], [2]]", "[1, a]", "[.nan, 1, 1]", "[1e999, 1]", "{a: {b: {c: d}}}", "1e-06", "+1", ".5", "5.", "1,5",
]  # fmt: skip


def odd_value(draw, depth=0):
    """A YAML value in flow style: a word, a list or a mapping of such."""
    kind = draw.random()
    if depth > 3 or kind < 0.7:
        return draw.choice(WORDS)
    items = [odd_value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind < 0.85:
        return f"[{', '.join(items)}]"
    return "{" + ", ".join(f"{odd_key(draw)}: {item}" for item in items) + "}"


def odd_key(draw):
    """The name of a key or section, or one that is near it or nothing like it."""
    name = draw.choice([*KEYS, *SECTIONS]).rpartition(".")[2]
    kind = draw.random()
    if kind < 0.7:
        return name
    if kind < 0.8:
        return name.lower()
    if kind < 0.9:
        place = draw.randrange(len(name))
        return name[:place] + draw.choice("AX_.:?") + name[place + 1 :]
    return draw.choice(WORDS)
