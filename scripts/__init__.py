"""Scripts that make and CI run. A package, so that tests can import the generators."""
