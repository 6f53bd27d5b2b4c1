"""What make and CI run; a package so that tests can import the generators."""
