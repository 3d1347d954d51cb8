"""Every case of the table, by name: a function that makes the `Case`."""

from cases import views

CASES = {**views.CASES}
