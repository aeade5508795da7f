"""Attacks published tables of random catalogs over many nights, and counts what is found out; nothing should be.

python tests/tools/attack_published.py [--worlds 500] [--nights 30] [--people 20000] [--no-freeze]
"""

import argparse
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "publishing")]

from attacker import Attacker  # noqa: E402
from worlds import K, World  # noqa: E402

from faceattr_udf.publishing.suppress import few_people  # noqa: E402
from faceattr_udf.publishing.table import ALL, table_of  # noqa: E402


def main(count: int, nights: int, people: int | None, *, freeze: bool) -> int:
    published = cells = hidden = few = recovered = won = told = everybody = 0
    for seed in range(count):
        world = World.random(seed, people)
        before = world.counts()
        versions = world.nights(nights, freeze=freeze)
        found = Attacker(world.labels, world.weights, K).attack(versions)
        published += bool(versions)
        won += bool(found)
        recovered += len(found)
        if versions:
            rows = [row for row in versions[0] if row.attribute != ALL]
            cells += len(rows)
            hidden += sum(row.n_people is None for row in rows)
            single = [row for row in rows if row.catalog != ALL or len({row.catalog for row in rows}) == 1]
            told += sum(row.n_people or 0 for row in single)
            tables = [table_of(one, world.labels[name], K) for name, one in before.items()]
            few += sum(int(few_people(table, K).sum()) for table in tables if table is not None)
            everybody += sum(sum(labels.values()) for one in before.values() for labels in one.values())
    print(f"{count} random worlds, {published} with enough people, {nights} nights, k = {K}, periods frozen: {freeze}")
    print(f"{cells} cells: {few} with few people, {hidden - few} suppressed with them")
    print(f"{told / everybody:.1%} of the people are in published cells of their catalog")
    print(f"worlds in which an attack won: {won}; cells found out: {recovered}")
    return int(won > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=500)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--people", type=int, help="the most people of a world; as a rule 60, 400 or 2,000")
    parser.add_argument("--no-freeze", action="store_true", help="publish each night anew, without this protection")
    given = parser.parse_args()
    sys.exit(main(given.worlds, given.nights, given.people, freeze=not given.no_freeze))
