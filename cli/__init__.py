"""The `troth` command: what a person types. It has no rules of its own.

Read in this order: `main` (the group, the options that every command takes, how errors are shown), `session` (what a
command gets: home, configuration, output), then `commands/`, one module per command.
"""
