"""docs/objectives/ is what its script writes, and every objective says what it was tested against."""

import re
import runpy
from pathlib import Path

from ssl_zoo.compose.catalogue import cards

REPOSITORY = Path(__file__).parents[1]
SCRIPT = REPOSITORY / "docs/objectives.py"


def test_the_pages_are_what_the_script_writes():
    written = {file.name: file.read_text() for file in SCRIPT.with_suffix("").iterdir()}
    assert written == runpy.run_path(str(SCRIPT))["pages"](), "run python docs/objectives.py"


def test_every_objective_has_a_reference_and_says_when_to_take_it():
    compared = runpy.run_path(str(SCRIPT))["compared"]()
    for card in cards():
        if card.file is None or card.family == "composition":
            continue
        assert compared.get(card.file.stem, {}).get("Reference"), f"{card.name}: a test says 'Reference: ...'"
        assert {"When", "Watch"} <= set(card.choices[0].notes), card.name
        assert card.lines < 110, card.name
        assert re.search(r"\d{4}", card.choices[0].headline) or card.family == "reference", card.name
