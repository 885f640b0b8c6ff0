"""The tests; `CONTRIBUTING.md` says where a new one goes."""

import pytest

# Helpers assert too, and pytest says of their assertions what it says of those in tests.
pytest.register_assert_rewrite("tests.support")
