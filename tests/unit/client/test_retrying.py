from __future__ import annotations

import pytest

from corral.client.retrying import Patience
from corral.errors import (
    CorralError,
    DeadlineError,
    HubUnavailableError,
    InvalidRequestError,
    UnavailableError,
)


def test_pauses_grow_and_the_last_error_is_raised_once_patience_is_over() -> None:
    now = [0.0]
    patience = Patience(10, lambda: now[0])
    for pause in (0.2, 0.4, 0.8, 1.6, 3.2):
        assert patience.pause_after(UnavailableError("away")) == pause
        now[0] += pause

    with pytest.raises(UnavailableError):
        patience.pause_after(UnavailableError("away"))


def test_after_a_success_patience_starts_anew() -> None:
    now = [0.0]
    patience = Patience(1, lambda: now[0])
    patience.pause_after(DeadlineError("late"))
    now[0] = 5.0
    patience.renew()

    assert patience.pause_after(DeadlineError("late")) == 0.2
    assert patience.losses == 1


@pytest.mark.parametrize("error", [InvalidRequestError("no"), HubUnavailableError("no hub")])
def test_what_another_try_would_not_help_is_raised_at_once(error: CorralError) -> None:
    with pytest.raises(type(error)):
        Patience().pause_after(error)
