"""Every case of the table, by name: a function that makes the `Case`."""

from cases import images, memory, probe, text, trainer, views

CASES = {
    **views.CASES,
    **images.CASES,
    **text.CASES,
    **trainer.CASES,
    **probe.CASES,
    **memory.CASES,
}
