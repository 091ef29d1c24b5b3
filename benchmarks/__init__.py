"""Side-by-side measurements with other implementations; their results fill the documents."""

import tutorial_kit  # noqa: F401 - before torch: how its threads wait
