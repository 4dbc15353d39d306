"""The command line: absl flags, and nothing below it reads one."""
