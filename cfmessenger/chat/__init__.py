"""The rooms and the registry as pure state machines: inputs in, effects out."""
