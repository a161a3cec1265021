"""Numbers from reference implementations, and the recipes that rebuild their inputs."""
