"""What the trainer trains: methods as four pure functions."""
