"""One script per question that a user asks; each has --help."""
