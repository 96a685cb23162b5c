"""Fixtures of several files."""

import os
from typing import Any

import pytest

from app.settings import Settings
from app.startup import check_exposure, load_settings
from tests.deploy.charts import environment, render


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the service reads in a pod of these values, as a function."""

    def read(values: Any) -> Settings:
        for name in [name for name in os.environ if name.startswith("JOBCAST_")]:
            monkeypatch.delenv(name)
        for name, value in environment(render(values)).items():
            monkeypatch.setenv(name, value)
        settings = load_settings()
        check_exposure(settings)
        return settings

    return read
