"""A module that cannot be imported: what a distribution with a fault looks like."""

import a_module_that_nobody_has  # noqa: F401
