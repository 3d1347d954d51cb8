"""Every case of the table. A module is imported when its case is asked for: sides start sooner, and
nothing lies in their memory that they do not use."""

from importlib import import_module

from duel import Case

MODULES = {
    "views_32": "views",
    "views_96": "views",
    "views_224": "views",
    "simclr": "images",
    "dino": "joint",
    "byol": "joint",
    "vicreg": "joint",
    "mae": "masked",
    "simmim": "masked",
    "ijepa": "masked",
    "minutes_to_knn": "minutes",
    "masked_lm": "text",
    "next_token": "text",
    "trainer_images": "trainer",
    "trainer_text": "trainer",
    "probe": "probe",
    "memory_head": "memory",
    "memory_resident": "memory",
}


def make(name: str) -> Case:
    return import_module(f"cases.{MODULES[name]}").CASES[name]()
