"""Which replier the settings mean; the other one is not imported."""

from __future__ import annotations

from cfmessenger.bots.replier import Replier


def replier_for(base_url: str | None, model: str | None, key: str | None) -> Replier:
    """A model's, or the scripts, which need none."""
    if base_url is None or model is None:
        from cfmessenger.bots.scripted import Scripted

        return Scripted()
    from cfmessenger.bots.remote import Model, Remote

    return Remote(Model(base_url, model, key))
