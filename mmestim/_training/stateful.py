"""Base of the objects whose state a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class Stateful:
    """Objects whose state are the attributes that `state_attributes` names, as far as they are there.

    `state_dict` may hold objects that have one themselves; `load_state_dict` is called once these are restored.
    """

    state_attributes: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """What changes in training."""
        return {name: getattr(self, name) for name in self.state_attributes if hasattr(self, name)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        vars(self).update(state)
