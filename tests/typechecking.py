"""What checks shapes and types of the package while the tests run."""

from typing import Any, Self

from beartype import BeartypeConf, BeartypeHintOverrides, beartype

typechecker = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int will do for a float, as it does for pyright
        # What decorates methods one by one does not know Self.
        hint_overrides=BeartypeHintOverrides({Self: Any}),  # pyright: ignore[reportCallIssue]
    )
)
