"""What of the environment reaches the Ray that `up` runs, and who connects to it."""

from cfmessenger.cli.local_ray import without_ray


def test_what_was_set_for_another_cluster_does_not_reach_ours() -> None:
    env = {
        "PATH": "/bin",
        "CFM_PORT": "1",
        "ARRAY_SIZE": "1",
        "RAY_ADDRESS": "ray.example:6379",
        "RAY_AUTH_TOKEN": "another",
        "RAY_AUTH_TOKEN_PATH": "/another",
        "RAY_AUTH_MODE": "disabled",
        "RAY_TMPDIR": "/elsewhere",
        "RAY_whatever_else": "1",
    }
    assert without_ray(env) == {"PATH": "/bin", "CFM_PORT": "1", "ARRAY_SIZE": "1"}
