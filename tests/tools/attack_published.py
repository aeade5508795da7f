"""Attacks published tables of random catalogs over many nights, and counts what is found out; nothing should be.

python tests/tools/attack_published.py [catalogs] [nights] [--no-freeze]
"""

import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "publishing")]

from attacker import Attacker  # noqa: E402
from worlds import K, World  # noqa: E402

from faceattr_udf.publishing.suppress import few_people  # noqa: E402
from faceattr_udf.publishing.table import ALL, table_of  # noqa: E402


def main(count: int, nights: int, *, freeze: bool) -> int:
    worlds = published = cells = hidden = few = recovered = won = 0
    for seed in range(count):
        world = World.random(seed)
        versions = world.nights(nights, freeze=freeze)
        found = Attacker(world.labels, world.weights, K).attack(versions)
        worlds += 1
        published += bool(versions)
        won += bool(found)
        recovered += len(found)
        if versions:
            rows = [row for row in versions[0] if row.attribute != ALL]
            cells += len(rows)
            hidden += sum(row.n_people is None for row in rows)
            first = World.random(seed)
            tables = [table_of(one, first.labels[name], K) for name, one in first.counts().items()]
            few += sum(int(few_people(table, K).sum()) for table in tables if table is not None)
    print(f"{worlds} random catalogs, {published} published, {nights} nights, k = {K}, periods frozen: {freeze}")
    print(f"cells {cells}, suppressed {hidden}, of them with few people {few}")
    print(f"catalogs in which an attack won {won}, cells found out {recovered}")
    return int(won > 0)


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:] if text.isdigit()]
    sys.exit(main(*(numbers or [500, 30]), freeze="--no-freeze" not in sys.argv))
